"""The images of a run as listed in its report: some hundred rows at most, and a summary of all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from geoml.errors import DataError
from geoml.io.stac.rows import WHOLE_ITEM
from geoml.io.stac.table import read_items
from geoml.io.stac.times import rfc3339, time_of

SHOWN = 500
"""Images that the page lists at most."""
COLUMNS = {"collection": "collection", "platform": "platform", "eo:cloud_cover": "cloud"}

Row = dict[str, object]
"""Of the table: ``id``, ``when``, ``blocks``, and where they are known ``collection``, ``platform`` and ``cloud``."""


@dataclass(frozen=True)
class SourceList:
    """``shown`` are the first of ``count`` images, oldest first; ``kinds`` the platforms and times of all of them."""

    shown: list[Row] = field(default_factory=list)
    count: int = 0
    kinds: list[Row] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)


def list_sources(out: Path, used: Mapping[str, int], when: Callable[[str], str]) -> SourceList:
    """What the run in ``out`` read. ``used`` is how many blocks used each source by its collection and id, ``when``
    writes an RFC 3339 instant for people."""
    blocks: dict[str, int] = {}
    for key, n in used.items():
        name = key.rpartition("/")[2]
        blocks[name] = blocks.get(name, 0) + n
    path = out / "sources.parquet"
    if not path.exists():
        rows: list[Row] = [{"id": k, "when": "", "blocks": n} for k, n in sorted(blocks.items())]
        return SourceList(rows[:SHOWN], len(rows), [])
    try:
        rows = _columns(path, when) if _many(path) else _items(path, when)
    except DataError as err:
        return SourceList(problems={path.name: str(err).replace(f"{out}/", "")})
    rows.sort(key=lambda r: (str(r["when"]), str(r["id"])))
    kinds = {(row.get("platform"), row["when"]): row for row in rows}
    shown = [{"id": r["id"], "when": r["when"], "blocks": blocks.get(str(r["id"]), 0), **r} for r in rows[:SHOWN]]
    return SourceList(shown, len(rows), list(kinds.values()))


def _items(path: Path, when: Callable[[str], str]) -> list[Row]:
    rows: list[Row] = []
    for item in read_items(path):
        fields = {
            "collection": item.collection_id,
            "platform": item.properties.get("platform"),
            "cloud": item.properties.get("eo:cloud_cover"),
        }
        moment = time_of(item)
        row: Row = {"id": item.id, "when": when(rfc3339(moment)) if moment else ""}
        rows.append(row | {k: v for k, v in fields.items() if v not in (None, "")})
    return rows


def _many(path: Path) -> bool:
    """True for more images than are shown, where the columns say all of them."""
    try:
        about = pq.read_metadata(path)
        return about.num_rows > SHOWN and WHOLE_ITEM not in about.schema.to_arrow_schema().names
    except (OSError, pa.ArrowException):
        return False


def _columns(path: Path, when: Callable[[str], str]) -> list[Row]:
    """The same of columns alone: an item as an object takes some 40 KB."""
    try:
        there = pq.read_schema(path).names
        wanted = [n for n in ("id", "datetime", "start_datetime", *COLUMNS) if n in there]
        table = pq.read_table(path, columns=wanted, page_checksum_verification=True)
    except (OSError, pa.ArrowException) as err:
        raise DataError(f"{path}: not a stac-geoparquet file ({err})") from err
    moments = [table[n].cast(pa.timestamp("us", "UTC")) for n in ("datetime", "start_datetime") if n in wanted]
    days = pc.coalesce(*moments).to_pylist() if moments else [None] * len(table)
    rows: list[Row] = []
    fields = {name: table[key].to_pylist() for key, name in COLUMNS.items() if key in wanted}
    for k, (name, moment) in enumerate(zip(table["id"].to_pylist(), days, strict=True)):
        row: Row = {"id": name, "when": when(rfc3339(moment)) if moment else ""}
        rows.append(row | {key: v for key, those in fields.items() if (v := those[k]) not in (None, "")})
    return rows
