"""The reference model's scores: adapters off, frozen copy, cached."""
