"""Questions in, published score out."""
