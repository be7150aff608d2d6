"""Where pictures were taken, as GeoParquet 1.1: one row for each picture, with or without an answer.

A row is a mapping with the names of ``SCHEMA``; what is absent is null. Answers may be rounded to a region before they
are written: then no column tells more than the region does.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyproj
import shapely
from numpy.typing import ArrayLike, NDArray

from geoml.errors import InputError
from geoml.geolocation.pictures.prepare import Row
from geoml.grid import sphere
from geoml.io.stores.store import atomic
from geoml.texts import listed

STATUSES = ("ok", "abstained", "unreadable", "refused")
FLAGS = ("agree", "suspicious", "absent")
WITHIN_KM = (1, 25, 200, 750, 2500)
ROW_GROUP = 20_000

_EDGES = ("xmin", "ymin", "xmax", "ymax")
_F, _S = pa.float64(), pa.string()
_TOP = pa.struct([("rank", pa.int32()), ("lat", _F), ("lon", _F), ("p", _F), ("cell_id", _S), ("country", _S),
                  ("admin1", _S), ("name", _S)])  # fmt: skip
_CELL = pa.struct([("cell_id", _S), ("level", pa.int32()), ("p", _F)])
_NEIGHBOUR = pa.struct([("image_id", _S), ("score", _F), ("lat", _F), ("lon", _F)])

SCHEMA = pa.schema(
    [
        pa.field("image_id", _S, nullable=False),
        ("source_uri", _S),
        ("sha256", _S),
        pa.field("status", _S, nullable=False),
        ("lat", _F),
        ("lon", _F),
        *[(f"p_within_{km}km", _F) for km in WITHIN_KM],
        ("radius_50_km", _F),
        ("radius_90_km", _F),
        ("area_90_km2", _F),
        ("entropy", _F),
        ("expected_geoscore", _F),
        ("localizable", pa.bool_()),
        ("reason", _S),
        ("topk", pa.list_(_TOP)),
        ("cells", pa.list_(_CELL)),
        ("exif_lat", _F),
        ("exif_lon", _F),
        ("exif_error_km", _F),
        ("exif_flag", _S),
        ("neighbours", pa.list_(_NEIGHBOUR)),
        ("model_id", _S),
        ("model_sha256", _S),
        ("gallery_sha256", _S),
        ("calibration_id", _S),
        ("disclosed_precision", _S),
        ("run_id", _S),
        ("created", pa.timestamp("us", tz="UTC")),
        ("bbox", pa.struct([(e, _F) for e in _EDGES])),
        ("geometry", pa.binary()),
    ]
)
"""Columns of the file. ``bbox`` and ``geometry`` (WKB points) are made from ``lon`` and ``lat`` when it is written.

``p_within_*`` is the probability that the place lies within so many km of the answer, ``radius_*_km`` the radius around
it that holds 50 or 90 %, ``area_90_km2`` the area of the smallest region that holds 90 %. ``disclosed_precision`` is
``exact`` or ``region:N`` with the km that answers were rounded to, ``none`` where there is no answer.
"""

MAP_COLUMNS = pa.schema(
    [
        ("stage", pa.string()),
        ("footprint", pa.binary()),
        ("error_m", _F),
        ("cov_ee", _F),
        ("cov_en", _F),
        ("cov_nn", _F),
        ("inliers", pa.int32()),
        ("p_right", _F),
        ("gsd_m", _F),
        ("heading_deg", _F),
        ("reference", pa.string()),
    ]
)
"""Columns of a picture that was matched with a map, in addition to those of `SCHEMA`.

``stage``: ``match`` where the answer is a place on the map, ``cells`` where it is a locator's, null without one.

``footprint`` is the WKB polygon or multipolygon that the picture shows, in degrees; ``error_m`` one standard deviation
along an axis, ``cov_*`` the covariance of (east, north) in square metres; ``inliers`` of the best candidate and
``p_right``, the probability that so many are right, also where it was not accepted; ``gsd_m`` metres of a pixel of the
picture, ``heading_deg`` where its upper edge looks, from north; ``reference`` the file, frame or item it was found in.
"""

_ANSWER = ("lat", "lon", *(f"p_within_{km}km" for km in WITHIN_KM), "radius_50_km", "radius_90_km", "area_90_km2",
           "entropy", "expected_geoscore", "topk", "cells", "neighbours", "exif_error_km")  # fmt: skip
_KM_PER_DEGREE = math.pi * sphere.EARTH_RADIUS_KM / 180


def round_to(lon: ArrayLike, lat: ArrayLike, km: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The middles of the cells, about ``km`` wide and high, that positions lie in.

    Rows of the grid have one height in degrees; each holds a whole number of cells of one width, so that none is cut at
    the antimeridian, and cells get wider in degrees towards the poles. All positions in a cell give the same answer.
    Raises InputError unless ``km`` is positive and positions are finite.
    """
    x, y = np.broadcast_arrays(np.asarray(lon, float), np.asarray(lat, float))
    if not (0 < km < math.inf and np.isfinite(x).all() and np.isfinite(y).all() and (np.abs(y) <= 90).all()):
        raise InputError(f"round_to: {km} km; expected a positive number, and positions in degrees")
    rows = max(1, round(180 * _KM_PER_DEGREE / km))
    row = np.clip(np.floor((y + 90) / 180 * rows), 0, rows - 1)
    middle = (row + 0.5) / rows * 180 - 90
    count = np.maximum(1, np.round(360 * _KM_PER_DEGREE * np.cos(np.radians(middle)) / km))
    column = np.clip(np.floor((sphere.wrap(x) + 180) / 360 * count), 0, count - 1)
    return (column + 0.5) / count * 360 - 180, middle


def exif_flag(row: Row, slack_km: float = 0.0) -> tuple[str, float | None]:
    """(flag, km between the answer and the position in the EXIF).

    ``agree`` when the EXIF lies within the 90 % radius of the answer and ``slack_km``, ``suspicious`` when outside of
    it, ``absent`` when there is no EXIF position, no answer, or no radius.
    """
    parts = [row.get(k) for k in ("lon", "lat", "exif_lon", "exif_lat", "radius_90_km")]
    if any(p is None for p in parts):
        return "absent", None
    lon, lat, x, y, radius = (float(p) for p in parts if p is not None)
    km = float(sphere.distance(lon, lat, x, y))
    return ("agree" if km <= radius + slack_km else "suspicious"), km


def rounded(row: Row, km: float) -> Row:
    """The row with its answer rounded to a region of about ``km``; nothing else in it tells the place more finely.

    Two answers in one cell of the grid differ in no position. Radii and areas cover at least the cell (its half
    diagonal), probabilities within less than that are null, and so are cells, neighbours, entropy and what is computed
    from the exact answer (``exif_error_km`` is measured from the rounded one). Candidates are rounded, merged where
    they fall together, and lose their cell and the names below the country. The position in the EXIF is rounded too;
    ``disclosed_precision`` says ``region:KM``.
    """
    out = dict(row)
    out["disclosed_precision"] = f"region:{km:g}"
    if row.get("exif_lon") is not None and row.get("exif_lat") is not None:
        out["exif_lon"], out["exif_lat"] = _one(float(row["exif_lon"]), float(row["exif_lat"]), km)
    for name in ("cells", "neighbours", "entropy", "exif_error_km"):
        out[name] = None
    if row.get("lon") is None or row.get("lat") is None:
        return {**out, "topk": None, "lon": None, "lat": None}
    # the flag is that of the exact positions, a single bit; the distance is that of the rounded ones
    out["exif_flag"] = row.get("exif_flag") or exif_flag(row)[0]
    out["lon"], out["lat"] = _one(float(row["lon"]), float(row["lat"]), km)
    half = half_diagonal(out["lat"], km)
    for name in ("radius_50_km", "radius_90_km"):
        if row.get(name) is not None:
            out[name] = _up(float(row[name]) + half, km)
    if row.get("area_90_km2") is not None:
        out["area_90_km2"] = _up(max(float(row["area_90_km2"]), km * km), km * km)
    for near in WITHIN_KM:
        value = row.get(f"p_within_{near}km")
        out[f"p_within_{near}km"] = None if value is None or near < 2 * half else round(float(value), 2)
    if row.get("expected_geoscore") is not None:
        out["expected_geoscore"] = round(float(row["expected_geoscore"]), -1)
    out["topk"] = _candidates(row.get("topk"), km)
    if out.get("exif_lon") is not None:
        out["exif_error_km"] = float(sphere.distance(out["lon"], out["lat"], out["exif_lon"], out["exif_lat"]))
    return out


def half_diagonal(lat: float, km: float) -> float:
    """Km from the middle of a cell of `round_to` at latitude ``lat`` to its farthest corner."""
    rows = max(1, round(180 * _KM_PER_DEGREE / km))
    count = max(1, round(360 * _KM_PER_DEGREE * math.cos(math.radians(lat)) / km))
    corners = [min(90.0, max(-90.0, lat + s * 90 / rows)) for s in (-1, 1)]
    return float(max(sphere.distance(0.0, lat, 180 / count, y) for y in corners))


def joined(more: pa.Schema | None) -> pa.Schema:
    """``SCHEMA`` with the columns ``more`` behind it, and bounds ``NAME_bbox`` of each geometry ``NAME`` in them."""
    boxes = [(f"{name}_bbox", SCHEMA.field("bbox").type) for name in _shapes(more)]
    return pa.schema([*SCHEMA, *(more or []), *boxes])


def _shapes(more: pa.Schema | None) -> list[str]:
    return [f.name for f in more or [] if f.type == pa.binary()]


def write(rows: Iterable[Row], path: Path, more: pa.Schema | None = None) -> int:
    """Write rows as GeoParquet 1.1, atomically and in their order; how many there were.

    ``exif_flag`` and ``exif_error_km`` are filled in where a row leaves them out. ``more`` are further columns; the
    binary ones among them hold WKB in degrees and are declared as geometries. At most ``ROW_GROUP`` rows are held at
    once. Raises InputError for an unknown column, status or flag, a number that is not finite or a position out of
    range, DataError if the file cannot be written.
    """
    schema = joined(more)
    shapes = {"geometry": _Extent(), **{name: _Extent() for name in _shapes(more)}}
    total = 0
    with atomic(Path(path)) as temporary:
        try:
            writer = pq.ParquetWriter(
                temporary, schema, compression="zstd", version="2.6", write_page_checksum=True, use_dictionary=True
            )
            with writer:
                for batch in _batches(rows, set(schema.names)):
                    for name in _shapes(more):
                        for row in batch:
                            row[f"{name}_bbox"] = _bounds(row.get(name))
                    writer.write_table(pa.Table.from_pylist(batch, schema=schema))
                    for name, extent in shapes.items():
                        extent.add([row[name] for row in batch if row.get(name) is not None])
                    total += len(batch)
                writer.add_key_value_metadata({"geo": json.dumps(_metadata(shapes))})
        except pa.ArrowException as err:
            raise InputError(f"rows: do not fit the schema of geolocations ({err})") from err
    return total


def _batches(rows: Iterable[Row], names: set[str]) -> Iterable[list[Row]]:
    batch: list[Row] = []
    for row in rows:
        batch.append(_checked(row, names))
        if len(batch) == ROW_GROUP:
            yield batch
            batch = []
    if batch:
        yield batch


def _checked(row: Row, names: set[str]) -> Row:
    name = row.get("image_id")
    if unknown := set(row) - names:
        raise InputError(f"row {name}: unknown columns {listed(sorted(unknown))}")
    if not isinstance(name, str) or row.get("status") not in STATUSES:
        raise InputError(f"row {name}: status {row.get('status')!r}; expected an image_id and one of {STATUSES}")
    out = dict(row)
    for key, value in row.items():
        if isinstance(value, float | np.floating) and not math.isfinite(value):
            raise InputError(f"row {name}: {key} is {value}; expected a finite number or null")
    if row["status"] in ("unreadable", "refused") and any(row.get(k) is not None for k in _ANSWER):
        raise InputError(f"row {name}: is {row['status']} and has an answer")
    flag, km = exif_flag(row)
    out["exif_flag"] = row.get("exif_flag") or flag
    if out["exif_flag"] not in FLAGS:
        raise InputError(f"row {name}: exif_flag {out['exif_flag']!r}; expected one of {FLAGS}")
    out["exif_error_km"] = km if row.get("exif_error_km") is None else row["exif_error_km"]
    lon, lat = row.get("lon"), row.get("lat")
    if (lon is None) != (lat is None) or (lon is not None and not (-180 <= lon <= 180 and -90 <= (lat or 0) <= 90)):
        raise InputError(f"row {name}: lon {lon}, lat {lat}; expected degrees, or both null")
    placed = lon is not None and lat is not None
    out["geometry"] = shapely.to_wkb(shapely.Point(lon, lat)) if placed else None
    out["bbox"] = _bounds(out["geometry"])
    return out


def _bounds(wkb: bytes | None) -> dict[str, float] | None:
    return None if wkb is None else dict(zip(_EDGES, shapely.from_wkb(wkb).bounds, strict=True))


class _Extent:
    """What the metadata say of a geometry column: its kinds and bounds."""

    def __init__(self) -> None:
        self.kinds: set[str] = set()
        self.bounds = [math.inf, math.inf, -math.inf, -math.inf]

    def add(self, wkb: Sequence[bytes]) -> None:
        if not wkb:
            return
        shapes = shapely.from_wkb(wkb)
        self.kinds |= {shape.geom_type for shape in shapes}
        edges = shapely.total_bounds(shapes).tolist()
        self.bounds = [*map(min, self.bounds[:2], edges[:2]), *map(max, self.bounds[2:], edges[2:])]

    def column(self) -> Row:
        crs = pyproj.CRS.from_user_input("OGC:CRS84").to_json_dict()
        column = {"encoding": "WKB", "geometry_types": sorted(self.kinds), "crs": crs}
        return column | ({"bbox": self.bounds} if self.kinds else {})


def _metadata(shapes: Mapping[str, _Extent]) -> Row:
    columns = {name: extent.column() for name, extent in shapes.items()}
    for name, column in columns.items():
        box = "bbox" if name == "geometry" else f"{name}_bbox"
        column["covering"] = {"bbox": {edge: [box, edge] for edge in _EDGES}}
    return {"version": "1.1.0", "primary_column": "geometry", "columns": columns}


def _one(lon: float, lat: float, km: float) -> tuple[float, float]:
    x, y = round_to(lon, lat, km)
    return float(x), float(y)


def _up(value: float, step: float) -> float:
    """The next multiple of ``step`` from above: a radius or area with many digits would be a fingerprint."""
    return math.ceil(value / step - 1e-9) * step


def _candidates(topk: Sequence[Row] | None, km: float) -> list[Row] | None:
    """Candidates on the grid; those of one cell are one with the sum of their probabilities, best first."""
    if topk is None:
        return None
    merged: dict[tuple[float, float], Row] = {}
    for one in topk:
        at = _one(float(one["lon"]), float(one["lat"]), km)
        candidate = merged.setdefault(at, {"lon": at[0], "lat": at[1], "p": 0.0, "country": one.get("country")})
        candidate["p"] += float(one.get("p") or 0.0)
        if candidate["country"] != one.get("country"):
            candidate["country"] = None
    best = sorted(merged.values(), key=lambda c: (-c["p"], c["lon"], c["lat"]))
    return [{"rank": k, **c, "p": round(c["p"], 3), "cell_id": None, "admin1": None, "name": None}
            for k, c in enumerate(best, start=1)]  # fmt: skip
