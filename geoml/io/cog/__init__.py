"""Rasters: reading, placing, warping and writing."""
