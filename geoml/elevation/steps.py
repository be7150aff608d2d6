"""The steps of this wing as plain functions."""
