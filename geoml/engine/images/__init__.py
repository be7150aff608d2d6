"""Runs over files that somebody has, in the place of a catalog."""
