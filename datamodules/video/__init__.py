"""Pixels: decoding, encoding, optical flow, hashes."""
