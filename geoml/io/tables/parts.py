"""Polygons of one block on disk, until all blocks are there: those inside are rows already, those on edges are not.

Two row groups of one table: polygons on edges in pixel coordinates of the plane, then the columns of
`geoml.io.tables.features.on_ground`. A part of an earlier geoml has polygons in pixel coordinates only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import shapely

from geoml.errors import DataError, InputError
from geoml.grid.plane import Block
from geoml.io.stores.store import atomic, check_regular
from geoml.io.tables import wkb
from geoml.io.tables.features import GROUND, on_ground, outlined
from geoml.vector.merge import shared, split
from geoml.vector.polygons import Polygons
from geoml.vector.rings import Rings

_SCHEMA = pa.schema(
    {
        **dict.fromkeys(GROUND, pa.float64()),
        "geometry": pa.binary(),
        "several": pa.bool_(),
        "value": pa.uint8(),
        **dict.fromkeys(("pixels", "row", "col"), pa.int64()),
    }
)


@dataclass(frozen=True)
class PolygonPart:
    """What a block left: polygons on its edges, and `GROUND` (or some of these columns) of those inside.

    Of an earlier geoml all of its polygons as they were traced: ``raw``.
    """

    edge: Polygons
    inner: pa.Table
    raw: bool = False

    def finished(self, block: Block, *, whole: bool = True) -> PolygonPart:
        """As `write_part` writes it."""
        return _finished(block, self.edge, whole=whole) if self.raw else self


def _finished(block: Block, polygons: Polygons, *, whole: bool) -> PolygonPart:
    """The part of polygons as they were traced."""
    polygons = shared(block, polygons)
    if not whole:
        return PolygonPart(polygons, _SCHEMA.empty_table())
    inner, edge = split(block, polygons)
    ground = [table.cast(_SCHEMA) for _, table in on_ground(outlined(inner))]
    return PolygonPart(edge, pa.concat_tables([_SCHEMA.empty_table(), *ground]))


def write_part(block: Block, polygons: Polygons, path: Path, *, whole: bool = True) -> None:
    """Write the polygons of a block as ``polygonise`` gives them as Parquet, atomically; none inside is finished
    without ``whole``. Raises DataError."""
    part = _finished(block, polygons, whole=whole)
    edge = part.edge
    columns = {name: pa.nulls(len(edge), _SCHEMA.field(name).type) for name in GROUND}
    columns |= {"geometry": wkb.of_rings(edge.rings), "value": edge.value, "pixels": edge.pixels}
    columns |= {"confidence_sum": edge.confidence_sum, "outside": edge.outside}
    groups = pa.table(columns, schema=_SCHEMA), part.inner
    options = {"compression": "zstd", "write_page_checksum": True}
    with atomic(path) as temporary, pq.ParquetWriter(temporary, _SCHEMA, **options) as file:
        for table in groups:
            file.write_table(table, row_group_size=max(len(table), 1))


def read_edges(path: Path) -> PolygonPart:
    """Polygons on edges, and of those inside bounds, area, class and type. Raises DataError for a damaged file."""
    return _read(path, lambda file: PolygonPart(_polygons(file.read_row_group(0)), _inner(file, GROUND[1:8])))


def read_inside(path: Path) -> PolygonPart:
    """`GROUND` of those inside, without edges. Raises DataError for a missing or damaged file."""
    return _read(path, lambda file: PolygonPart(_polygons(_SCHEMA.empty_table()), _inner(file, GROUND)))


def _inner(file: pq.ParquetFile, columns: Sequence[str]) -> pa.Table:
    return file.read_row_groups(list(range(1, file.num_row_groups)), columns=list(columns))


def _read(path: Path, read: Callable[[pq.ParquetFile], PolygonPart]) -> PolygonPart:
    try:
        with pq.ParquetFile(check_regular(path), page_checksum_verification=True) as file:
            if "area_m2" not in file.schema_arrow.names:
                return PolygonPart(_polygons(file.read()), _SCHEMA.empty_table(), raw=True)
            return read(file)
    except (OSError, KeyError, InputError, pa.ArrowException, shapely.errors.ShapelyError) as err:
        raise DataError(f"{path}: polygons of a block are not readable ({err})") from err


def _polygons(table: pa.Table) -> Polygons:
    geometry = np.asarray(shapely.from_wkb(table["geometry"].to_numpy()), dtype=object)
    return Polygons(
        rings=Rings.of(geometry),
        value=table["value"].to_numpy(),
        pixels=table["pixels"].to_numpy(),
        confidence_sum=table["confidence_sum"].to_numpy(),
        outside=table["outside"].to_numpy() if "outside" in table.column_names else np.full(len(table), np.nan),
    )
