"""Densities on the sphere."""
