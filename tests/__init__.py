"""Tests, in folders that mirror the tree; what several use lies in `support`."""
