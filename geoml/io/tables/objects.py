"""Objects: what a block found on disk, those that a run keeps as GeoParquet, and a summary of them by class."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pyproj
import pystac
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from geoml.errors import DataError, InputError
from geoml.grid.ellipsoid import WGS84, area
from geoml.grid.plane import Plane
from geoml.io.cards.map_card import MapCard
from geoml.io.stores.store import atomic, check_regular
from geoml.io.tables.changes import Footprints
from geoml.io.tables.features import VERTEX_STEP, write_features
from geoml.io.tables.ground import areas, lonlat
from geoml.vector.boxes import COLUMNS, Boxes, count, edges, take

CELL = 256
"""Pixels of a side of the squares in which searched pixels are counted: sums of them are the same for any blocks."""
OUTSIDE = {0.0: False, 1.0: True}
_CANDIDATES = (*COLUMNS, "valid", "outside")
_TIME = pa.timestamp("us", tz="UTC")
_TYPES = {
    **dict.fromkeys(("x", "y", "length_m", "width_m"), pa.float64()),
    "valid": pa.float32(),
    "edge": pa.bool_(),
    "outside": pa.bool_(),
    "items": pa.list_(pa.string()),
}
OBJECT_COLUMNS = (
    "id", "class", "name", "confidence", "x", "y", "length_m", "width_m", "area_m2", "edge", "valid", "outside",
    "datetime", "start_datetime", "end_datetime", "items", "model", "geometry",
)  # fmt: skip


@dataclass(frozen=True)
class FoundObjects:
    """What was found on one plane: `geoml.vector.boxes.Boxes`, and where was looked.

    Two more columns: ``valid``, the share of the box with data, and ``outside``, 1 where the centre is unlike the
    training data, NaN where that is not known. ``searched`` counts pixels by square (row, column) of `CELL` pixels.
    """

    boxes: Boxes
    searched: Mapping[tuple[int, int], int] = field(default_factory=Counter)


def write_found(found: FoundObjects, path: Path) -> None:
    """Write what a block found as Parquet, atomically. Raises DataError."""
    squares = [[*square, pixels] for square, pixels in sorted(found.searched.items())]
    columns = {name: pa.array(found.boxes[name]) for name in _CANDIDATES}
    table = pa.table(columns).replace_schema_metadata({"searched": json.dumps(squares)})
    with atomic(path) as temporary:
        pq.write_table(table, temporary, compression="zstd", write_page_checksum=True)


def read_found(path: Path) -> FoundObjects:
    """What `write_found` wrote. Raises DataError for a missing or damaged file."""
    try:
        table = pq.read_table(check_regular(path), page_checksum_verification=True)
        squares = json.loads(table.schema.metadata[b"searched"])
        boxes = {name: table[name].to_numpy() for name in _CANDIDATES}
        return FoundObjects(boxes, Counter({(int(y), int(x)): int(n) for y, x, n in squares}))
    except (OSError, LookupError, ValueError, TypeError, pa.ArrowException) as err:
        raise DataError(f"{path}: objects of a block are not readable ({err})") from err


def objects_frame(
    found: Mapping[Plane, Boxes],
    *,
    card: MapCard,
    model_id: str,
    items: Sequence[pystac.Item],
    region: BaseGeometry,
    min_area: float = 0.0,
) -> geopandas.GeoDataFrame:
    """Objects in EPSG:4326, one row each, ordered by id.

    Columns: id (plane, class, pixel of the centre, time), class (uint8), name, confidence (0..1, as the model has it),
    x, y (centre, degrees), length_m and width_m (longer and shorter side), area_m2, edge (touches the edge of
    ``region``, which is in degrees, or of the data), valid (share of the box with data), outside (the centre is unlike
    the training data; null where that is not known), datetime (null unless first and last time are one),
    start_datetime, end_datetime and items of those ``items`` that hold the centre, model, geometry (the box).
    Sizes are measured on the ellipsoid. Objects below ``min_area`` m² are left out.

    Raises InputError for a class that the card does not know, DataError for an item without a time.
    """
    ordered = Footprints(items)
    parts = [_rows(plane, boxes, card, ordered, region) for plane, boxes in found.items() if count(boxes)]
    if not parts:
        empty = {name: pd.Series([], dtype=object) for name in OBJECT_COLUMNS}
        return geopandas.GeoDataFrame(empty, geometry="geometry", crs="EPSG:4326")
    frame = pd.concat(parts)
    frame["model"] = model_id
    frame = frame[frame["area_m2"] >= min_area].sort_values("id", ignore_index=True)
    return geopandas.GeoDataFrame(frame[list(OBJECT_COLUMNS)], geometry="geometry", crs="EPSG:4326")


def write_objects(frame: geopandas.GeoDataFrame, path: Path) -> None:
    """Write objects as `write_features` does, with the columns of this module typed even when empty."""
    write_features(frame, path, types=_TYPES)


def summary_table(
    frame: geopandas.GeoDataFrame, searched: Mapping[Plane, Mapping[tuple[int, int], int]], card: MapCard,
    region: BaseGeometry, pixels: int | None,
) -> pa.Table:  # fmt: skip
    """A row for each class of the card: class, name, count, confidence (mean, null without objects), and for all alike
    searched_km2 and unsearched_km2: of ``region`` (degrees) with and without data.

    ``pixels`` of the region, where that is known: when all of them were searched, nothing is left.
    """
    km2 = round(sum(_searched(plane, squares) for plane, squares in searched.items()) / 1e6, 6)
    whole = sum(n for squares in searched.values() for n in squares.values()) == pixels
    left = 0.0 if whole else max(round(area(region) / 1e6 - km2, 6), 0.0)
    counts = frame["class"].value_counts()
    means = frame.groupby("class")["confidence"].mean()
    rows = [
        {
            "class": c.value,
            "name": c.name,
            "count": int(counts.get(c.value, 0)),
            "confidence": float(means[c.value]) if c.value in means.index else None,
            "searched_km2": km2,
            "unsearched_km2": left,
        }
        for c in card.classes
    ]
    types = pa.uint8(), pa.string(), pa.int64(), pa.float64(), pa.float64(), pa.float64()
    names = "class", "name", "count", "confidence", "searched_km2", "unsearched_km2"
    return pa.Table.from_pylist(rows, schema=pa.schema(list(zip(names, types, strict=True))))


def write_summary(table: pa.Table, path: Path) -> None:
    """Write `summary_table`, atomically. Raises DataError."""
    with atomic(path) as temporary:
        pq.write_table(table, temporary, compression="zstd", write_page_checksum=True)


def _rows(plane: Plane, boxes: Boxes, card: MapCard, items: Footprints, region: BaseGeometry) -> pd.DataFrame:
    """The rows of one plane, without model, in one order for any blocks."""
    boxes = take(boxes, np.lexsort((boxes["class"], boxes["x"], boxes["y"])))
    shape = edges(boxes)
    ground = _ground(plane, shapely.box(shape[:, 1], shape[:, 0], shape[:, 3], shape[:, 2]))
    geometry = lonlat(shapely.segmentize(ground, VERTEX_STEP * plane.res), plane.crs)
    x, y, height, width = _sizes(plane, shape)
    *times, ids = items.seen(shapely.points(x, y))
    start, end = (pd.Series(t).dt.tz_localize("UTC") for t in times)
    shapely.prepare(region)
    whole = shapely.covers(region, geometry) & (boxes["valid"] == 1)
    names = {c.value: c.name for c in card.classes}
    if strange := sorted({int(v) for v in np.unique(boxes["class"])} - names.keys()):
        raise InputError(f"class: {strange} not in the card of {card.name}; it has {sorted(names)}")
    return pd.DataFrame(
        {
            "id": pd.Series(_ids(plane, boxes, start), dtype=object),
            "class": boxes["class"],
            "name": pd.Series([names[int(v)] for v in boxes["class"]], dtype=object),
            "confidence": boxes["score"].astype(np.float32),
            "x": x,
            "y": y,
            "length_m": np.maximum(height, width),
            "width_m": np.minimum(height, width),
            "area_m2": areas(ground, plane.crs),
            "edge": ~whole,
            "valid": boxes["valid"].astype(np.float32),
            "outside": pd.Series([OUTSIDE.get(v) for v in boxes["outside"].tolist()], dtype=object),
            "datetime": start.where(start == end),
            "start_datetime": start,
            "end_datetime": end,
            "items": pd.Series(ids, dtype=object),
            "geometry": pd.Series(list(geometry), dtype=object),
        }
    )


def _ids(plane: Plane, boxes: Boxes, start: pd.Series) -> list[str]:
    """The same for any blocks: no two objects of a class have their centre in one pixel."""
    y, x = (np.floor(boxes[axis]).astype(np.int64).tolist() for axis in "yx")
    times = ["" if pd.isna(t) else f"_{t:%Y%m%dT%H%M%S}" for t in start]
    rows = zip(boxes["class"].tolist(), y, x, times, strict=True)
    return [f"{plane.code}_c{value}_y{row}_x{col}{time}" for value, row, col, time in rows]


def _ground(plane: Plane, geometry: NDArray[np.object_]) -> NDArray[np.object_]:
    """Outlines in pixels of a plane in units of its CRS; whole numbers are the edges of pixels."""
    moved: NDArray[np.object_] = shapely.transform(geometry, lambda c: (c + plane.anchor) * [plane.res, -plane.res])
    return moved


def _sizes(plane: Plane, shape: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """Degrees of the centres of boxes, and their heights and widths in metres along the middle, all (n,)."""
    top, left, bottom, right = shape.T
    to_degrees = pyproj.Transformer.from_crs(plane.crs, "EPSG:4326", always_xy=True)

    def degrees(y: NDArray[np.float64], x: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        lon, lat = to_degrees.transform((x + plane.anchor) * plane.res, -(y + plane.anchor) * plane.res)
        return np.asarray(lon), np.asarray(lat)

    row, col = (top + bottom) / 2, (left + right) / 2
    centre, height, width = (
        degrees(row, col),
        *(
            np.asarray(WGS84.inv(*degrees(*a), *degrees(*b))[2])
            for a, b in (((top, col), (bottom, col)), ((row, left), (row, right)))
        ),
    )
    return *centre, height, width


def _searched(plane: Plane, squares: Mapping[tuple[int, int], int]) -> float:
    """m² of searched pixels, by the size of each square on the ellipsoid."""
    if not squares:
        return 0.0
    y, x, pixels = np.array([(*square, n) for square, n in sorted(squares.items())], np.int64).T
    ground = _ground(plane, shapely.box(x * CELL, y * CELL, (x + 1) * CELL, (y + 1) * CELL))
    found: Any = (areas(ground, plane.crs) * pixels / CELL**2).sum()
    return float(found)
