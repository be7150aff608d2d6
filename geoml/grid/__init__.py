"""Pure geometry on one fixed pixel plane per CRS and resolution: windows, blocks, chips, regions."""
