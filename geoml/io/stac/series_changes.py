"""The table of what changed in a series of runs, in parts by day."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from geoml.errors import DataError
from geoml.io.stac.series_tables import part_name
from geoml.io.stores.remote import RunStore
from geoml.io.stores.store import atomic

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
        "moved_from": pa.string(),
    }
)
"""A change: when it was seen; new, reprocessed, moved (from another day) or withdrawn; how many blocks use the item
and how many are done."""

Row = Mapping[str, Any]
"""A change by the columns of `CHANGES`."""

KEY = ("day", "item", "change", "version")


def add_changes(store: RunStore, rows: Sequence[Row]) -> None:
    """Append to the table of changes, whose parts are by day; a change that was seen before is replaced.

    Raises DataError for a table that cannot be read or written.
    """
    for day in sorted({row["day"] for row in rows}):
        store.pull(name := part_name("changes.parquet", day))
        changes = {tuple(row[k] for k in KEY): dict(row) for row in read_changes(store.local / name)}
        for row in (_as_seen(row, list(changes.values())) for row in rows if row["day"] == day):
            changes.pop(key := tuple(row[k] for k in KEY), None)
            changes[key] = row
        with atomic(store.inside(name)) as temporary:
            pq.write_table(pa.Table.from_pylist(list(changes.values()), CHANGES), temporary, compression="zstd")
        store.push(name)


def _as_seen(row: Row, earlier: Sequence[Row]) -> dict[str, Any]:
    """A row; what an interrupted night recorded as moved, and took from the day where it was before, is not new."""
    last = next((k for k in reversed(earlier) if k["item"] == row["item"]), None)
    if last and (row["change"], row["version"]) == ("new", last["version"]) and last["change"] == "moved":
        return {**row, **{name: last[name] for name in ("change", "before", "moved_from")}}
    return dict(row)


def read_changes(path: Path) -> list[dict[str, Any]]:
    """Rows of a table of changes or of a part of it, by day and then oldest first; none where there is no table."""
    if not path.exists():
        return []
    try:
        table = pq.read_table(path)
        for field in CHANGES:
            if field.name not in table.column_names:  # of a table before there was such a column
                table = table.append_column(field, pa.nulls(len(table), field.type))
        rows: list[dict[str, Any]] = table.select(CHANGES.names).cast(CHANGES).to_pylist()
    except (OSError, pa.ArrowException, ValueError) as err:
        raise DataError(f"{path}: not a table of changes ({err})") from err
    return rows
