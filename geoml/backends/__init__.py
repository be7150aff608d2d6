"""Backends run networks, one file each; `geoml.engine.contract.Backend` defines what the classes of a file do."""
