"""What a series finds, each thing followed from the day on which it was seen first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from geoml.engine.following import FollowedDay, Follower
from geoml.engine.run.plan import STATE, read_plan
from geoml.io.stac import search as stac
from geoml.io.stac.series_tables import part_name
from geoml.io.stores.remote import RunStore
from geoml.vector.tracks import Histories

TABLE = "tracks.parquet"
"""A part holds what was closed in a month; the last one is `OPEN`."""

OPEN = "open"
"""Name of the part with what is open after the last day."""

STATES = f"{STATE}/tracks"
"""Folder with what was open at the end of each month, so that a scan only follows its own month again."""


@dataclass
class History:
    """What was followed again: the ids of the rows of each day's features; by month, what was closed and is open."""

    follower: Follower[Any]
    ids: dict[str, list[str]] = field(default_factory=dict)
    closed: dict[str, Histories] = field(default_factory=dict)
    open: dict[str, Histories] = field(default_factory=dict)
    emptied: tuple[str, ...] = ()
    """Months that have no day any more."""


def history(follower: Follower[Any], store: RunStore, runs: Mapping[str, RunStore], changed: Iterable[str]) -> History:
    """Follow the features of a series from the month of the first day in ``changed`` on.

    ``runs`` are those of all days of the series. What is seen again has the id of the day before. A day that comes
    late, or goes, is followed again with all days after it. Raises DataError for files that cannot be read.
    """
    months = {day[:7] for day in changed}
    first = min(months)
    earlier = max((day[:7] for day in runs if day[:7] < first), default=None)
    followed, tracks = History(follower), follower.empty()
    if earlier is not None:
        store.pull(name := f"{STATES}/{earlier}.parquet")
        if (store.local / name).is_file():
            tracks = follower.read(store.local / name)
        else:  # a series from before this file was written
            first = min(runs)[:7]
    for day in sorted(day for day in runs if day[:7] >= first):
        month = day[:7]
        tracks, names = follower.look(tracks, _opened(day, runs[day]))
        followed.ids[day] = list(names)
        still = np.isnat(tracks.closed)
        closed = tracks.take(np.flatnonzero(~still))
        followed.closed[month] = followed.closed[month].merged(closed) if month in followed.closed else closed
        followed.open[month] = tracks = tracks.take(np.flatnonzero(still))  # a closed one never opens again
    followed.emptied = tuple(sorted(months - followed.open.keys()))
    return followed


def _opened(day: str, run: RunStore) -> FollowedDay:
    def fetch(name: str) -> Path:
        run.pull(name)
        return run.local / name

    items = stac.read_items(fetch("items.parquet"))
    return FollowedDay(day, read_plan(run), frozenset(item.id for item in items), items, fetch)


def write_history(store: RunStore, followed: History) -> None:
    """Write and publish the parts of `TABLE` of the months that were followed: what was closed, then what is open."""
    store.remove(*(name for m in followed.emptied for name in (part_name(TABLE, m), f"{STATES}/{m}.parquet")))
    months, follower = sorted(followed.closed), followed.follower
    for month in months:
        follower.write(followed.open[month], store.inside(f"{STATES}/{month}.parquet"))
        follower.write(followed.closed[month], store.inside(part_name(TABLE, month)))
        store.push(part_name(TABLE, month), f"{STATES}/{month}.parquet")
    last = followed.open[months[-1]] if months else follower.empty()
    follower.write(last, store.inside(part_name(TABLE, OPEN)))
    store.push(part_name(TABLE, OPEN))
