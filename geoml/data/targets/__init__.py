"""Kinds of labels, one file each; the recipe of a task chooses one. See `geoml.data.target`."""
