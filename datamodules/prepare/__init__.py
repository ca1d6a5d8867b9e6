"""Public formats to shards, one file a source."""
