"""The features of a run as a page draws them: rings of (latitude, longitude) and the text shown on a click."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from geoml.errors import DataError

MOST = 5000
"""Features on a page, at most; those that are first by `RANKS`."""
BYTES = 2_500_000
"""Of their rings, at most; those of a single feature take a quarter of it at most."""
COARSER = 20
"""How often a feature is made coarser, with half of its holes and parts, before it is left out."""
RANKS = ("area_m2", "confidence")
"""Columns by which features are chosen, largest first."""
SILENT = ("geometry", "bbox", "blocks", "model", "items", "before_items", "after_items")
"""Columns that a click does not show."""

Numbers = NDArray[np.int64]
Rings = list[list[list[float]]]
"""A polygon, a line or a point as Leaflet takes it: rings of (lat, lon)."""


@dataclass(frozen=True)
class Outlines:
    """``rows`` are those shown of ``count``: [rings of each part, values of ``columns``], as they stand in the file."""

    title: str
    columns: tuple[str, ...]
    rows: list[list[Any]]
    count: int


def outlines_of(path: Path, title: str, metres: float, turned: bool) -> Outlines | None:
    """The features of a GeoParquet file, simplified to half a pixel of ``metres``; None for a table without geometry.

    Of more than a page takes, those are left out that are last by `RANKS`; a feature that is too large by itself is
    simplified further, without its small holes and parts, or left out. ``turned``: longitudes west of Greenwich are
    shown beyond 180. Memory is that of what is shown and of one number for each feature. Raises DataError for a file
    that cannot be read.
    """
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            names = file.schema_arrow.names
            if "geometry" not in names:
                return None
            columns = tuple(
                f.name for f in file.schema_arrow if f.name not in SILENT and not pa.types.is_nested(f.type)
            )
            ranks = [n for n in RANKS if n in names]
            chosen = _first(file, ranks)
            rows, start = list[list[Any]](), 0
            for group in range(file.num_row_groups):
                stop = start + file.metadata.row_group(group).num_rows
                inside = chosen[(chosen >= start) & (chosen < stop)] - start
                if len(inside):
                    table = file.read_row_group(group, [*columns, "geometry"]).take(pa.array(inside))
                    drawn = _drawn(table.column("geometry").to_pylist(), metres, turned)
                    values = table.select(columns).to_pylist()
                    rows += [[d, [_plain(v[c]) for c in columns]] for d, v in zip(drawn, values, strict=True)]
                start = stop
            values = _ranks(file, ranks)
            best = _spread(len(rows)) if values is None else np.argsort(-values[chosen], kind="stable")
            return Outlines(title, columns, _within(rows, best, metres), file.metadata.num_rows)
    except (OSError, pa.ArrowException, shapely.errors.ShapelyError) as err:
        raise DataError(f"{path.name}: cannot be read ({err})") from err


def _first(file: pq.ParquetFile, ranks: Sequence[str]) -> Numbers:
    """Numbers of the rows that are shown, rising."""
    count = file.metadata.num_rows
    values = _ranks(file, ranks) if count > MOST else None
    if values is None:
        return np.arange(min(count, MOST))
    return np.sort(np.argsort(-values, kind="stable")[:MOST])


def _ranks(file: pq.ParquetFile, ranks: Sequence[str]) -> NDArray[np.float64] | None:
    """What rows are chosen by, the largest first; None if there is no such column."""
    if not ranks:
        return None
    column = file.read([ranks[0]]).column(0).combine_chunks()
    values: NDArray[np.float64] = np.nan_to_num(pc.fill_null(column, 0).to_numpy().astype(np.float64))
    return values


def _spread(count: int) -> Numbers:
    """Numbers of rows, in an order of which every beginning is spread over all: no side of the map is empty."""
    return np.argsort(np.arange(count) * 0.6180339887498949 % 1, kind="stable")


def _within(rows: Sequence[list[Any]], best: Numbers, metres: float) -> list[list[Any]]:
    """The best of the rows, as many as have `BYTES` of rings, in their own order; not those without any ring left."""
    kept, size = [], 0
    for number in best:
        if rows[number][0] is None:
            continue
        size += _size(rows[number][0], metres)
        if size > BYTES:
            break
        kept.append(number)
    return [rows[number] for number in sorted(kept)]


def _digits(metres: float) -> int:
    """Of degrees, for a tenth of a pixel."""
    return max(2, min(8, math.ceil(-math.log10(metres / 111_320 / 10))))


def _place(metres: float) -> int:
    """Bytes of a place of a ring as text, at most."""
    return len("[-89., -179.], ") + 2 * _digits(metres)


def _size(parts: list[Rings], metres: float) -> int:
    """Bytes as text at most: nothing is written out only to be measured."""
    place = _place(metres)
    return sum(2 + sum(4 + place * len(ring) for ring in part) for part in parts)


def _drawn(geometries: Sequence[bytes | None], metres: float, turned: bool) -> list[list[Rings] | None]:
    """The rings of each part of geometries in WKB; None for one that is too large however coarse it is."""
    shapes = shapely.from_wkb(np.array(geometries, object))
    small = shapely.get_num_coordinates(shapes) * _place(metres) <= BYTES // 4
    drawn = iter(rings(shapes[small], metres, turned))
    # giants one after the other, so that what is cut of one is gone before the next
    return [next(drawn) if few else _coarser(shape, metres, turned) for shape, few in zip(shapes, small, strict=True)]


def _coarser(shape: BaseGeometry, metres: float, turned: bool) -> list[Rings] | None:
    """As fine as fits."""
    for _ in range(COARSER):
        (found,) = rings([shape], metres, turned)
        if _size(found, metres) <= BYTES // 4:
            return found
        metres *= 2
        shape = _without_small(shape)
    return None


def _without_small(shape: BaseGeometry) -> BaseGeometry:
    """The larger half of the rings of a polygon: the smaller holes and parts are gone."""
    if not shape.geom_type.endswith("Polygon"):
        return shape
    parts, of = shapely.get_rings(shapely.get_parts(shape), return_index=True)
    order = np.argsort(-shapely.area(shapely.polygons(parts)), kind="stable")
    outer = np.searchsorted(of, np.arange(of.max() + 1))  # the first ring of each part
    kept: dict[int, list[Any]] = {}
    larger = set(order[: -(-len(order) // 2)].tolist())
    for part, first in enumerate(outer.tolist()):
        if first in larger:
            kept[part] = []
    for number in sorted(larger.difference(outer.tolist())):
        if int(of[number]) in kept:
            kept[int(of[number])].append(parts[number])
    return shapely.multipolygons([shapely.Polygon(parts[outer[part]], holes) for part, holes in kept.items()])


def rings(shapes: Sequence[BaseGeometry | None], metres: float, turned: bool) -> list[list[Rings]]:
    """Of each geometry the rings of each part, to half a pixel and to a tenth of it in digits."""
    simple = np.array(shapes, object)
    of_area = np.isin(shapely.get_type_id(simple), (3, 6))  # polygons, of one part and of several
    simple[of_area] = shapely.simplify(simple[of_area], metres / 111_320 / 2)
    parts, of = shapely.get_parts(simple, return_index=True)
    of_area = shapely.get_type_id(parts) == 3
    lines, part = shapely.get_rings(parts[of_area], return_index=True)
    lines = np.concatenate([lines, parts[~of_area]])
    part = np.concatenate([np.flatnonzero(of_area)[part], np.flatnonzero(~of_area)])
    order = np.argsort(part, kind="stable")
    lines, part = lines[order], part[order]
    x, y = shapely.get_coordinates(lines).T
    x = np.where(turned & (x < 0), x + 360, x)
    places = np.round(np.column_stack([y, x]), _digits(metres)).tolist()
    found: list[list[Rings]] = [[] for _ in simple]
    drawn: list[Rings] = [[] for _ in parts]
    for number, one in zip(of.tolist(), drawn, strict=True):
        found[number].append(one)
    ends = np.cumsum(shapely.get_num_coordinates(lines)).tolist()
    for number, start, stop in zip(part.tolist(), [0, *ends], ends, strict=False):
        if stop > start:
            drawn[number].append(places[start:stop])
    return found


def _plain(value: Any) -> Any:
    """As JSON: times as text, numbers that are none as null."""
    if isinstance(value, dt.datetime | dt.date):
        return value.isoformat()
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value if isinstance(value, str | int | bool) or value is None else str(value)
