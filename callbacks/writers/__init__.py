"""What writes the results of `predict`."""
