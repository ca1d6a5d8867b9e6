"""Tar shards as bytes: reader, index, checks, writer."""
