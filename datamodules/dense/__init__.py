"""Rows, labels, segments, noise draws and batches of DenseDPO."""
