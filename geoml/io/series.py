"""A series of runs, one a day, as one collection: `days/DAY/collection.json` below one `collection.json`."""

from __future__ import annotations

import datetime as dt
import json
import posixpath
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pystac

from geoml.errors import DataError
from geoml.io.items import PARQUET, write_collection
from geoml.io.store import atomic, read_small, sha256

DAYS = "days"
"""Folder of a series that holds the runs, each named by its day."""

DIGESTS = "geoml:days"
"""Field of the collection: SHA-256 of the ``collection.json`` of every day that it is made of."""

CHANGES = pa.schema(
    {
        "seen": pa.timestamp("us", tz="UTC"),
        "day": pa.string(),
        "item": pa.string(),
        "change": pa.string(),
        "version": pa.string(),
        "before": pa.string(),
        "blocks": pa.int32(),
        "done": pa.int32(),
    }
)
"""A change: when it was seen; new, reprocessed or withdrawn; how many blocks use the item and how many are done."""

KEY = ("day", "item", "change", "version")


def add_changes(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Append to the table of changes, atomically; a change that was seen before is replaced, not repeated.

    Raises DataError for a table that cannot be read or written.
    """
    known = {tuple(row[k] for k in KEY): dict(row) for row in read_changes(path)}
    for row in rows:
        known.pop(key := tuple(row[k] for k in KEY), None)
        known[key] = dict(row)
    with atomic(path) as temporary:
        pq.write_table(pa.Table.from_pylist(list(known.values()), CHANGES), temporary, compression="zstd")


def read_changes(path: Path) -> list[dict[str, Any]]:
    """Rows of a table of changes, oldest first; none where there is no table."""
    if not path.is_file():
        return []
    try:
        rows: list[dict[str, Any]] = pq.read_table(path).cast(CHANGES).to_pylist()
    except (OSError, pa.ArrowException, ValueError) as err:
        raise DataError(f"{path}: not a table of changes ({err})") from err
    return rows


def join_features(parts: Sequence[Path], path: Path, ids: Mapping[Path, Sequence[str]] | None = None) -> None:
    """GeoParquet files of `geoml.io.geoparquet` one after the other in one file; one row group at a time, atomically.

    ``ids`` of the rows of each file take the place of those that it has.

    Raises DataError for a file that cannot be read, has other columns, or when the result cannot be written.
    """
    try:
        schema = max((pq.read_schema(p) for p in parts), key=len)  # days before a column was thought of lack it
        about = [json.loads((pq.read_schema(p).metadata or {})[b"geo"]) for p in parts]
        kept = {**(schema.metadata or {}), b"geo": json.dumps(_united(about)).encode()}
        with (
            atomic(path) as temporary,
            pq.ParquetWriter(temporary, schema.with_metadata(kept), compression="zstd", version="2.6") as file,
        ):
            for part in parts:
                source = pq.ParquetFile(part)
                at = 0
                for group in range(source.num_row_groups):
                    table = source.read_row_group(group).replace_schema_metadata(kept)
                    if ids is not None:
                        names = pa.array(ids[part][at : at + table.num_rows], schema.field("id").type)
                        table = table.set_column(table.column_names.index("id"), schema.field("id"), names)
                    at += table.num_rows
                    for name in set(schema.names) - set(table.column_names):
                        table = table.append_column(
                            schema.field(name), pa.nulls(table.num_rows, schema.field(name).type)
                        )
                    table = table.select(schema.names)
                    file.write_table(table)
    except (OSError, pa.ArrowException, ValueError, LookupError) as err:
        raise DataError(f"{path}: the features of {len(parts)} days do not fit together ({err})") from err


def _united(about: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The ``geo`` metadata of all parts: one bbox, all types of geometry."""
    columns = [a["columns"]["geometry"] for a in about]
    one = dict(columns[-1])
    one["geometry_types"] = sorted({kind for c in columns for kind in c["geometry_types"]})
    if boxes := [c["bbox"] for c in columns if "bbox" in c]:
        low, high = zip(*((b[:2], b[2:]) for b in boxes), strict=True)
        one["bbox"] = [*map(min, zip(*low, strict=True)), *map(max, zip(*high, strict=True))]
    return {**about[-1], "columns": {"geometry": one}}


def of_day(item: pystac.Item, day: str) -> pystac.Item:
    """An item of a day's ``items.parquet`` with hrefs as seen from the folder of the series."""
    copy = item.clone()
    copy.remove_links("self")
    for asset in copy.assets.values():
        asset.href = _below(asset.href, day)
    for link in copy.links:
        link.target = _below(str(link.target), day)
    return copy


def _below(href: str, day: str) -> str:
    if not href.startswith("./"):
        return href
    path = posixpath.normpath(f"{DAYS}/{day}/{href}")
    return path if path.startswith("..") else f"./{path}"


def read_series(path: Path) -> dict[str, Any]:
    """A JSON object of a series; empty where there is none. Raises DataError for a damaged one."""
    try:
        if (body := read_small(path)) is None:
            return {}
        value = json.loads(body)
    except (ValueError, RecursionError) as err:
        raise DataError(f"{path}: not readable ({err}); delete it to have it written again") from err
    if not isinstance(value, dict):
        raise DataError(f"{path}: not a JSON object; delete it to have it written again")
    return value


def write_series(
    days: Mapping[str, Path],
    path: Path,
    *,
    id: str,
    title: str,
    digests: Mapping[str, str],
    files: Mapping[str, str],
) -> None:
    """Write the collection of a series: extent and summaries of all days, a ``child`` link to each day's collection.

    ``days`` are the collections by day, ``digests`` their SHA-256, ``files`` the titles of the parquet files beside
    ``path`` by name. Raises DataError.
    """
    try:
        parts = {day: pystac.Collection.from_file(str(file)) for day, file in sorted(days.items())}
    except Exception as err:  # pystac raises many kinds for what is no collection
        raise DataError(f"{path}: the collection of a day is not readable ({err})") from err
    last = list(parts.values())[-1]
    boxes = [b for c in parts.values() for b in c.extent.spatial.bboxes]
    spans = [t for c in parts.values() for span in c.extent.temporal.intervals for t in span if t is not None]
    made = pystac.Collection(
        id=id,
        title=title,
        description=f"{title}, one collection for each of {len(parts)} days",
        extent=pystac.Extent(pystac.SpatialExtent([_around(boxes)]), pystac.TemporalExtent([[min(spans), max(spans)]])),
        license=last.license,
        keywords=last.keywords,
        summaries=pystac.Summaries(_summaries([c.summaries.to_dict() for c in parts.values()])),
        extra_fields={**last.extra_fields, DIGESTS: dict(sorted(digests.items()))},
        stac_extensions=last.stac_extensions,
    )
    for name, about in files.items():
        file = path.with_name(name)
        fields = {"file:size": file.stat().st_size, "file:checksum": f"1220{sha256(file)}"}  # multihash: sha2-256
        roles = ["data" if name == "features.parquet" else "metadata"]
        asset = pystac.Asset(f"./{name}", about, media_type=PARQUET, roles=roles, extra_fields=fields)
        made.add_asset(file.stem, asset)
    for day in parts:
        made.add_link(pystac.Link("child", f"./{DAYS}/{day}/collection.json", "application/json", title=day))
    write_collection(made, path)


def _summaries(parts: Sequence[Mapping[str, list[Any]]]) -> dict[str, list[Any]]:
    return {key: sorted({v for p in parts for v in p.get(key, [])}) for key in parts[-1]}


def _around(boxes: Sequence[Sequence[float]]) -> list[float]:
    west, south, east, north = (list(c) for c in zip(*boxes, strict=True))
    if any(w > e for w, e in zip(west, east, strict=True)):  # over the antimeridian
        return [-180.0, min(south), 180.0, max(north)]
    return [min(west), min(south), max(east), max(north)]


def now() -> dt.datetime:
    """This moment, to the second."""
    return dt.datetime.now(dt.UTC).replace(microsecond=0)
