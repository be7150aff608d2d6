"""The features of a run as a page draws them: rings of (latitude, longitude) and what is said when one is clicked."""

from __future__ import annotations

import datetime as dt
import json
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
from shapely.geometry.base import BaseGeometry

from geoml.errors import DataError

MOST = 5000
"""Features on a page, at most; those that are first by `RANKS`."""
BYTES = 2_500_000
"""Of their rings, at most."""
RANKS = ("area_m2", "confidence")
"""Columns by which features are chosen, largest first."""
SILENT = ("geometry", "bbox", "blocks", "model", "items", "before_items", "after_items")
"""Columns that a click does not show."""

Rings = list[list[list[float]]]
"""A polygon, a line or a point as Leaflet takes it: rings of (lat, lon)."""


@dataclass(frozen=True)
class Outlines:
    """``rows`` are those shown of ``count``: [rings of each part, values of ``columns``]."""

    title: str
    columns: tuple[str, ...]
    rows: list[list[Any]]
    count: int


def outlines_of(path: Path, title: str, metres: float, turned: bool) -> Outlines | None:
    """The features of a GeoParquet file, simplified to half a pixel of ``metres``; None for a table without geometry.

    ``turned``: longitudes west of Greenwich are shown beyond 180. Memory is that of what is shown and of one number
    for each feature. Raises DataError for a file that cannot be read.
    """
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            names = file.schema_arrow.names
            if "geometry" not in names:
                return None
            columns = tuple(
                f.name for f in file.schema_arrow if f.name not in SILENT and not pa.types.is_nested(f.type)
            )
            chosen = _first(file, [n for n in RANKS if n in names])
            rows, start = list[list[Any]](), 0
            for group in range(file.num_row_groups):
                stop = start + file.metadata.row_group(group).num_rows
                inside = chosen[(chosen >= start) & (chosen < stop)] - start
                if len(inside):
                    table = file.read_row_group(group, [*columns, "geometry"]).take(pa.array(inside))
                    rows += [[_shown(r["geometry"], metres, turned), [_plain(r[c]) for c in columns]]
                             for r in table.to_pylist()]  # fmt: skip
                start = stop
            while sum(len(json.dumps(row[0])) for row in rows) > BYTES:
                rows = rows[::2]  # so that no side of the map is empty
            return Outlines(title, columns, rows, file.metadata.num_rows)
    except (OSError, pa.ArrowException, shapely.errors.ShapelyError) as err:
        raise DataError(f"{path.name}: cannot be read ({err})") from err


def _first(file: pq.ParquetFile, ranks: Sequence[str]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Numbers of the rows that are shown, rising."""
    count = file.metadata.num_rows
    if count <= MOST or not ranks:
        return np.arange(min(count, MOST))
    column = file.read([ranks[0]]).column(0).combine_chunks()
    return np.sort(np.argsort(-pc.fill_null(column, 0).to_numpy(), kind="stable")[:MOST])


def _shown(wkb: bytes | None, metres: float, turned: bool) -> list[Rings]:
    """The rings of each part of a geometry."""
    if wkb is None:
        return []
    return rings(shapely.from_wkb(wkb), metres, turned)


def rings(geometry: BaseGeometry, metres: float, turned: bool) -> list[Rings]:
    """Rings of each part, to half a pixel and to a tenth of it in digits."""
    degrees = metres / 111_320
    digits = max(2, min(8, math.ceil(-math.log10(degrees / 10))))
    shape = geometry.simplify(degrees / 2) if geometry.geom_type.endswith("Polygon") else geometry
    found: list[Rings] = []
    for part in shapely.get_parts(shape):
        lines = (part.exterior, *part.interiors) if part.geom_type == "Polygon" else (part,)
        found.append([[_at(x, y, digits, turned) for x, y, *_ in line.coords] for line in lines if not line.is_empty])
    return found


def _at(x: float, y: float, digits: int, turned: bool) -> list[float]:
    return [round(y, digits), round(x + 360 if turned and x < 0 else x, digits)]


def _plain(value: Any) -> Any:
    """As JSON: times as text, numbers that are none as null."""
    if isinstance(value, dt.datetime | dt.date):
        return value.isoformat()
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value if isinstance(value, str | int | bool) or value is None else str(value)
