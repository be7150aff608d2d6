"""Formats of boxes, one file each, named as in ``source.format``; see `geoml.data.annotation`."""
