"""Tracks as two files of GeoParquet 1.1: a point for each position, a line for each track.

Rows come in the order of time and are written in it, a group at a time, so that a film of any length fits into memory.
Geometries are in longitude and latitude, or, where nothing says where on the Earth that is, in metres on a plane of its
own without a CRS.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyproj
import shapely
from numpy.typing import NDArray

from geoml.errors import InputError
from geoml.io.stores.store import atomic
from geoml.io.tables.geoparquet import BBOX, EDGES, bbox_column

GROUP = 20_000
"""Rows of a group: more are not held in memory."""
_TIME = pa.timestamp("us", tz="UTC")
POSITIONS = pa.schema(
    {
        "id": pa.int64(),
        "frame": pa.int64(),
        "time": _TIME,
        **dict.fromkeys(("seconds", "lon", "lat", "x", "y", "speed_kmh", "speed_sd_kmh"), pa.float64()),
        "moving": pa.bool_(),
        "heading": pa.float64(),
        "class": pa.string(),
        "confidence": pa.float64(),
        "bbox": BBOX,
        "geometry": pa.binary(),
    }
)
"""Of rows of positions."""
TRACKS = pa.schema(
    {
        "id": pa.int64(),
        "class": pa.string(),
        **dict.fromkeys(("start", "end"), _TIME),
        **dict.fromkeys(("start_seconds", "end_seconds"), pa.float64()),
        "n": pa.int64(),
        **dict.fromkeys(("length_m", "mean_speed_kmh", "max_speed_kmh"), pa.float64()),
        "gaps": pa.int64(),
        "longest_gap_seconds": pa.float64(),
        "bbox": BBOX,
        "geometry": pa.binary(),
    }
)
"""Of rows of tracks."""


def tracks_path(out: Path) -> Path:
    """Where the lines of the positions in ``out`` are. Raises InputError for another suffix than .parquet."""
    if out.suffix.lower() != ".parquet":
        raise InputError(f"out: {str(out)!r}; expected the name of a .parquet file")
    return out.with_suffix(".tracks.parquet")


class RowFile:
    """A file of one schema that takes rows in their order; made by `opened`."""

    def __init__(self, writer: pq.ParquetWriter, schema: pa.Schema, degrees: bool, kind: str) -> None:
        self._writer, self._schema, self._degrees, self._kind = writer, schema, degrees, kind
        self._rows: list[Mapping[str, Any]] = []
        self._shapes: list[shapely.Geometry] = []
        self._bounds = np.array([np.inf, np.inf, -np.inf, -np.inf])
        self.count = 0

    def add(self, row: Mapping[str, Any], shape: shapely.Geometry) -> None:
        """Take a row without ``bbox`` and ``geometry``, and its geometry."""
        self._rows.append(row)
        self._shapes.append(shape)
        if len(self._rows) == GROUP:
            self._flush()

    def finish(self, about: Mapping[str, object]) -> None:
        """Write what is left, the key ``geo``, and ``about`` as the key ``geoml``."""
        self._flush()
        column: dict[str, object] = {
            "encoding": "WKB",
            "geometry_types": [self._kind] if self.count else [],
            "crs": pyproj.CRS.from_epsg(4326).to_json_dict() if self._degrees else None,
            "edges": "planar",
            "covering": {"bbox": {edge: ["bbox", edge] for edge in EDGES}},
        }
        if self.count:
            column["bbox"] = self._bounds.tolist()
        geo = {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}}
        self._writer.add_key_value_metadata({"geo": json.dumps(geo), "geoml": json.dumps(dict(about))})

    def _flush(self) -> None:
        if not self._rows:
            return
        shapes = np.array(self._shapes, object)
        bounds: NDArray[np.float64] = shapely.bounds(shapes)
        self._bounds = np.concatenate(
            [np.minimum(self._bounds[:2], bounds[:, :2].min(0)), np.maximum(self._bounds[2:], bounds[:, 2:].max(0))]
        )
        plain = pa.schema([f for f in self._schema if f.name not in ("bbox", "geometry")])
        table = pa.Table.from_pylist(self._rows, schema=plain)
        table = table.append_column("bbox", bbox_column(bounds))
        table = table.append_column("geometry", pa.array(shapely.to_wkb(shapes), pa.binary()))
        self._writer.write_table(table, row_group_size=GROUP)
        self.count += len(self._rows)
        self._rows, self._shapes = [], []


@contextmanager
def opened(out: Path, degrees: bool) -> Iterator[tuple[RowFile, RowFile]]:
    """(positions, tracks) to write; both appear when the body ends well, and neither after an error.

    ``degrees``: geometries are in longitude and latitude, WGS 84. Raises InputError for a name without the suffix
    .parquet and DataError if nothing can be written.
    """
    lines = tracks_path(out)
    options: dict[str, Any] = {"compression": "zstd", "use_dictionary": ["class"], "write_page_checksum": True}
    with (
        atomic(out) as first,
        atomic(lines) as second,
        pq.ParquetWriter(first, POSITIONS, **options) as one,
        pq.ParquetWriter(second, TRACKS, **options) as two,
    ):
        yield RowFile(one, POSITIONS, degrees, "Point"), RowFile(two, TRACKS, degrees, "LineString")


def line(points: Sequence[tuple[float, float]]) -> shapely.LineString:
    """A line through points; of one point it has that twice, since lines have two ends."""
    return shapely.LineString(points if len(points) > 1 else [*points, *points])
