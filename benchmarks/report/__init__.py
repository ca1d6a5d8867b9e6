"""Several runs in tables, charts and a web page."""
