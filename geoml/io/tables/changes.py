"""Changes as GeoParquet: one row each, from what to what, between which items; and their history over many dates."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from pathlib import Path

import geopandas
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pystac
import shapely
from numpy.typing import NDArray

from geoml.errors import DataError, InputError
from geoml.grid.ellipsoid import area
from geoml.grid.region import from_geometry
from geoml.io.cards.map_card import MapCard
from geoml.io.stac.times import time_range
from geoml.io.tables import features
from geoml.io.tables.features import FeatureRows, write_features
from geoml.texts import listed
from geoml.vector.tracks import Tracks

UNCHANGED = 0
"""The class of what did not change."""
SLACK = 0.01
"""Degrees; STAC footprints are simplified, so a change just outside all of them belongs to those this near."""

_TIME = pa.timestamp("us", tz="UTC")
_ITEMS = pa.list_(pa.string())
_DATES = {
    "before_start": _TIME,
    "before_end": _TIME,
    "after_start": _TIME,
    "after_end": _TIME,
    "before_items": _ITEMS,
    "after_items": _ITEMS,
}
_KINDS = {"from": pa.string(), "to": pa.string()}
_HISTORY = {"first_seen": _TIME, "last_seen": _TIME, "closed": _TIME}

SCHEMA = pa.schema(
    [
        *(features.SCHEMA.field(name) for name in ("id", "class", "name")),
        *_KINDS.items(),
        *(features.SCHEMA.field(name) for name in ("area_m2", "confidence", "outside")),
        *_DATES.items(),
        *(features.SCHEMA.field(name) for name in ("blocks", "model", "bbox", "geometry")),
    ]
)
"""Of rows of changes."""


class ChangeRows(FeatureRows):
    """Rows of changes out of those of features; what did not change (class 0) is left out.

    Columns: id, class (uint8), name, from, to (null where the card does not say), area_m2, confidence, outside,
    before_start, before_end, after_start, after_end (first and last time of the items of a date that touch the
    polygon), before_items, after_items (their ids, sorted), blocks, model, bbox, geometry. An item without a usable
    footprint touches everything.

    Args:
        card: names what a class changed from and to.
        before: items of the first date.
        after: items of the second date.

    Raises DataError for an item without a time.
    """

    schema = SCHEMA

    def __init__(self, card: MapCard, before: Sequence[pystac.Item], after: Sequence[pystac.Item]) -> None:
        self.card = card
        self.dates = {"before": Footprints(before), "after": Footprints(after)}

    def kept(self, ground: pa.Table) -> pa.Table:
        """Without what did not change."""
        return ground.filter(pc.not_equal(ground["value"], UNCHANGED))

    def made(self, rows: pa.Table) -> pa.Table:
        """Rows of `SCHEMA`. Raises InputError for a class that the card does not know."""
        columns = {name: rows[name] for name in rows.column_names}
        columns |= {k: pa.array(v, pa.string()) for k, v in _kinds(rows["class"].to_numpy(), self.card).items()}
        geometry = np.asarray(shapely.from_wkb(rows["geometry"].to_numpy()), object).reshape(-1)
        for date, footprints in self.dates.items():
            start, end, items = footprints.seen(geometry)
            columns |= {f"{date}_start": pa.array(start, _TIME), f"{date}_end": pa.array(end, _TIME)}
            columns[f"{date}_items"] = pa.array(items, _ITEMS)
        return pa.table({name: columns[name] for name in SCHEMA.names}, schema=SCHEMA)


def write_changes(frame: geopandas.GeoDataFrame, path: Path) -> None:
    """Write changes (or tracks) as ``write_features`` does, with the columns of this module typed even when empty."""
    write_features(frame, path, types={**_KINDS, **_DATES, **_HISTORY})


def tracks_frame(tracks: Tracks, card: MapCard) -> geopandas.GeoDataFrame:
    """Tracked changes, one row each in the order of ids, EPSG:4326; ``closed`` is null while a change is open.

    Columns: id, class, name, from, to, area_m2 (geodesic), first_seen, last_seen, closed, geometry. Raises InputError
    for a class that the card does not know.
    """
    geometry = shapely.orient_polygons(tracks.geometry)
    columns = {
        "id": pd.Series(tracks.id, dtype=object),
        "class": tracks.value,
        **_kinds(tracks.value, card),
        "area_m2": np.array([area(g) for g in geometry], float),
        "first_seen": _utc(tracks.first_seen),
        "last_seen": _utc(tracks.last_seen),
        "closed": _utc(tracks.closed),
        "geometry": pd.Series(geometry, dtype=object),
    }
    return geopandas.GeoDataFrame(pd.DataFrame(columns), geometry="geometry", crs="EPSG:4326")


def read_tracks(path: Path) -> Tracks:
    """The tracks of a file of ``write_changes(tracks_frame(…))``; none where there is no file.

    Raises DataError for a file that is damaged or something else.
    """
    if not path.is_file():
        return Tracks.empty()
    try:
        columns = ["id", "class", "geometry", *_HISTORY]
        if missing := set(columns) - set(pq.read_schema(path).names):
            raise DataError(f"{path}: not a table of tracks, without {listed(sorted(missing))}")
        table = pq.read_table(path, columns=columns, page_checksum_verification=True)
        times = [table[name].cast(pa.timestamp("us")).to_numpy().astype("datetime64[us]") for name in _HISTORY]
        geometry = np.asarray(shapely.from_wkb(table["geometry"].to_numpy()), object).reshape(-1)
        value = table["class"].cast(pa.uint8()).to_numpy()
        tracks = Tracks(np.array(table["id"].to_pylist(), object), geometry, value, *times)
    except (OSError, pa.ArrowException, shapely.GEOSException, ValueError, TypeError) as err:
        raise DataError(f"{path}: not a table of tracks ({err})") from err
    return tracks.take(np.argsort(tracks.id.astype(str)))


def _kinds(value: NDArray[np.uint8], card: MapCard) -> dict[str, pd.Series]:
    """The columns name, from and to of classes."""
    known = {c.value: c for c in card.classes}
    if strange := sorted(set(np.unique(value).tolist()) - known.keys()):
        raise InputError(f"class: {strange} not in the card of {card.name}; it has {sorted(known)}")
    classes = [known[int(v)] for v in value]
    return {
        "name": pd.Series([c.name for c in classes], dtype=object),
        "from": pd.Series([c.before for c in classes], dtype=object),
        "to": pd.Series([c.after for c in classes], dtype=object),
    }


class Footprints:
    """Where items lie and when. An item without a usable footprint touches everything.

    Raises DataError for one without a time.
    """

    def __init__(self, items: Sequence[pystac.Item]) -> None:
        items = sorted(items, key=lambda i: i.id)
        outlines = [_outline(i) for i in items]
        self.ids = [i.id for i in items]
        self.spans = np.array([_span(i) for i in items], "datetime64[us]").reshape(-1, 2)
        self._tree = shapely.STRtree([o for o in outlines if o is not None])
        self._placed = np.array([k for k, o in enumerate(outlines) if o is not None], np.intp)
        self._everywhere = np.array([k for k, o in enumerate(outlines) if o is None], np.intp)

    def seen(
        self, geometry: NDArray[np.object_]
    ) -> tuple[NDArray[np.datetime64], NDArray[np.datetime64], list[list[str]]]:
        """First and last time, UTC, and the ids of the items that touch each geometry in degrees."""
        row, item = self._touching(geometry)
        start, end = (np.full(len(geometry), np.datetime64("NaT", "us")) for _ in range(2))
        np.fmin.at(start, row, self.spans[item, 0])
        np.fmax.at(end, row, self.spans[item, 1])
        ids: list[list[str]] = [[] for _ in geometry]
        for r, i in zip(row.tolist(), item.tolist(), strict=True):
            ids[r].append(self.ids[i])
        return start, end, ids

    def _touching(self, geometry: NDArray[np.object_]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """(row, item) of each polygon and each item that touches it, ordered by both."""
        row, hit = self._tree.query(geometry, predicate="intersects")
        lost = np.setdiff1d(np.arange(len(geometry)), row)
        near = self._tree.query(geometry[lost], predicate="dwithin", distance=SLACK)
        everywhere = self._everywhere
        rows = np.concatenate([row, lost[near[0]], np.repeat(np.arange(len(geometry)), len(everywhere))])
        touched = np.concatenate([self._placed[hit], self._placed[near[1]], np.tile(everywhere, len(geometry))])
        order = np.lexsort((touched, rows))
        return rows[order], touched[order]


def _outline(item: pystac.Item) -> shapely.MultiPolygon | None:
    """The footprint, cut at the antimeridian; None if it is not known."""
    try:
        outline = from_geometry(item.geometry) if item.geometry else None
    except (InputError, ValueError):
        return None
    return None if outline is None or outline.is_empty else outline


def _span(item: pystac.Item) -> tuple[np.datetime64, np.datetime64]:
    """First and last time of an item, UTC."""
    first, last = (np.datetime64(t.astimezone(dt.UTC).replace(tzinfo=None), "us") for t in time_range([item]))
    return first, last


def _utc(times: NDArray[np.datetime64]) -> pd.Series:
    return pd.Series(times.astype("datetime64[us]")).dt.tz_localize("UTC")
