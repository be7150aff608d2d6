"""Names of vector files: their formats, and ``FILE:LAYER``."""

from __future__ import annotations

from pathlib import Path

PARQUET = (".parquet", ".geoparquet")
STARTS = {".gpkg": b"SQLite format 3\0", ".fgb": b"fgb\x03", ".shp": b"\0\0\x27\x0a", ".zip": b"PK\x03\x04"}
"""First bytes of a format."""
SUFFIXES = (".geojson", ".json", *STARTS, ".kml", *PARQUET)


def file_and_layer(text: str) -> tuple[str, str | None]:
    """``FILE:LAYER`` as both; a path that is there, a URL's port and a drive letter have no layer."""
    before, colon, layer = text.rpartition(":")
    if colon and layer and "/" not in layer and not Path(text).exists() and Path(before).suffix.lower() in SUFFIXES:
        return before, layer
    return text, None
