"""The tables of a series: one part for each day, in a folder that is read as one table.

``features.parquet/2024-06-01.parquet``: a night writes the parts of the days that changed and nothing else. Readers of
folders (pyarrow, geopandas, DuckDB) take the columns of the first part, so that every part has the columns of all, and
where a column is new the first part gets it last.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pystac

from geoml.errors import DataError
from geoml.io.stac.catalog import Catalog
from geoml.io.stac.item_stream import widened
from geoml.io.stac.table import read_items, write_items
from geoml.io.stores.remote import RunStore
from geoml.io.stores.store import atomic

EMPTY = "empty"
"""Name of the part without rows that a table has when no day is left."""

NEXT = ".geoml/next"
"""Folder for parts that are not of one schema with the others yet."""


def part_name(name: str, day: str) -> str:
    """Name of the part of a day in the series, of the table ``name``."""
    return f"{name}/{day}.parquet"


def days_of(store: RunStore, name: str) -> list[str]:
    """The days of which a table has a part, oldest first."""
    days = (file.removeprefix(f"{name}/").removesuffix(".parquet") for file in store.sizes(name))
    return sorted(day for day in days if day != EMPTY)


def put_parts(
    store: RunStore, name: str, made: Mapping[str, Path], ids: Mapping[str, Sequence[str]] | None = None
) -> None:
    """Make the GeoParquet or Parquet files ``made``, by day, parts of a table, each atomically, and publish them.

    A column that some parts lack is null there; a column has the widest of its types. ``ids`` of the rows of a day
    replace those in the column ``id``. One row group is in memory at a time. Raises DataError for files that
    cannot be read, that do not fit the others, or when a part cannot be written.
    """
    there = days_of(store, name)
    first = part_name(name, there[0]) if there else part_name(name, EMPTY)
    store.pull(first)
    try:
        present = [pq.read_schema(store.local / first)] if (store.local / first).is_file() else []
        schema = pa.unify_schemas([*present, *map(pq.read_schema, made.values())], promote_options="permissive")
        older = set(there) if present and not present[0].equals(schema) else set()
        if older:
            store.pull(f"{name}/")
        for day in sorted({*made, *older}, reverse=True):
            path = store.inside(part_name(name, day))
            _copy(made.get(day, path), path, schema, (ids or {}).get(day))
            store.push(part_name(name, day))
    except (OSError, pa.ArrowException, ValueError, LookupError, TypeError) as err:
        raise DataError(f"{store.url}/{name}: the parts of the days do not fit together ({err})") from err
    store.remove(part_name(name, EMPTY))


def drop_parts(store: RunStore, name: str, days: Iterable[str]) -> None:
    """Take the parts of days away. Of a table without any day its columns stay, so that it can still be read."""
    there = set(days_of(store, name))
    gone = sorted(there & set(days))
    if gone and there == set(gone):
        store.pull(last := part_name(name, gone[-1]))
        try:
            with atomic(store.inside(part_name(name, EMPTY))) as temporary:
                pq.write_table(pq.read_schema(store.local / last).empty_table(), temporary)
        except (pa.ArrowException, ValueError) as err:
            raise DataError(f"{store.url}/{last}: not readable ({err})") from err
        store.push(part_name(name, EMPTY))
    store.remove(*(part_name(name, day) for day in gone))


def put_items(
    store: RunStore,
    name: str,
    made: Mapping[str, Sequence[pystac.Item]],
    *,
    catalog: Catalog | None = None,
    left_out: Mapping[str, str] | None = None,
) -> None:
    """Items by day as parts of a stac-geoparquet table, as `put_parts`; what fits no column of it is kept as JSON."""

    def write(whole: bool) -> dict[str, Path]:
        files = {day: store.inside(f"{NEXT}/{part_name(name, day)}") for day in made}
        for day, items in made.items():
            write_items(items, files[day], catalog=catalog, left_out=left_out, whole=whole)
        return files

    try:
        try:
            put_parts(store, name, write(False))
        except DataError as err:
            if not isinstance(err.__cause__, pa.ArrowException):
                raise
            put_parts(store, name, write(True))
    finally:
        shutil.rmtree(store.local / NEXT, ignore_errors=True)


def items_of_day(store: RunStore, name: str, day: str) -> list[pystac.Item]:
    """The items in the part of a day; none where there is no part."""
    store.pull(part_name(name, day))
    path = store.inside(part_name(name, day))
    return read_items(path) if path.is_file() else []


def read_column(path: Path, name: str) -> list[object]:
    """The values of a column of a part; none where there is no file. Raises DataError for a damaged one."""
    try:
        return list(pq.read_table(path, columns=[name])[name].to_pylist()) if path.is_file() else []
    except (OSError, pa.ArrowException, ValueError, KeyError) as err:
        raise DataError(f"{path}: not readable ({err})") from err


def _copy(source: Path, path: Path, schema: pa.Schema, ids: Sequence[str] | None) -> None:
    file, at = pq.ParquetFile(source, page_checksum_verification=True), 0
    own = schema.with_metadata(file.schema_arrow.metadata)
    with (
        atomic(path) as temporary,
        pq.ParquetWriter(temporary, own, compression="zstd", version="2.6", write_page_checksum=True) as out,
    ):
        for group in range(file.num_row_groups):
            table = file.read_row_group(group)
            table = widened(table, own)
            if ids is not None:
                where = schema.get_field_index("id")
                named = pa.array(ids[at : at + len(table)], schema.field(where).type)
                table = table.set_column(where, own.field(where), named)
            at += len(table)
            out.write_table(table)
