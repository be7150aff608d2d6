"""Features as rows of GeoParquet, in longitude and latitude."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import geopandas
import numpy as np
import pandas as pd
import pyarrow as pa
import pyproj
import shapely
from numpy.typing import NDArray

from geoml.errors import DataError, InputError
from geoml.grid.plane import Plane
from geoml.io.cards.map_card import MapCard
from geoml.io.tables import geoparquet
from geoml.io.tables.geoparquet import BBOX, EDGES, Extent, bbox_column
from geoml.io.tables.ground import placed
from geoml.vector.polygons import Features, concatenated
from geoml.vector.rings import Rings, bend

VERTEX_STEP = 128
"""Pixels between vertices of a long edge: the edge then follows the projection to well under a tenth of a pixel."""
VERTICES = 2**22
"""That are projected and encoded at once."""
GROUND = ("geometry", *EDGES, "several", "area_m2", "value", "pixels", "confidence_sum", "outside", "row", "col")
"""Columns of `on_ground`."""

_TIME = pa.timestamp("us", tz="UTC")
_TYPES = {
    "id": pa.string(),
    "class": pa.uint8(),
    "name": pa.string(),
    "area_m2": pa.float64(),
    "confidence": pa.float32(),
    "outside": pa.float32(),
    "datetime": _TIME,
    "start_datetime": _TIME,
    "end_datetime": _TIME,
    "blocks": pa.list_(pa.string()),
    "model": pa.string(),
}
SCHEMA = pa.schema({**_TYPES, "bbox": BBOX, "geometry": pa.binary()})
"""Of rows of features."""


def outlined(features: Features) -> Features:
    """Whole features with vertices on long edges, in the order of `Rings.normalized`."""
    return replace(features, rings=bend(features.rings.normalized(), VERTEX_STEP))


def on_ground(features: Features) -> Iterator[tuple[Features, pa.Table]]:
    """Features with the columns `GROUND` of them, some at a time.

    WKB in EPSG:4326 with outer rings counterclockwise, its bounds, whether it is a multipolygon, m² on the ellipsoid
    of the geometry as written, and the columns of `Features`. Raises DataError for a polygon that WKB cannot hold.
    """
    rings = features.rings
    size = np.diff(rings.ring_offsets[rings.polygon_offsets])
    if len(size) and size.max() > 2**26:
        raise DataError(f"features: a polygon of {size.max()} vertices is too large for a row; cut the region in two")
    batch = (np.cumsum(size) - size) // VERTICES
    for k in np.unique(batch):
        some = features.take(batch == k) if batch[-1] else features
        there = placed(some.rings, some.plane)
        columns = {
            "geometry": there.wkb,
            **dict(zip(EDGES, map(np.ascontiguousarray, there.bounds.T), strict=True)),
            "several": there.several,
            "area_m2": there.area,
            "value": some.value,
            "pixels": some.pixels,
            "confidence_sum": some.confidence_sum,
            "outside": some.outside,
            "row": some.row,
            "col": some.col,
        }
        yield some, pa.table(columns)


def simplified(batches: Iterable[Features], metres: float) -> Iterator[Features]:
    """All features of each plane with fewer vertices; neighbours keep their shared borders.

    By ``shapely.coverage_simplify``, which needs all of them in memory.
    """
    planes: dict[Plane, list[Features]] = {}
    for batch in batches:
        planes.setdefault(batch.plane, []).append(batch)
    for plane, parts in planes.items():
        whole = concatenated(parts)
        whole = whole.take(np.lexsort((whole.value, whole.col, whole.row)))  # the same for any blocks
        simple = shapely.coverage_simplify(whole.rings.normalized().polygons(), metres / _metres(plane))
        yield replace(whole, rings=Rings.of(simple))


@dataclass(frozen=True)
class Labels:
    """What rows say of the run.

    Args:
        card: names the classes.
        model_id: written to the column ``model``.
        datetime: first and last time of the data, with time zone.
        scale: of the stored confidence, to 0..1.
        min_area: m²; smaller features are left out.
    """

    card: MapCard
    model_id: str
    datetime: tuple[dt.datetime, dt.datetime]
    scale: float
    min_area: float = 0.0

    def __post_init__(self) -> None:
        if self.min_area < 0:
            raise InputError(f"min_area: {self.min_area}; expected zero or more")

    def large(self, ground: pa.Table) -> pa.Table:
        """The rows of a table with ``area_m2`` that are not left out."""
        return ground.filter(pa.array(ground["area_m2"].to_numpy() >= self.min_area)) if self.min_area else ground

    def rows(self, ground: pa.Table, plane: Plane, blocks: pa.Array) -> pa.Table:
        """Rows of `SCHEMA` of the columns `GROUND`.

        id (plane, class and top-left-most pixel), class, name, area_m2, confidence (0..1), outside (share of its pixels
        that are unlike the training data; null where that is not known), datetime (null unless first and last time are
        one), start_datetime, end_datetime, blocks (list of block ids), model, bbox, geometry. Raises InputError for a
        class that the card does not know.
        """
        value, pixels = ground["value"].to_numpy(), ground["pixels"].to_numpy()
        code = plane.code
        keys = zip(value.tolist(), ground["row"].to_pylist(), ground["col"].to_pylist(), strict=True)
        first, last = (pa.scalar(pd.Timestamp(t).tz_convert("UTC").to_pydatetime(), _TIME) for t in self.datetime)
        one = first if first == last else pa.scalar(None, _TIME)
        times = {"datetime": one, "start_datetime": first, "end_datetime": last}
        shares = {
            "confidence": ground["confidence_sum"].to_numpy() / pixels * self.scale,
            "outside": ground["outside"].to_numpy() / pixels,
        }
        columns = {
            "id": pa.array([f"{code}_c{k}_y{row}_x{col}" for k, row, col in keys], pa.string()),
            "class": ground["value"],
            "name": self._names(value),
            "area_m2": ground["area_m2"],
            **{k: pa.array(v.astype(np.float32), from_pandas=True) for k, v in shares.items()},
            **{k: pa.repeat(v, len(ground)) for k, v in times.items()},
            "blocks": blocks,
            "model": pa.repeat(self.model_id, len(ground)),
            "bbox": bbox_column(np.stack([ground[edge].to_numpy() for edge in EDGES], 1)),
            "geometry": ground["geometry"],
        }
        return pa.table(columns, schema=SCHEMA)

    def _names(self, value: NDArray[np.uint8]) -> pa.Array:
        names = {c.value: c.name for c in self.card.classes}
        if strange := sorted(set(np.unique(value).tolist()) - names.keys()):
            raise InputError(f"class: {strange} not in the card of {self.card.name}; it has {sorted(names)}")
        table = np.zeros(256, np.int64)
        table[list(names)] = np.arange(len(names))
        return pa.array(list(names.values()), pa.string()).take(pa.array(table[value]))


class FeatureRows:
    """Rows as they are: all of them, with the columns of features."""

    schema: pa.Schema = SCHEMA

    def kept(self, ground: pa.Table) -> pa.Table:
        """Of a table with ``value`` the rows that are wanted."""
        return ground

    def made(self, rows: pa.Table) -> pa.Table:
        """Rows of ``schema`` out of rows of features."""
        return rows


def write_features(
    frame: geopandas.GeoDataFrame, path: Path, *, types: Mapping[str, pa.DataType] | None = None
) -> None:
    """Write a frame of features as GeoParquet 1.1, see `geoml.io.tables.geoparquet`. Atomic.

    Columns beside those of `SCHEMA` have the type in ``types``, else the one that Arrow finds for them.
    Raises InputError for a frame that is not in EPSG:4326, DataError if the file cannot be written.
    """
    typed = {**_TYPES, **(types or {})}
    if frame.crs is None or frame.crs.to_epsg() != 4326:
        raise InputError(f"frame: crs {frame.crs}; expected EPSG:4326")
    geometry = np.asarray(frame.geometry.array, object)
    columns = {
        str(name): pa.array(frame[name], type=typed.get(str(name)), from_pandas=True)
        for name in frame.columns
        if name != frame.geometry.name
    }
    bounds = shapely.bounds(geometry).reshape(-1, 4)
    columns["bbox"] = bbox_column(bounds)
    columns["geometry"] = pa.array(shapely.to_wkb(geometry), pa.binary())
    table, extent = pa.table(columns), Extent()
    extent.add(bounds, {g.geom_type for g in geometry[np.unique(shapely.get_type_id(geometry), True)[1]]})
    with geoparquet.scratch(path) as folder:
        geoparquet.write_sorted([table], extent, table.schema, path, folder)


def types_of(ground: pa.Table) -> set[str]:
    """Types of the geometries of columns `GROUND`."""
    several = ground["several"].to_numpy()
    return {name for name, there in (("MultiPolygon", several.any()), ("Polygon", not several.all())) if there}


def _metres(plane: Plane) -> float:
    """Length of a pixel; a degree counts as at the equator."""
    crs = pyproj.CRS.from_user_input(plane.crs)
    unit = 111_319.490793 if crs.is_geographic else crs.axis_info[0].unit_conversion_factor
    return float(plane.res * unit)
