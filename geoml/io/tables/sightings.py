"""Objects over time as GeoParquet: one row each, when it was found, looked for and missed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import shapely

from geoml.errors import DataError, InputError
from geoml.io.cards.map_card import MapCard
from geoml.io.stores.store import check_regular
from geoml.io.tables.geoparquet import BBOX, Extent, bbox_column, bounds_of, scratch, types_of, write_sorted
from geoml.texts import listed
from geoml.vector.sightings import ObjectsOfDay, Sightings

_TIME = pa.timestamp("us", tz="UTC")
_TIMES = ("first_seen", "last_seen", "closed")
_COUNTS = ("sightings", "looks", "misses")
SCHEMA = pa.schema(
    {
        "id": pa.string(),
        "class": pa.uint8(),
        "name": pa.string(),
        "state": pa.string(),
        **dict.fromkeys(("x", "y", "length_m"), pa.float64()),
        **dict.fromkeys(("first_seen", "last_seen"), _TIME),
        **dict.fromkeys(_COUNTS, pa.int64()),
        "missed_chance": pa.float64(),
        "closed": _TIME,
        "bbox": BBOX,
        "geometry": pa.binary(),
    }
)
"""Of rows of objects over time."""


def read_seen(path: Path) -> ObjectsOfDay:
    """The objects in the features of a run, in the order of their rows. Raises DataError for a damaged file."""
    table = _table(path, ["class", "geometry", "x", "y", "length_m"])
    return ObjectsOfDay(*_boxes(table))


def write_sightings(rows: Sightings, card: MapCard, recall: Mapping[int, float | None], path: Path) -> None:
    """Write objects over time, atomically: rows of `SCHEMA`.

    Columns: id, class (uint8), name, state (open, closed), x, y (mean of centres, degrees), length_m as it was last,
    first_seen, last_seen, sightings (days on which it was found), looks (days on which it was looked for), misses (of
    them since it was last found), missed_chance (of as many misses, were it there; null where the ``recall`` of its
    class is not known), closed (null while it is open), bbox, geometry (the last box). Raises InputError for a class
    that the card does not know, DataError if the file cannot be written.
    """
    names = {c.value: c.name for c in card.classes}
    if strange := sorted(set(np.unique(rows.value).tolist()) - names.keys()):
        raise InputError(f"class: {strange} not in the card of {card.name}; it has {sorted(names)}")
    columns = {
        "id": rows.id,
        "class": rows.value,
        "name": [names[int(v)] for v in rows.value],
        "state": np.where(np.isnat(rows.closed), "open", "closed"),
        "x": rows.x,
        "y": rows.y,
        "length_m": rows.length,
        "missed_chance": rows.missed_chance(recall),
        **{name: getattr(rows, name) for name in (*_TIMES, *_COUNTS)},
        "bbox": bbox_column(shapely.bounds(rows.geometry).reshape(-1, 4)),
        "geometry": shapely.to_wkb(rows.geometry),
    }
    arrays = [
        v if isinstance(v := columns[f.name], pa.Array) else pa.array(v, f.type, from_pandas=True) for f in SCHEMA
    ]
    table, extent = pa.table(arrays, schema=SCHEMA), Extent()
    extent.add(bounds_of(table), types_of(table))
    with scratch(path) as folder:
        write_sorted([table], extent, SCHEMA, path, folder)


def read_sightings(path: Path) -> Sightings:
    """The rows of a file of `write_sightings`, ordered by id. Raises DataError for one that is damaged."""
    table = _table(path, [name for name in SCHEMA.names if name not in ("name", "state", "missed_chance", "bbox")])
    first, last, closed = (table[name].cast(pa.timestamp("us")).to_numpy().astype("datetime64[us]") for name in _TIMES)
    sightings, looks, misses = (table[name].to_numpy().astype(np.int64) for name in _COUNTS)
    geometry, value, x, y, length = _boxes(table)
    ids = np.array(table["id"].to_pylist(), object)
    rows = Sightings(ids, geometry, value, x, y, length, first, last, sightings, looks, misses, closed)
    return rows.take(np.argsort(ids.astype(str)))


def _table(path: Path, columns: Sequence[str]) -> pa.Table:
    try:
        if missing := sorted(set(columns) - set(pq.read_schema(check_regular(path)).names)):
            raise DataError(f"{path}: not a table of objects, without {listed(missing)}")
        return pq.read_table(path, columns=list(columns), page_checksum_verification=True)
    except (OSError, pa.ArrowException, ValueError) as err:
        raise DataError(f"{path}: not a table of objects ({err})") from err


def _boxes(table: pa.Table) -> tuple[np.ndarray, ...]:
    """Geometry, class, x, y and length, as `ObjectsOfDay` has them."""
    geometry = np.asarray(shapely.from_wkb(table["geometry"].to_numpy()), object).reshape(-1)
    return (
        geometry,
        table["class"].to_numpy().astype(np.uint8),
        *(table[name].to_numpy().astype(np.float64) for name in ("x", "y", "length_m")),
    )
