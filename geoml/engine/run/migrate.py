"""A series from before tables had parts, brought to the new form with nothing lost.

Its ``collection.json`` is replaced last: until then a run that dies starts again, from the files that were there.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pystac

from geoml.engine.run.history import STATES, history, write_history
from geoml.engine.run.monitor import FILES, day_of, day_out, follower_of, tables
from geoml.engine.run.plan import STATE, Plan, item_version, read_plan
from geoml.io.stac import search as stac
from geoml.io.stac.series import (
    ENTRIES,
    Entry,
    day_entry,
    is_day,
    item_of_day,
    read_series,
    write_series,
)
from geoml.io.stac.series_changes import add_changes, read_changes
from geoml.io.stac.series_tables import put_items, put_parts
from geoml.io.stac.table import LEFT_OUT_KEY
from geoml.io.stores.remote import RunStore, run_store

BEFORE = f"{STATE}/before"
"""Folder of the tables as they were, while they are replaced."""

MADE = f"{STATE}/migrated"
"""Folder of the working copy where the new ones are made."""

log = logging.getLogger(__name__)


def migrate(store: RunStore) -> None:
    """Bring an old series to the new form; nothing happens to others. Raises DataError for one that is damaged."""
    store.pull("collection.json")
    series = read_series(store.local / "collection.json")
    if not isinstance(series.get(ENTRIES), dict):
        return
    runs = {day: run_store(day_out(store.url, day)) for day in sorted(filter(is_day, series[ENTRIES]))}
    for run in runs.values():
        run.pull("collection.json", "items.parquet", "features.parquet")
    runs = {day: run for day, run in runs.items() if (run.local / "collection.json").is_file()}
    if not runs:
        return
    log.info("%s: a series of an earlier version, %d days; its tables get a part for each day", store.url, len(runs))
    plan = read_plan(runs[max(runs)])
    new = RunStore(store.url, store.inside(f"{MADE}/collection.json").parent)
    shutil.rmtree(new.local, ignore_errors=True)
    sources = _sources(store)
    _tables(new, plan, runs, sources, _left_out(store))
    add_changes(new, read_changes(_before(store, "changes.parquet")))
    for name in tables(plan):
        _replace(store, new, name)
    states = store.inside(f"{STATES}/x.parquet").parent
    shutil.rmtree(states, ignore_errors=True)
    if (new.local / STATES).is_dir():
        (new.local / STATES).replace(states)
        store.push(STATES)
    shutil.rmtree(new.local, ignore_errors=True)
    store.remove(*(f"{BEFORE}/{name}" for name in FILES))
    entries: dict[str, Entry] = {}
    for day, run in runs.items():
        versions = {item.id: item_version(item) for item in sources.get(day, ())}
        entries[day] = day_entry(run.local / "collection.json", versions)
    last = runs[max(runs)].local / "collection.json"
    files = {name: FILES[name] for name in tables(plan)}
    write_series(store, entries, (), id=series["id"], title=series.get("title", ""), files=files, last=last)


def _before(store: RunStore, name: str) -> Path:
    """An old table: its file, where a run that died has moved it, or the new table that has replaced it."""
    if store.bucket is not None:
        for place in (name, f"{BEFORE}/{name}"):
            if store.bucket.head(place) is not None:
                if (store.local / place).is_dir():
                    shutil.rmtree(store.local / place)
                store.pull(place)
                return store.local / place
        store.pull(f"{name}/")
        return store.local / name
    aside = store.local / BEFORE / name
    return aside if aside.is_file() and not (store.local / name).is_file() else store.local / name


def _sources(store: RunStore) -> dict[str, list[pystac.Item]]:
    """The items of the series by day."""
    path, by_day = _before(store, "sources.parquet"), dict[str, list[pystac.Item]]()
    for item in stac.read_items(path) if path.exists() else []:
        by_day.setdefault(day_of(item).isoformat(), []).append(item)
    return by_day


def _left_out(store: RunStore) -> dict[str, str]:
    path = _before(store, "sources.parquet")
    try:
        metadata = (pq.read_schema(path).metadata or {}) if path.is_file() else {}
        return dict(json.loads(metadata.get(LEFT_OUT_KEY, b"{}")))
    except (OSError, pa.ArrowException, ValueError, TypeError):
        return {}


def _tables(
    new: RunStore,
    plan: Plan,
    runs: Mapping[str, RunStore],
    sources: Mapping[str, Sequence[pystac.Item]],
    left_out: Mapping[str, str],
) -> None:
    """Make the tables, a day at a time."""
    catalog, ids = stac.open_catalog(plan.recipe.query.catalog), None
    if follower := follower_of(plan):
        followed = history(follower, new, runs, runs)
        write_history(new, followed)
        ids = followed.ids
    for day, run in runs.items():
        items = stac.read_items(run.local / "items.parquet")
        put_items(new, "items.parquet", {day: [item_of_day(item, day) for item in items]})
        put_items(new, "sources.parquet", {day: sources.get(day, [])}, catalog=catalog, left_out=left_out)
        if "features.parquet" in tables(plan):
            put_parts(new, "features.parquet", {day: run.local / "features.parquet"}, ids)


def _replace(store: RunStore, new: RunStore, name: str) -> None:
    """Replace the file of a table by its parts; the file is moved aside until all of them are there."""
    there, made = store.local / name, new.local / name
    if there.is_file():
        aside = store.inside(f"{BEFORE}/{name}")
        aside.parent.mkdir(parents=True, exist_ok=True)
        there.replace(aside)
    if store.bucket is not None:
        if (store.local / BEFORE / name).is_file():
            store.push(f"{BEFORE}/{name}")
        shutil.rmtree(there, ignore_errors=True)
        store.remove(name)
    if not there.is_dir() and made.is_dir():
        made.replace(there)
    store.push(name)
