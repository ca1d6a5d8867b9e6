"""Rows, views, negatives and batches of VistaDPO."""
