"""Forecasts of what is measured step by step, on grids and at stations or polygons, compared with simple methods."""
