"""STAC: catalogs, searches, items and tables of items."""
