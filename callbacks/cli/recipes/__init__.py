"""Recipes: named stages, each a command of its own, in order or side by side; what is done is passed over."""
