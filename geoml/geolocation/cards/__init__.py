"""Cards of the wing, found by their file names; see `geoml.io.cards.kinds`."""
