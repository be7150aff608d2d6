"""Cubes: bands of many items on one grid, lazily loaded, masked and composited into a mosaic."""
