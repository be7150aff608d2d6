"""Objects: what a block found on disk, those that a run keeps as GeoParquet, and how much ground was searched."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyproj
import pystac
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from geoml.errors import DataError, InputError
from geoml.grid.ellipsoid import WGS84
from geoml.grid.plane import Plane
from geoml.io.cards.map_card import MapCard
from geoml.io.stores.store import atomic, check_regular
from geoml.io.tables.changes import Footprints
from geoml.io.tables.features import VERTEX_STEP
from geoml.io.tables.geoparquet import BBOX, bbox_column
from geoml.io.tables.ground import areas, lonlat
from geoml.vector.boxes import ANGLE, COLUMNS, EDGES, LEVEL, Boxes, edges, smallest, take
from geoml.vector.masks import MASK, WORDS, shapes

CELL = 256
"""Pixels of a side of the squares in which searched pixels are counted: sums of them are the same for any blocks."""
OUTSIDE = {0.0: False, 1.0: True}
_CANDIDATES = (*COLUMNS, "valid", "outside")
"""Of every block; those of oriented boxes have their `ANGLE` too, those of a model of outlines their `MASK`, those of a
pyramid their `LEVEL`."""
UNITS = 2**20
"""Whole parts of a m², so that sums do not hang on their order."""
_TIME = pa.timestamp("us", tz="UTC")
SCHEMA = pa.schema(
    {
        "id": pa.string(),
        "class": pa.uint8(),
        "name": pa.string(),
        "confidence": pa.float32(),
        "score": pa.float32(),
        **dict.fromkeys(("x", "y", "length_m", "width_m", "heading", "area_m2"), pa.float64()),
        "edge": pa.bool_(),
        "valid": pa.float32(),
        "outside": pa.bool_(),
        **dict.fromkeys(("datetime", "start_datetime", "end_datetime"), _TIME),
        "items": pa.list_(pa.string()),
        "model": pa.string(),
        "bbox": BBOX,
        "geometry": pa.binary(),
    }
)
"""Of rows of objects."""


@dataclass(frozen=True)
class FoundObjects:
    """What was found on one plane: `geoml.vector.boxes.Boxes`, and where was looked.

    Two more columns: ``valid``, the share of the box with data, and ``outside``, 1 where the peak is unlike the
    training data, NaN where that is not known. ``searched`` counts pixels by square (row, column) of `CELL` pixels.
    """

    boxes: Boxes
    searched: Mapping[tuple[int, int], int] = field(default_factory=Counter)


def write_found(found: FoundObjects, path: Path) -> None:
    """Write what a block found as Parquet, atomically. Raises DataError."""
    squares = [[*square, pixels] for square, pixels in sorted(found.searched.items())]
    columns = {name: pa.array(found.boxes[name]) for name in _names(found.boxes) if name != MASK}
    if MASK in found.boxes:
        columns[MASK] = pa.FixedSizeListArray.from_arrays(found.boxes[MASK].reshape(-1), WORDS)
    table = pa.table(columns).replace_schema_metadata({"searched": json.dumps(squares)})
    with atomic(path) as temporary:
        pq.write_table(table, temporary, compression="zstd", write_page_checksum=True)


def read_found(path: Path) -> FoundObjects:
    """What `write_found` wrote. Raises DataError for a missing or damaged file."""
    try:
        table = pq.read_table(check_regular(path), page_checksum_verification=True)
        squares = json.loads(table.schema.metadata[b"searched"])
        boxes = {name: table[name].to_numpy() for name in _names(table.column_names) if name != MASK}
        if MASK in table.column_names:
            boxes[MASK] = table[MASK].combine_chunks().flatten().to_numpy().reshape(-1, WORDS)
        return FoundObjects(boxes, Counter({(int(y), int(x)): int(n) for y, x, n in squares}))
    except (OSError, LookupError, ValueError, TypeError, pa.ArrowException) as err:
        raise DataError(f"{path}: objects of a block are not readable ({err})") from err


def _names(there: Container[str]) -> list[str]:
    """Columns of what a block found."""
    return [*_CANDIDATES, *(name for name in (ANGLE, MASK, LEVEL) if name in there)]


class ObjectRows:
    """Rows of objects: id (plane, class, pixel of the peak, level of a pyramid, time), class (uint8), name, confidence
    (0..1, chance to be a true object where the card knows it, else the score), score (as the model has it), x, y
    (centre of the box, degrees), length_m and width_m (longer and shorter side), heading (of the longer side, degrees
    from north, 0 to 180; null of upright boxes), area_m2, edge (touches the edge of ``region``, which is in degrees, or
    of the data), valid (share of the box with data), outside (the peak is unlike the training data; null where that is
    not known), datetime (null unless first and last time are one), start_datetime, end_datetime and items of those
    ``items`` that hold the centre, model, bbox, geometry (the box).

    The peak is the pixel that tells of a box, most often near its centre.
    Of boxes with masks the geometry is the outline, area_m2 is its own, and length_m, width_m and heading are those of
    the smallest rectangle around it; centre, id and valid stay those of the box.

    Sizes are measured on the ellipsoid. Raises DataError for an item without a time.
    """

    def __init__(self, card: MapCard, model_id: str, items: Sequence[pystac.Item], region: BaseGeometry) -> None:
        self.card, self.model_id, self.region = card, model_id, region
        self.items = Footprints(items)
        self.names = {c.value: c.name for c in card.classes}
        shapely.prepare(region)

    def made(self, plane: Plane, boxes: Boxes) -> pa.Table:
        """Rows of `SCHEMA`, in the order of ids; ``boxes`` have a ``confidence`` too.

        Raises InputError for a class that the card does not know.
        """
        level = (boxes[LEVEL],) if LEVEL in boxes else ()
        boxes = take(boxes, np.lexsort((*level, boxes["class"], boxes["x"], boxes["y"])))
        if strange := sorted(set(np.unique(boxes["class"]).tolist()) - self.names.keys()):
            raise InputError(f"class: {strange} not in the card of {self.card.name}; it has {sorted(self.names)}")
        shape, outline = edges(boxes), shapes(boxes)
        ground = _ground(plane, outline)
        geometry = lonlat(shapely.segmentize(ground, VERTEX_STEP * plane.res), plane.crs)
        x, y, height, width, heading = _sizes(plane, shape)
        if MASK in boxes:
            height, width, heading = _sizes(plane, smallest(outline))[2:]
        start, end, ids = self.items.seen(shapely.points(x, y))
        whole = shapely.covers(self.region, geometry) & (boxes["valid"] == 1)
        columns = {
            "id": _ids(plane, boxes, start),
            "class": boxes["class"].astype(np.uint8),
            "name": [self.names[int(v)] for v in boxes["class"]],
            "confidence": boxes["confidence"].astype(np.float32),
            "score": boxes["score"].astype(np.float32),
            "x": x,
            "y": y,
            "length_m": np.maximum(height, width),
            "width_m": np.minimum(height, width),
            "heading": heading if ANGLE in boxes or MASK in boxes else [None] * len(ids),
            "area_m2": areas(ground, plane.crs),
            "edge": ~whole,
            "valid": boxes["valid"].astype(np.float32),
            "outside": [OUTSIDE.get(v) for v in boxes["outside"].tolist()],
            "datetime": np.where(start == end, start, np.datetime64("NaT")),
            "start_datetime": start,
            "end_datetime": end,
            "items": ids,
            "model": [self.model_id] * len(ids),
            "bbox": bbox_column(shapely.bounds(geometry).reshape(-1, 4)),
            "geometry": shapely.to_wkb(geometry),
        }
        arrays = [v if isinstance(v, pa.Array) else pa.array(v, SCHEMA.field(k).type) for k, v in columns.items()]
        return pa.table(arrays, schema=SCHEMA)


def box_areas(plane: Plane, boxes: Boxes) -> NDArray[np.float64]:
    """(n,) m² of boxes, or of their outlines, on the ellipsoid."""
    return areas(_ground(plane, shapes(boxes)), plane.crs)


class Searched:
    """Ground that was searched, of squares that come from the top of each plane; those that are done are summed up."""

    def __init__(self) -> None:
        self.pixels = 0
        self._units = 0
        self._open: dict[Plane, Counter[tuple[int, int]]] = {}

    def add(self, plane: Plane, squares: Mapping[tuple[int, int], int], frontier: float) -> None:
        """Take pixels by square; none that comes later lies above the row ``frontier``."""
        found = self._open.setdefault(plane, Counter())
        found.update(squares)
        done = {square: found.pop(square) for square in list(found) if (square[0] + 1) * CELL <= frontier}
        self.pixels += sum(done.values())
        self._units += _searched(plane, done)

    def km2(self) -> float:
        """All of it; after this nothing is to come."""
        for plane in list(self._open):
            self.add(plane, {}, np.inf)
        return round(self._units / UNITS / 1e6, 6)


def write_summary(table: pa.Table, path: Path) -> None:
    """Write a summary by class, atomically. Raises DataError."""
    with atomic(path) as temporary:
        pq.write_table(table, temporary, compression="zstd", write_page_checksum=True)


def _ids(plane: Plane, boxes: Boxes, start: NDArray[np.datetime64]) -> list[str]:
    """The same for any blocks: no two objects of a class that one level found have their peak in one pixel."""
    y, x = (np.floor(boxes[axis]).astype(np.int64).tolist() for axis in "yx")
    times = ["" if t is None else f"_{t:%Y%m%dT%H%M%S}" for t in start.tolist()]
    factors = boxes[LEVEL].astype(np.int64).tolist() if LEVEL in boxes else [1] * len(y)
    levels = ["" if k == 1 else f"_k{k}" for k in factors]
    rows = zip(boxes["class"].tolist(), y, x, levels, times, strict=True)
    return [f"{plane.code}_c{value}_y{row}_x{col}{level}{time}" for value, row, col, level, time in rows]


def _ground(plane: Plane, geometry: NDArray[np.object_]) -> NDArray[np.object_]:
    """Outlines in pixels of a plane in units of its CRS; whole numbers are the edges of pixels."""
    moved: NDArray[np.object_] = shapely.transform(geometry, lambda c: (c + plane.anchor) * [plane.res, -plane.res])
    return moved


def _sizes(plane: Plane, shape: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """Degrees of the centres of boxes, their heights and widths in metres along the middle, and the direction of the
    longer of the two in degrees from north, 0 to 180, all (n,)."""
    top, left, bottom, right = shape[:, :4].T
    angle = shape[:, 4] if shape.shape[1] > len(EDGES) else np.zeros(len(shape))
    to_degrees = pyproj.Transformer.from_crs(plane.crs, "EPSG:4326", always_xy=True)

    def degrees(y: NDArray[np.float64], x: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        lon, lat = to_degrees.transform((x + plane.anchor) * plane.res, -(y + plane.anchor) * plane.res)
        return np.asarray(lon), np.asarray(lat)

    row, col = (top + bottom) / 2, (left + right) / 2
    tall, wide, cos, sin = (bottom - top) / 2, (right - left) / 2, np.cos(angle), np.sin(angle)
    (along, height), (across, width) = (
        map(np.asarray, WGS84.inv(*degrees(row + dy, col + dx), *degrees(row - dy, col - dx))[::2])
        for dy, dx in ((-tall * cos, tall * sin), (-wide * sin, -wide * cos))
    )
    return *degrees(row, col), height, width, np.where(height > width, along, across) % 180


def _searched(plane: Plane, squares: Mapping[tuple[int, int], int]) -> int:
    """m² of searched pixels in `UNITS`, by the size of each square on the ellipsoid."""
    if not squares:
        return 0
    y, x, pixels = np.array([(*square, n) for square, n in squares.items()], np.int64).T
    ground = _ground(plane, shapely.box(x * CELL, y * CELL, (x + 1) * CELL, (y + 1) * CELL))
    parts = np.round(areas(ground, plane.crs) * pixels / CELL**2 * UNITS).astype(np.int64)
    return int(parts.astype(object).sum())
