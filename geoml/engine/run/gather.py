"""The runs of the days of a monitor put together as one series, at the cost of the days that changed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import pystac

from geoml.engine.run.blocks import is_done
from geoml.engine.run.history import History, history, write_history
from geoml.engine.run.looked import Looked, read_looked, write_looked
from geoml.engine.run.migrate import migrate
from geoml.engine.run.monitor import FILES, Look, day_out, tables
from geoml.engine.run.plan import MODEL, Plan, item_version, read_plan
from geoml.io.cards import mlm
from geoml.io.stac import search as stac
from geoml.io.stac.series import (
    Entry,
    add_changes,
    day_entry,
    item_of_day,
    now,
    read_entries,
    read_series,
    write_series,
)
from geoml.io.stac.series_tables import drop_parts, items_of_day, part_name, put_items, put_parts, read_column
from geoml.io.stores.remote import RunStore, run_store
from geoml.io.stores.store import write_json


def held(out: str | Path) -> tuple[dict[str, Entry], Looked]:
    """What the series in ``out`` holds, by day, and which days were looked at.

    An old series is brought to its new form first, and what a night that died was deleting is deleted. Raises DataError
    for a series that is damaged.
    """
    store = run_store(out)
    migrate(store)
    entries, _ = read_entries(store)
    looked = read_looked(store, entries)
    finish(out, (day for day in looked.leaving if day not in entries))
    return entries, looked


def gather(out: str | Path, look: Look) -> list[dict[str, Any]]:
    """Put the runs of the days of a look into the series in ``out`` and take those out that are gone.

    See `geoml.engine.run.monitor.FILES` for what there is; ``collection.json`` comes behind. Gives the rows of changes.
    Only parts of days that changed are written, and nothing when nothing is new. A run that dies before is put together
    by the next: it finds the days that are not in the collections as they are now.
    """
    store = run_store(out)
    entries, whole = read_entries(store)
    found = _changes(out, store, entries, look)
    add_changes(store, found.rows)
    runs = {day: run_store(day_out(out, day)) for day in look.days}
    for run in runs.values():
        run.pull("collection.json")
    runs = {day: run for day, run in runs.items() if (run.local / "collection.json").is_file()}
    made = {day: day_entry(run.local / "collection.json", found.held.get(day, {})) for day, run in runs.items()}
    gone = [day for day in look.gone if not found.held.get(day)]
    after = {day: e for day, e in sorted({**entries, **made}.items()) if day not in gone}
    if newest := max(after or gone, default=None):
        plan = read_plan(day_out(out, newest))
        names = tables(plan)
        changed = [d for d, e in made.items() if e != entries.get(d) or not _there(store, names, d)]
        if changed or gone or not whole:
            if gone:
                write_looked(store, replace(look.before, leaving=tuple(gone)))
            if "tracks.parquet" in names and (changed or gone):
                all_runs = {day: run_store(day_out(out, day)) for day in after}
                found.told = history(store, all_runs, {*changed, *gone})
            _tables(store, plan, {day: runs[day] for day in changed}, gone, look, found)
            if found.told:
                _others(store, out, found.told, after.keys() - set(changed))
                write_history(store, found.told, plan.card)
            _documents(store, out, plan, after, {day[:7] for day in (*changed, *gone)}, look.id)
    finish(out, gone)
    write_looked(store, replace(look.looked(), leaving=()))
    return found.rows


def remember(out: str | Path, look: Look) -> None:
    """Keep what was looked at, of a look that found nothing."""
    write_looked(run_store(out), look.looked())


def finish(out: str | Path, days: Iterable[str]) -> None:
    """Delete the runs of days that are no more in the series."""
    for day in days:
        run = run_store(day_out(out, day))
        run.remove(*run.sizes())
        shutil.rmtree(run.local, ignore_errors=True)


def _there(store: RunStore, names: Sequence[str], day: str) -> bool:
    """True where the parts of a day are; those of a bucket nobody deletes by hand."""
    daily = [name for name in names if name not in ("changes.parquet", "tracks.parquet")]
    return store.remote or all((store.local / part_name(name, day)).is_file() for name in daily)


def _tables(
    store: RunStore, plan: Plan, new: Mapping[str, RunStore], gone: Sequence[str], look: Look, found: _Found
) -> None:
    """Write the parts of days, a month at a time, the sources last: they tell of what a day was made."""
    catalog = stac.open_catalog(plan.recipe.query.catalog)
    for days in _months(new):
        for day in days:
            new[day].pull("items.parquet", "features.parquet")
        read = {day: stac.read_items(new[day].local / "items.parquet") for day in days}
        put_items(store, "items.parquet", {day: [item_of_day(i, day) for i in items] for day, items in read.items()})
        if "features.parquet" in tables(plan):
            files = {day: new[day].local / "features.parquet" for day in days}
            put_parts(store, "features.parquet", files, found.told.ids if found.told else None)
        sources = {day: found.sources(store, day) for day in days}
        put_items(store, "sources.parquet", sources, catalog=catalog, left_out=look.left_out)
    for name in ("items.parquet", "features.parquet", "sources.parquet") if gone else ():
        drop_parts(store, name, gone)


def _others(store: RunStore, out: str | Path, told: History, days: Iterable[str]) -> None:
    """Write the features of days that are as they were, where their changes have other ids now."""
    for day in sorted(told.ids.keys() & set(days)):
        store.pull(name := part_name("features.parquet", day))
        if read_column(store.local / name, "id") != told.ids[day]:
            whole = run_store(day_out(out, day)).local / "features.parquet"
            put_parts(store, "features.parquet", {day: whole}, told.ids)


def _months(days: Iterable[str]) -> Iterator[list[str]]:
    for _, month in groupby(sorted(days), lambda day: day[:7]):
        yield list(month)


def _documents(
    store: RunStore, out: str | Path, plan: Plan, entries: Mapping[str, Entry], months: set[str], id: str
) -> None:
    card = json.loads(json.dumps(mlm.to_item(plan.card).to_dict(include_self_link=False)))  # lists as they are read
    store.pull(MODEL)
    if read_series(store.local / MODEL) != card:
        write_json(store.inside(MODEL), card)
        store.push(MODEL)
    about = f"{plan.card.task} by {plan.card.name} over {plan.collection or plan.recipe.query.catalog}, day by day"
    last = run_store(day_out(out, max(entries))) if entries else store
    last.pull("collection.json")
    files = {name: FILES[name] for name in tables(plan)}
    write_series(store, entries, months, id=id, title=about, files=files, last=last.local / "collection.json")


@dataclass
class _Found:
    """What changed: ``rows`` of changes, the versions that the series is made of now, and the items that are new."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    held: dict[str, dict[str, str]] = field(default_factory=dict)
    items: dict[str, dict[str, pystac.Item]] = field(default_factory=dict)
    told: History | None = None
    """Of a model of two dates, the changes followed from day to day."""

    def sources(self, store: RunStore, day: str) -> list[pystac.Item]:
        """The items that the series is made of on a day."""
        known = {i.id: i for i in items_of_day(store, "sources.parquet", day)} | self.items.get(day, {})
        return [item for key, item in known.items() if key in self.held.get(day, {})]


def _changes(out: str | Path, store: RunStore, entries: Mapping[str, Entry], look: Look) -> _Found:
    """A row for each item that is not as the series has it.

    An item stays a change, and where it was, until the blocks that use it are done.
    """
    made = _Found(held={day: dict(e["items"]) for day, e in entries.items()})
    under: dict[str, set[str]] = {}
    used: dict[str, set[str]] = {}
    for day, known in made.held.items():
        for key in known:
            under.setdefault(key, set()).add(day)
    seen = now()

    def tell(day: str, key: str, change: str, new: str, old: str | None, blocks: int = 0, done: int = 0) -> None:
        row = {"seen": seen, "day": day, "item": key, "change": change, "version": new, "before": old}
        made.rows.append({**row, "blocks": blocks, "done": done, "moved_from": None})

    for day in look.days:
        run = run_store(day_out(out, day))
        plan = read_plan(run)
        items = stac.read_items(run.local / "sources.parquet")
        found = {i.id: i for i in plan.by_date(items)[-1]}  # without those of the reference
        used[day] = set(found)
        known = made.held.setdefault(day, {})
        left = {key: sorted(under.get(key, set()) - {day}) for key in found}
        changed = {k: i for k, i in found.items() if known.get(k) != item_version(i) or left[k]}
        using, done = _blocks(run) if changed else ({}, set())
        for key, item in changed.items():
            asked, version, others = using.get(key, set()), item_version(item), left[key]
            change = "moved" if others else "reprocessed" if key in known else "new"
            old = made.held[others[0]].get(key) if others else known.get(key)
            tell(day, key, change, version, old, len(asked), len(asked & done))
            made.rows[-1]["moved_from"] = others[0] if others else None
            if asked <= done:  # until then the item stays a change
                known[key], made.items.setdefault(day, {})[key] = version, item
                for other in others:
                    made.held[other].pop(key, None)
    for day in [*look.days, *look.gone]:
        there = made.held.get(day, {})
        for key in [k for k in there if k not in used.get(day, ())]:
            if not look.found.get(key, set()) - {day}:  # one that moved goes when it has arrived
                tell(day, key, "withdrawn", "", there.pop(key))
    return made


def _blocks(run: RunStore) -> tuple[dict[str, set[str]], set[str]]:
    """The blocks that use each item, and the blocks that are done."""
    plan, size = read_plan(run), run.blocks()
    using: dict[str, set[str]] = {}
    by_id = plan.by_id()
    for key, planned in by_id.items():
        for item in planned.items:
            using.setdefault(item, set()).add(key)
    return using, {key for key, planned in by_id.items() if is_done(run, plan, planned, size)}
