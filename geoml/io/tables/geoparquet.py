"""Rows as GeoParquet 1.1 (https://geoparquet.org/releases/v1.1.0/) along a Hilbert curve, of any number.

The curve runs through the middles of all rows, so it takes a first look at their bounds. Then rows go to buckets by
where they lie on it, on disk if they are many, and are sorted bucket by bucket: what is held at once is a bucket.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import geopandas
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pyproj
import shapely
from numpy.typing import NDArray

from geoml.io.stores.store import atomic, os_failure

ROW_GROUP = 20_000
HELD, HELD_BYTES = 200_000, 2**28
"""Rows, and their bytes, that are sorted at once."""
EDGES = ("xmin", "ymin", "xmax", "ymax")
BBOX = pa.struct([(edge, pa.float64()) for edge in EDGES])
WKB_TYPES = {
    1: "Point", 2: "LineString", 3: "Polygon", 4: "MultiPoint", 5: "MultiLineString", 6: "MultiPolygon",
    7: "GeometryCollection",
}  # fmt: skip
_BITS = 32
"""Of a place on the curve."""


class Extent:
    """What is known of rows before they are sorted: how many, where, and of which types of geometry."""

    def __init__(self) -> None:
        self.rows = 0
        self.types: set[str] = set()
        self.bounds, self.middles = (np.array([np.inf, np.inf, -np.inf, -np.inf]) for _ in range(2))

    def add(self, bounds: NDArray[np.float64], types: Iterable[str]) -> None:
        """Take (n, 4) bounds of rows and the types among them."""
        if len(bounds):
            self.rows += len(bounds)
            self.types |= set(types)
            self.bounds = _hull(self.bounds, bounds)
            self.middles = _hull(self.middles, np.tile((bounds[:, :2] + bounds[:, 2:]) / 2, 2))

    def along(self, table: pa.Table) -> NDArray[np.uint32]:
        """(n,) where rows lie on the curve."""
        xmin, ymin, xmax, ymax = bounds_of(table).T
        middle = geopandas.GeoSeries(shapely.points((xmin + xmax) / 2, (ymin + ymax) / 2))
        return np.asarray(middle.hilbert_distance(total_bounds=self.middles), np.uint32)

    def metadata(self) -> bytes:
        """The key ``geo`` of the file."""
        column: dict[str, object] = {
            "encoding": "WKB",
            "geometry_types": sorted(self.types),
            "crs": pyproj.CRS.from_epsg(4326).to_json_dict(),
            "orientation": "counterclockwise",
            "edges": "planar",
            "covering": {"bbox": {edge: ["bbox", edge] for edge in EDGES}},
        }
        if self.rows:
            column["bbox"] = self.bounds.tolist()
        return json.dumps({"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}}).encode()


class Spill:
    """Tables of one schema, kept in memory until they are many and on disk from then on."""

    def __init__(self, path: Path, schema: pa.Schema, held: int) -> None:
        self.path, self.schema, self.held = path, schema, held
        self.rows = self.nbytes = 0
        self._fresh: list[pa.Table] = []
        self._file: pa.RecordBatchStreamWriter | None = None

    def add(self, table: pa.Table) -> None:
        """Take rows. Raises OSError if the disk is full."""
        self.rows, self.nbytes = self.rows + len(table), self.nbytes + table.nbytes
        self._fresh.append(table)
        if sum(map(len, self._fresh)) > self.held:
            if self._file is None:
                self._file = pa.ipc.new_stream(self.path, self.schema)
            for fresh in self._fresh:
                self._file.write_table(fresh)
            self._fresh = []

    def tables(self) -> Iterator[pa.Table]:
        """All rows, in the order in which they came; ends the writing."""
        if self._file is not None:
            self._file.close()
            with pa.OSFile(str(self.path)) as file, pa.ipc.open_stream(file) as batches:
                yield from (pa.Table.from_batches([batch]) for batch in batches)
        yield from self._fresh

    def drop(self) -> None:
        """Forget the rows."""
        self._fresh = []
        self.path.unlink(missing_ok=True)


@contextmanager
def scratch(path: Path) -> Iterator[Path]:
    """A folder beside ``path`` for what does not fit into memory; what a killed process left of it goes first.

    Raises, naming ``path``, what `os_failure` says.
    """
    folder = path.with_name(f".{path.name}.rows.part")
    try:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        yield folder
    except OSError as err:
        raise os_failure(path, err) from err
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def write_sorted(tables: Iterable[pa.Table], extent: Extent, schema: pa.Schema, path: Path, folder: Path) -> None:
    """Write rows: WKB, a bbox covering column, zstd, ordered by the curve and then by id. Atomic.

    Args:
        tables: of the ``schema``, which has ``id``, ``bbox`` and ``geometry``.
        extent: of all of them.
        schema: of the file.
        path: of the file.
        folder: of `scratch`.

    Raises OSError, as `atomic` does.
    """
    repeated = [c for c in ("name", "model", "from", "to", "plane") if c in schema.names]
    options = {"compression": "zstd", "use_dictionary": repeated, "version": "2.6", "write_page_checksum": True}
    said = schema.with_metadata({**(schema.metadata or {}), "geo": extent.metadata()})
    with atomic(path) as temporary, pq.ParquetWriter(temporary, said, **options) as file:
        waiting = schema.empty_table()
        for table in _in_order(tables, extent, schema, folder):
            waiting = pa.concat_tables([waiting, table])
            while len(waiting) >= ROW_GROUP:
                file.write_table(waiting.slice(0, ROW_GROUP).combine_chunks(), row_group_size=ROW_GROUP)
                waiting = waiting.slice(ROW_GROUP)
        if len(waiting):  # an empty row group would have no bounds
            file.write_table(waiting.combine_chunks(), row_group_size=ROW_GROUP)


def write_in_order(table: pa.Table, path: Path) -> None:
    """Write rows with ``bbox`` and ``geometry`` in their own order. Atomic; raises DataError if that fails."""
    extent = Extent()
    extent.add(bounds_of(table), types_of(table))
    said = table.replace_schema_metadata({**(table.schema.metadata or {}), "geo": extent.metadata()})
    with atomic(path) as temporary:
        pq.write_table(said, temporary, compression="zstd", version="2.6", write_page_checksum=True)


def bounds_of(table: pa.Table) -> NDArray[np.float64]:
    """(n, 4) of the column ``bbox``."""
    bbox = table["bbox"].combine_chunks()
    return np.stack([bbox.field(edge).to_numpy() for edge in EDGES], 1) if len(table) else np.empty((0, 4))


def types_of(table: pa.Table) -> set[str]:
    """Types of the column ``geometry``, which is WKB in little endian."""
    found = set(pc.unique(pc.binary_slice(table["geometry"], 1, 2)).to_pylist())
    return {WKB_TYPES[kind[0]] for kind in found}


def bbox_column(bounds: NDArray[np.float64]) -> pa.Array:
    """The column ``bbox`` of (n, 4) bounds."""
    return pa.StructArray.from_arrays([pa.array(np.ascontiguousarray(b)) for b in bounds.T], EDGES)


def _in_order(tables: Iterable[pa.Table], extent: Extent, schema: pa.Schema, folder: Path) -> Iterator[pa.Table]:
    """All rows in the order of the curve."""
    whole = Spill(folder / "all", schema, HELD)
    if extent.rows <= HELD:
        for table in tables:
            whole.add(table)
        if whole.nbytes <= HELD_BYTES:
            yield _ordered(whole, extent)
            return
        tables = whole.tables()
    yield from _bucketed(tables, extent, max(extent.rows / HELD, whole.nbytes / HELD_BYTES), _BITS, whole)


def _bucketed(tables: Iterable[pa.Table], extent: Extent, times: float, left: int, parent: Spill) -> Iterator[pa.Table]:
    """Rows that are ``times`` too many, ordered by way of buckets; ``left`` bits of their places tell them apart."""
    bits = min(left, max(1, min(8, math.ceil(math.log2(2 * times)))))
    buckets: dict[int, Spill] = {}
    for table in tables:
        bucket = (extent.along(table) >> np.uint32(left - bits)) & np.uint32(2**bits - 1)
        order = np.argsort(bucket, kind="stable")
        names, starts = np.unique(bucket[order], return_index=True)
        for name, rows in zip(names.tolist(), np.split(order, starts[1:]), strict=True):
            path = parent.path.with_name(f"{parent.path.name}-{name}")
            spill = buckets.setdefault(name, Spill(path, parent.schema, HELD >> bits))
            spill.add(table.take(rows))
    parent.drop()
    for name in sorted(buckets):
        spill = buckets.pop(name)
        more = max(spill.rows / HELD, spill.nbytes / HELD_BYTES)
        if more <= 1 or left == bits:
            yield _ordered(spill, extent)
            spill.drop()
        else:
            yield from _bucketed(spill.tables(), extent, more, left - bits, spill)


def _ordered(spill: Spill, extent: Extent) -> pa.Table:
    table = pa.concat_tables([spill.schema.empty_table(), *spill.tables()]).combine_chunks()
    keys = pa.table({"along": extent.along(table), "id": table["id"]})
    return table.take(pc.sort_indices(keys, [("along", "ascending"), ("id", "ascending")]))


def _hull(one: NDArray[np.float64], bounds: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.concatenate(
        [np.minimum(one[:2], bounds[:, :2].min(axis=0)), np.maximum(one[2:], bounds[:, 2:].max(axis=0))]
    )
