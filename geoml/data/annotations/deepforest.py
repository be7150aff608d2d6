"""DeepForest's CSV: a row for each object with image_path, xmin, ymin, xmax, ymax and label; of one image or of many.

A row whose four numbers are all 0 says that its image has no object. Without corners a column ``geometry`` has outlines
or points as WKT. See https://deepforest.readthedocs.io.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import shapely

from geoml.data.annotation import Annotation, Record, number, strange_path, too_large, too_many
from geoml.errors import DataError
from geoml.io.tables import csv_rows
from geoml.texts import listed

COORDINATES = ("pixels",)
CORNERS = True
SIDES = ("xmin", "ymin", "xmax", "ymax")


def read(path: Path, source: Any, problems: list[str]) -> list[Record]:
    """Objects by the image that a row names. Raises DataError or one of `csv_rows.ERRORS`."""
    if too_large(path, problems):
        return []
    found: dict[str, list[Annotation]] = {}
    with csv_rows.table(path) as (names, rows):
        corners = set(SIDES) <= set(names)
        lacking = {"image_path", "label"} - set(names) | (set() if corners or "geometry" in names else set(SIDES))
        if lacking:
            raise DataError(f"{path}: has the columns {listed(names)}; {listed(sorted(lacking))} missing")
        for k, row in enumerate(rows, 2):
            image = row["image_path"]
            if strange_path(image):
                problems.append(f"{path}: row {k}: image_path: {image!r} leads out of the folder of the images")
                continue
            objects = found.setdefault(image, [])
            objects += _object(row, f"row {k}", corners)
    if too_many(path, sum(map(len, found.values())), problems):
        return []
    return [Record(tuple(objects), image) for image, objects in found.items()]


def _object(row: dict[str, str], where: str, corners: bool) -> list[Annotation]:
    if corners:
        left, top, right, bottom = (number(row[k]) for k in SIDES)
        if left == top == right == bottom == 0:
            return []
        return [Annotation(where, (left, top, right, bottom), row["label"])]
    try:
        shape = shapely.from_wkt(row["geometry"])
    except shapely.errors.ShapelyError:
        shape = None
    if shape is None or shape.is_empty:
        return [Annotation(where, (math.nan,) * 4, row["label"])]
    left, top, right, bottom = shape.bounds
    return [Annotation(where, (left, top, right, bottom), row["label"], shape)]
