"""Forecasts of what is measured step by step, on grids and at stations or polygons: never behind the simple methods."""
