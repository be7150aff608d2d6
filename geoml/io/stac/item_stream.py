"""A stac-geoparquet file of the blocks of a run, written as their items are read: memory is that of some thousand."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import pyarrow as pa
import pyarrow.parquet as pq

from geoml.errors import DataError
from geoml.io.stac.item import Document
from geoml.io.stac.rows import TOP
from geoml.io.stac.table import write_items
from geoml.io.stores.store import atomic

BATCH = 4096
"""Items in memory; so many or fewer are written as `geoml.io.stac.table.write_items` does."""


class ItemStream:
    """Takes the items of a run as `geoml.io.stac.items.write_item` wrote them, and gives ``items.parquet``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._held: list[Document] = []
        self._folder = path.with_name(f".{path.name}.part")
        self._parts: list[Path] = []

    def add(self, item: Document) -> None:
        """Take the next item. Raises DataError if the disk is full."""
        self._held.append(_from_folder(item))
        if len(self._held) > BATCH:
            self._write(self._held[:BATCH])
            self._held = self._held[BATCH:]

    def close(self) -> None:
        """Write the file, atomically. Raises DataError if it cannot be written."""
        try:
            if not self._parts:
                write_items(self._held, self.path)
                return
            self._write(self._held)
            schemas = [pq.read_schema(part) for part in self._parts]
            whole = pa.unify_schemas(schemas, promote_options="permissive").with_metadata(schemas[0].metadata)
            how = {"compression": "zstd", "write_page_checksum": True}
            with atomic(self.path) as temporary, pq.ParquetWriter(temporary, whole, **how) as out:
                for part in self._parts:
                    out.write_table(widened(pq.read_table(part), whole))
        except (OSError, pa.ArrowException) as err:
            raise DataError(f"{self.path}: not written ({err})") from err
        finally:
            self.abort()

    def abort(self) -> None:
        """Give up: nothing appears under the path. Harmless after ``close``."""
        shutil.rmtree(self._folder, ignore_errors=True)
        self._held, self._parts = [], []

    def __enter__(self) -> ItemStream:
        return self

    def __exit__(self, kind: type[BaseException] | None, err: BaseException | None, at: TracebackType | None) -> None:
        self.abort()

    def _write(self, items: Sequence[Document]) -> None:
        part = self._folder / f"{len(self._parts)}.parquet"
        write_items(items, part)
        self._parts.append(part)


def widened(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The table with all columns of a schema, null where it has none. Raises ArrowException where they do not fit."""
    columns = [
        table[f.name].cast(f.type) if f.name in table.column_names else pa.nulls(len(table), f.type) for f in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def _from_folder(item: Document) -> Document:
    """The item with hrefs as seen from the folder of the run, where items.parquet lies; fields in their usual order."""
    assets = {}
    for key, asset in item["assets"].items():
        known = {k: asset[k] for k in ("type", "title") if k in asset}
        rest = {k: v for k, v in asset.items() if k not in ("href", "type", "title", "roles")}
        roles = {k: asset[k] for k in ("roles",) if k in asset}
        assets[key] = {"href": _one_down(asset["href"]), **known, **rest, **roles}
    links = [
        {"rel": link["rel"], "href": _one_down(link["href"]), **{k: link[k] for k in ("type", "title") if k in link}}
        for link in item["links"]
        if link["rel"] != "self"
    ]
    return {k: item[k] for k in TOP if k in item} | {"assets": assets, "links": links}


def _one_down(href: str) -> str:
    return f"./{href.removeprefix('../')}" if href.startswith("../") else href
