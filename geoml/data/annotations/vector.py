"""GeoJSON, GeoPackage or GeoParquet of boxes, outlines, or points with a radius; of one image or of many."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from geoml.data.annotation import Annotation, Record, too_large, too_many
from geoml.errors import DataError
from geoml.io.tables import vectors
from geoml.texts import text_of

COORDINATES = ("crs", "pixels")
CORNERS = False


def read(path: Path, source: Any, problems: list[str]) -> list[Record]:
    """All features with a geometry, whatever CRS the file says where they are pixels.

    Raises DataError for a file that cannot be read, has no CRS where one is needed, or not the field of the class.
    """
    if too_large(path, problems):
        return []
    frame = vectors.read(path)
    if source.coordinates == "crs" and frame.crs is None:
        raise DataError(f"{path}: has no CRS; or are its coordinates pixels?")
    if len(frame) and source.field is not None and source.field not in frame.columns:
        have = [c for c in frame.columns if c != "geometry"]
        raise DataError(f"{path}: no field {source.field!r}; it has {have}")
    if too_many(path, len(frame), problems):
        return []
    column = [None] * len(frame) if source.field not in frame.columns else [text_of(v) for v in frame[source.field]]
    found = []
    for k, (shape, label) in enumerate(zip(frame.geometry, column, strict=True)):
        if shape is None or shape.is_empty:
            continue
        left, top, right, bottom = shape.bounds
        found.append(Annotation(f"feature {k}", (left, top, right, bottom), label, shape))
    return [Record(tuple(found), crs=None if frame.crs is None else frame.crs.to_wkt())]
