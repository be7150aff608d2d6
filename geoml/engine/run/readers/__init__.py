"""Outputs of a finished run for other programs, in addition to COGs, GeoParquet and STAC."""
