"""Forecasts of stations and polygons: a table in, a row for each place and lead out."""
