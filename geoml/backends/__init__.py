"""Backends: what runs a network, one file each; `geoml.engine.contract.Backend` says what a file's classes do."""
