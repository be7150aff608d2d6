"""Cards of packages that the engine runs and that make no map; found by file name, see `geoml.io.cards.kinds`."""
