"""The changes of a series of days, each followed from the day on which it was seen first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import geopandas
import numpy as np
import shapely
from shapely.geometry import shape

from geoml.engine.run.plan import STATE
from geoml.errors import DataError
from geoml.io.cards.map_card import MapCard
from geoml.io.stac import search as stac
from geoml.io.stac.series_tables import part_name
from geoml.io.stores.remote import RunStore
from geoml.io.stores.store import check_regular
from geoml.io.tables.changes import read_tracks, tracks_frame, write_changes
from geoml.vector.tracks import Tracks, follow

TABLE = "tracks.parquet"
"""A part holds the changes that were closed in a month; the last one is `OPEN`."""

OPEN = "open"
"""Name of the part with the changes that are open after the last day."""

STATES = f"{STATE}/tracks"
"""Folder with what was open at the end of each month, so that a scan follows no more than its own month anew."""


@dataclass
class History:
    """What was followed anew: the ids of the rows of each day's features; by month, what was closed and is open."""

    ids: dict[str, list[str]] = field(default_factory=dict)
    closed: dict[str, Tracks] = field(default_factory=dict)
    open: dict[str, Tracks] = field(default_factory=dict)
    emptied: tuple[str, ...] = ()
    """Months that have no day any more."""


def history(store: RunStore, runs: Mapping[str, RunStore], changed: Iterable[str]) -> History:
    """Follow the changes of a series from the month of the first day in ``changed`` on.

    ``runs`` are those of all days of the series. A change that is seen again has the id of the day before. What a day
    observed is the footprint of its blocks. A day that comes late, or goes, is followed again with all days after it.
    Raises DataError for files that cannot be read.
    """
    months = {day[:7] for day in changed}
    first = min(months)
    earlier = max((day[:7] for day in runs if day[:7] < first), default=None)
    followed, tracks = History(), Tracks.empty()
    if earlier is not None:
        store.pull(name := f"{STATES}/{earlier}.parquet")
        if (store.local / name).is_file():
            tracks = read_tracks(store.local / name)
        else:  # a series from before this file was written
            first = min(runs)[:7]
    for day in sorted(day for day in runs if day[:7] >= first):
        run, month = runs[day], day[:7]
        run.pull("features.parquet", "items.parquet")
        path = run.local / "features.parquet"
        try:
            frame = geopandas.read_parquet(check_regular(path))
        except (OSError, ValueError) as err:
            raise DataError(f"{path}: cannot be read ({err})") from err
        seen = [shape(i.geometry) for i in stac.read_items(run.local / "items.parquet") if i.geometry]
        geometry, value = np.asarray(frame.geometry.array, object), frame["class"].to_numpy(np.uint8)
        tracks, names = follow(tracks, geometry, value, np.datetime64(day), shapely.union_all(seen))
        followed.ids[day] = [str(name) for name in names]
        still = np.isnat(tracks.closed)
        closed = tracks.take(np.flatnonzero(~still))
        followed.closed[month] = followed.closed[month].merged(closed) if month in followed.closed else closed
        followed.open[month] = tracks = tracks.take(np.flatnonzero(still))  # a closed one never opens again
    followed.emptied = tuple(sorted(months - followed.open.keys()))
    return followed


def write_history(store: RunStore, followed: History, card: MapCard) -> None:
    """Write and publish the parts of `TABLE` of the months that were followed: what was closed, then what is open."""
    store.remove(*(name for m in followed.emptied for name in (part_name(TABLE, m), f"{STATES}/{m}.parquet")))
    months = sorted(followed.closed)
    for month in months:
        write_changes(tracks_frame(followed.open[month], card), store.inside(f"{STATES}/{month}.parquet"))
        write_changes(tracks_frame(followed.closed[month], card), store.inside(part_name(TABLE, month)))
        store.push(part_name(TABLE, month), f"{STATES}/{month}.parquet")
    last = followed.open[months[-1]] if months else Tracks.empty()
    write_changes(tracks_frame(last, card), store.inside(part_name(TABLE, OPEN)))
    store.push(part_name(TABLE, OPEN))
