"""Runs over image files instead of a catalog."""
