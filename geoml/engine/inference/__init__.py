"""A model over blocks."""
