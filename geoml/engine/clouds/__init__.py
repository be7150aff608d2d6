"""Masks of clouds for items whose catalog has none: a run over each item, and a catalog of all with their masks."""
