"""Features as GeoParquet 1.1 (https://geoparquet.org/releases/v1.1.0/), in longitude and latitude."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import geopandas
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pyproj
import shapely
from numpy.typing import ArrayLike, NDArray
from shapely.geometry.base import BaseGeometry

from geoml.errors import InputError
from geoml.grid.plane import Plane
from geoml.io.cards.map_card import MapCard
from geoml.io.stores.store import atomic
from geoml.vector.polygons import Features
from geoml.vector.rings import share_vertices

Geometries = NDArray[np.object_]

VERTEX_STEP = 128
"""Pixels between vertices of a long edge: the edge then follows the projection to well under a tenth of a pixel."""
ROW_GROUP = 20_000

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


def features_frame(
    features: Iterable[Features],
    *,
    card: MapCard,
    model_id: str,
    datetime: tuple[dt.datetime, dt.datetime],
    scale: float,
    min_area: float = 0.0,
    simplify: float = 0.0,
) -> geopandas.GeoDataFrame:
    """Whole features in EPSG:4326, one row each, ordered by id.

    Columns: id, class (uint8), name, area_m2, confidence (0..1), outside (share of its pixels that are unlike the
    training data; null where that is not known), datetime (null unless first and last time are one), start_datetime,
    end_datetime, blocks (list of block ids), model, geometry (outer rings counterclockwise).
    ``area_m2`` is measured on the ellipsoid, of the geometry as written.

    Args:
        features: batches of ``FeatureMerger.merged``.
        card: names the classes.
        model_id: written to the column ``model``.
        datetime: first and last time of the data, with time zone.
        scale: of the stored confidence, to 0..1.
        min_area: m²; smaller features are left out.
        simplify: metres; neighbours keep their shared borders (``shapely.coverage_simplify``).

    Raises InputError for a class that the card does not know, or a negative ``min_area`` or ``simplify``.
    """
    if min_area < 0 or simplify < 0:
        raise InputError(f"min_area, simplify: {min_area}, {simplify}; expected zero or more")
    planes: dict[Plane, list[Features]] = {}
    for batch in features:
        if len(batch):
            planes.setdefault(batch.plane, []).append(batch)
    parts = [_part(plane, batches, card, scale, simplify) for plane, batches in planes.items()]
    frame = pd.concat(parts) if parts else _part_frame([], np.empty(0, np.uint8), [], [], [], [], [], card)
    frame = frame[frame["area_m2"] >= min_area].sort_values("id", ignore_index=True)
    first, last = (pd.Timestamp(t).tz_convert("UTC") for t in datetime)
    times = {"datetime": first if first == last else pd.NaT, "start_datetime": first, "end_datetime": last}
    for name, value in times.items():
        frame[name] = pd.Series([value] * len(frame), index=frame.index, dtype="datetime64[us, UTC]")
    frame["model"] = model_id
    columns = [*_TYPES, "geometry"]
    return geopandas.GeoDataFrame(frame[columns], geometry="geometry", crs="EPSG:4326")


def write_features(
    frame: geopandas.GeoDataFrame, path: Path, *, types: Mapping[str, pa.DataType] | None = None
) -> None:
    """Write features as GeoParquet 1.1: WKB, a bbox covering column, zstd, rows along a Hilbert curve. Atomic.

    Columns beside those of ``features_frame`` have the type in ``types``, else the one that Arrow finds for them.
    Raises InputError for a frame that is not in EPSG:4326, DataError when the file cannot be written.
    """
    typed = {**_TYPES, **(types or {})}
    if frame.crs is None or frame.crs.to_epsg() != 4326:
        raise InputError(f"frame: crs {frame.crs}; expected EPSG:4326")
    if len(frame):
        along = frame.geometry.hilbert_distance()
        frame = frame.iloc[np.lexsort((frame["id"], along))]
    geometry = np.asarray(frame.geometry.array, object)
    columns = {
        str(name): pa.array(frame[name], type=typed.get(str(name)), from_pandas=True)
        for name in frame.columns
        if name != frame.geometry.name
    }
    bounds = shapely.bounds(geometry).reshape(-1, 4)
    columns["bbox"] = pa.StructArray.from_arrays([pa.array(b) for b in bounds.T], ["xmin", "ymin", "xmax", "ymax"])
    columns["geometry"] = pa.array(shapely.to_wkb(geometry), pa.binary())
    table = pa.table(columns).replace_schema_metadata({"geo": json.dumps(_metadata(geometry, bounds))})
    repeated = [c for c in ("name", "model", "from", "to") if c in columns]
    with (
        atomic(path) as temporary,
        pq.ParquetWriter(
            temporary,
            table.schema,
            compression="zstd",
            use_dictionary=repeated,
            version="2.6",
            write_page_checksum=True,
        ) as file,
    ):
        if len(frame):  # an empty row group would have no bounds
            file.write_table(table, row_group_size=ROW_GROUP)


def _metadata(geometry: Geometries, bounds: NDArray[np.float64]) -> dict[str, object]:
    column: dict[str, object] = {
        "encoding": "WKB",
        "geometry_types": sorted({g.geom_type for g in geometry[np.unique(shapely.get_type_id(geometry), True)[1]]}),
        "crs": pyproj.CRS.from_epsg(4326).to_json_dict(),
        "orientation": "counterclockwise",
        "edges": "planar",
        "covering": {"bbox": {edge: ["bbox", edge] for edge in ("xmin", "ymin", "xmax", "ymax")}},
    }
    if len(bounds):
        column["bbox"] = [*bounds[:, :2].min(axis=0).tolist(), *bounds[:, 2:].max(axis=0).tolist()]
    return {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}}


def _part(plane: Plane, batches: list[Features], card: MapCard, scale: float, simplify: float) -> pd.DataFrame:
    """The rows of one plane, without times and model."""
    parts = ((b.geometry, b.value, b.confidence, b.outside, b.blocks, b.row, b.col) for b in batches)
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    # one order of features and of vertices, so that sums are the same to the last bit for any blocks
    order = np.lexsort((columns[1], columns[6], columns[5]))
    geometry, value, confidence, outside, blocks = (c[order] for c in columns[:5])
    ids = np.array([k for b in batches for k in b.ids()], object)[order]
    geometry = shapely.normalize(geometry)
    if simplify:
        geometry = shapely.coverage_simplify(share_vertices(geometry), simplify / _metres(plane))
    else:
        geometry = share_vertices(geometry, VERTEX_STEP)
    ground = shapely.transform(geometry, lambda c: (c + plane.anchor) * [plane.res, -plane.res])
    places = areas(ground, plane.crs), lonlat(ground, plane.crs)
    return _part_frame(ids, value, places[0], confidence * scale, outside, blocks, places[1], card)


def _part_frame(
    ids: Iterable[str],
    value: NDArray[np.uint8],
    area: ArrayLike,
    confidence: ArrayLike,
    outside: ArrayLike,
    blocks: Iterable[Iterable[str]],
    geometry: Iterable[BaseGeometry],
    card: MapCard,
) -> pd.DataFrame:
    names = {c.value: c.name for c in card.classes}
    if strange := sorted({int(v) for v in np.unique(value)} - names.keys()):
        raise InputError(f"class: {strange} not in the card of {card.name}; it has {sorted(names)}")
    return pd.DataFrame(
        {
            "id": pd.Series(list(ids), dtype=object),
            "class": value.astype(np.uint8),
            "name": pd.Series([names[int(v)] for v in value], dtype=object),
            "area_m2": np.asarray(area, float),
            "confidence": np.asarray(confidence, float),
            "outside": np.asarray(outside, float),
            "blocks": pd.Series([list(b) for b in blocks], dtype=object),
            "geometry": pd.Series(list(geometry), dtype=object),
        }
    ).astype({"confidence": np.float32, "outside": np.float32})


def _metres(plane: Plane) -> float:
    """Length of a pixel; a degree counts as at the equator."""
    crs = pyproj.CRS.from_user_input(plane.crs)
    unit = 111_319.490793 if crs.is_geographic else crs.axis_info[0].unit_conversion_factor
    return float(plane.res * unit)


def areas(ground: Geometries, crs: str) -> NDArray[np.float64]:
    """m² of outlines in units of ``crs`` on the WGS 84 ellipsoid.

    In an equal-area projection centred on them, where short edges stay straight. Agrees with geodesic areas to a
    millionth and costs one projection of all vertices instead of a geodesic for each.
    """
    west, south, east, north = shapely.total_bounds(ground)
    to_degrees = pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    lon, lat = (round(v) for v in to_degrees.transform((west + east) / 2, (south + north) / 2))
    equal = pyproj.CRS.from_dict({"proj": "laea", "lat_0": lat, "lon_0": lon, "ellps": "WGS84", "units": "m"})
    to_equal = pyproj.Transformer.from_crs(crs, equal, always_xy=True)
    area: NDArray[np.float64] = shapely.area(shapely.transform(ground, to_equal.transform, interleaved=False))
    return area


def lonlat(ground: Geometries, crs: str) -> Geometries:
    """Outlines in units of ``crs`` in degrees: cut at the antimeridian, outer rings counterclockwise."""
    to = pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    world = shapely.transform(ground, to.transform, interleaved=False)
    west, _, east, _ = shapely.bounds(world).T
    for k in np.flatnonzero(east - west > 180):
        unrolled = shapely.transform(world[k], lambda c: np.column_stack([c[:, 0] % 360, c[:, 1]]))
        here = shapely.intersection(unrolled, shapely.box(0, -90, 180, 90))
        there = shapely.intersection(unrolled, shapely.box(180, -90, 360, 90))
        sides = [here, shapely.transform(there, lambda c: c - [360, 0])]
        world[k] = shapely.multipolygons([p for p in shapely.get_parts(sides) if p.area > 0])
    fixed: Geometries = shapely.orient_polygons(world)
    return fixed
