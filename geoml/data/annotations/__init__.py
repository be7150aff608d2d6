"""Formats of boxes, a file each, whose name is what ``source.format`` says; see `geoml.data.annotation`."""
