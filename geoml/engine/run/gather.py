"""The runs of the days of a monitor put together as one series, at the cost of the days that changed."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import pystac

from geoml.engine.run.history import History, history, write_history
from geoml.engine.run.migrate import migrate
from geoml.engine.run.monitor import FILES, Scan, day_out, follower_of, tables
from geoml.engine.run.plan import MODEL, Plan, item_version, read_plan
from geoml.engine.run.scan_record import ScanRecord, read_scan_record, write_scan_record
from geoml.engine.run.tally import is_done
from geoml.io.cards import mlm
from geoml.io.stac import search as stac
from geoml.io.stac.series import (
    Entry,
    day_entry,
    item_of_day,
    now,
    read_entries,
    read_series,
    write_series,
)
from geoml.io.stac.series_changes import add_changes
from geoml.io.stac.series_tables import drop_parts, items_of_day, part_name, put_items, put_parts, read_column
from geoml.io.stores.remote import RunStore, run_store
from geoml.io.stores.store import write_json

log = logging.getLogger(__name__)

Row = dict[str, Any]
"""Of ``changes.parquet``."""


def read_state(out: str | Path) -> tuple[dict[str, Entry], ScanRecord]:
    """What the series in ``out`` holds, by day, and the record of its scans.

    An old series is brought to its new form first, and an interrupted deletion is finished. Raises DataError for a
    damaged series.
    """
    store = run_store(out)
    migrate(store)
    entries, _ = read_entries(store)
    record = read_scan_record(store, entries)
    delete_days(out, (day for day in record.leaving if day not in entries))
    return entries, record


def gather(out: str | Path, scan: Scan) -> list[Row]:
    """Merge the runs of the days of a scan into the series in ``out`` and remove the days that are gone.

    `geoml.engine.run.monitor.FILES` are written in their order, then ``collection.json``. Returns the rows of changes.
    Only parts of days that changed are written, and nothing when nothing is new. After one that died, the next merges
    what is left: the days whose collections differ from those in the series.
    """
    store = run_store(out)
    entries, whole = read_entries(store)
    changes = _find_changes(out, store, entries, scan)
    add_changes(store, changes.rows)
    runs = {day: run_store(day_out(out, day)) for day in scan.days}
    for run in runs.values():
        run.pull("collection.json")
    runs = {day: run for day, run in runs.items() if (run.local / "collection.json").is_file()}
    made = {day: day_entry(run.local / "collection.json", changes.versions.get(day, {})) for day, run in runs.items()}
    gone = [day for day in scan.gone if not changes.versions.get(day)]
    after = {day: e for day, e in sorted({**entries, **made}.items()) if day not in gone}
    if newest := max(after or gone, default=None):
        plan = read_plan(day_out(out, newest))
        names = tables(plan)
        changed = [d for d, e in made.items() if e != entries.get(d) or not _has_parts(store, names, d)]
        if changed or gone or not whole:
            if gone:
                write_scan_record(store, replace(scan.record, leaving=tuple(gone)))
            if (follower := follower_of(plan)) and (changed or gone):
                all_runs = {day: run_store(day_out(out, day)) for day in after}
                changes.history = history(follower, store, all_runs, {*changed, *gone})
                if words := follower.warning:
                    log.warning("%s", words)
                    scan.warnings.append(words)
            _tables(store, plan, {day: runs[day] for day in changed}, gone, scan, changes)
            if changes.history:
                _rewrite_ids(store, out, changes.history, after.keys() - set(changed))
                write_history(store, changes.history)
            _documents(store, out, plan, after, {day[:7] for day in (*changed, *gone)}, scan.id)
    delete_days(out, gone)
    write_scan_record(store, replace(scan.new_record(), leaving=()))
    return changes.rows


def record_scan(out: str | Path, scan: Scan) -> None:
    """Record the days of a scan that found nothing."""
    write_scan_record(run_store(out), scan.new_record())


def delete_days(out: str | Path, days: Iterable[str]) -> None:
    """Delete the runs of days that are no more in the series."""
    for day in days:
        run = run_store(day_out(out, day))
        run.remove(*run.sizes())
        shutil.rmtree(run.local, ignore_errors=True)


def _has_parts(store: RunStore, names: Sequence[str], day: str) -> bool:
    """True where the parts of a day exist; nobody deletes those of a bucket by hand."""
    daily = [name for name in names if name not in ("changes.parquet", "tracks.parquet")]
    return store.remote or all((store.local / part_name(name, day)).is_file() for name in daily)


def _tables(
    store: RunStore, plan: Plan, new: Mapping[str, RunStore], gone: Sequence[str], scan: Scan, changes: _Changes
) -> None:
    """Write the parts of days, a month at a time, the sources last: they say what a day was made of."""
    catalog = stac.open_catalog(plan.recipe.query.catalog)
    for _, month in groupby(sorted(new), lambda day: day[:7]):
        days = list(month)
        for day in days:
            new[day].pull("items.parquet", "features.parquet")
        read = {day: stac.read_items(new[day].local / "items.parquet") for day in days}
        put_items(store, "items.parquet", {day: [item_of_day(i, day) for i in items] for day, items in read.items()})
        if "features.parquet" in tables(plan):
            files = {day: new[day].local / "features.parquet" for day in days}
            put_parts(store, "features.parquet", files, changes.history.ids if changes.history else None)
        sources = {day: changes.sources(store, day) for day in days}
        put_items(store, "sources.parquet", sources, catalog=catalog, left_out=scan.left_out)
    for name in ("items.parquet", "features.parquet", "sources.parquet") if gone else ():
        drop_parts(store, name, gone)


def _rewrite_ids(store: RunStore, out: str | Path, followed: History, days: Iterable[str]) -> None:
    """Write the features of unchanged days again, where the tracks of their changes have other ids now."""
    for day in sorted(followed.ids.keys() & set(days)):
        store.pull(name := part_name("features.parquet", day))
        if read_column(store.local / name, "id") != followed.ids[day]:
            whole = run_store(day_out(out, day)).local / "features.parquet"
            put_parts(store, "features.parquet", {day: whole}, followed.ids)


def _documents(
    store: RunStore, out: str | Path, plan: Plan, entries: Mapping[str, Entry], months: set[str], id: str
) -> None:
    card = json.loads(json.dumps(mlm.to_item(plan.card).to_dict(include_self_link=False)))  # lists as they are read
    store.pull(MODEL)
    if read_series(store.local / MODEL) != card:
        write_json(store.inside(MODEL), card)
        store.push(MODEL)
    about = f"{plan.title}, day by day"
    last = run_store(day_out(out, max(entries))) if entries else store
    last.pull("collection.json")
    files = {name: FILES[name] for name in tables(plan)}
    write_series(store, entries, months, id=id, title=about, files=files, last=last.local / "collection.json")


@dataclass
class _Changes:
    """What changed: ``rows`` of changes, the versions that the series is made of now, and the items that are new."""

    rows: list[Row] = field(default_factory=list)
    versions: dict[str, dict[str, str]] = field(default_factory=dict)
    items: dict[str, dict[str, pystac.Item]] = field(default_factory=dict)
    history: History | None = None
    """What was followed from day to day, where something keeps its id."""

    def sources(self, store: RunStore, day: str) -> list[pystac.Item]:
        """The items that the series is made of on a day."""
        items = {i.id: i for i in items_of_day(store, "sources.parquet", day)} | self.items.get(day, {})
        return [item for key, item in items.items() if key in self.versions.get(day, {})]


def _find_changes(out: str | Path, store: RunStore, entries: Mapping[str, Entry], scan: Scan) -> _Changes:
    """A row for each item that is not as the series has it.

    An item stays a change, and where it was, until the blocks that use it are done.
    """
    changes = _Changes(versions={day: dict(e["items"]) for day, e in entries.items()})
    under: dict[str, set[str]] = {}
    used: dict[str, set[str]] = {}
    for day, versions in changes.versions.items():
        for key in versions:
            under.setdefault(key, set()).add(day)
    seen = now()

    def add_row(day: str, key: str, change: str, new: str, old: str | None, blocks: int = 0, done: int = 0) -> None:
        row = {"seen": seen, "day": day, "item": key, "change": change, "version": new, "before": old}
        changes.rows.append({**row, "blocks": blocks, "done": done, "moved_from": None})

    for day in scan.days:
        run = run_store(day_out(out, day))
        plan = read_plan(run)
        items = stac.read_items(run.local / "sources.parquet")
        items_now = {i.id: i for i in plan.by_date(items)[-1]}  # without those of the reference
        used[day] = set(items_now)
        versions = changes.versions.setdefault(day, {})
        left = {key: sorted(under.get(key, set()) - {day}) for key in items_now}
        changed = {k: i for k, i in items_now.items() if versions.get(k) != item_version(i) or left[k]}
        using, done = _blocks(run) if changed else ({}, set())
        for key, item in changed.items():
            blocks, version, others = using.get(key, set()), item_version(item), left[key]
            change = "moved" if others else "reprocessed" if key in versions else "new"
            old = changes.versions[others[0]].get(key) if others else versions.get(key)
            add_row(day, key, change, version, old, len(blocks), len(blocks & done))
            changes.rows[-1]["moved_from"] = others[0] if others else None
            if blocks <= done:  # until then the item stays a change
                versions[key], changes.items.setdefault(day, {})[key] = version, item
                for other in others:
                    changes.versions[other].pop(key, None)
    for day in [*scan.days, *scan.gone]:
        there = changes.versions.get(day, {})
        for key in [k for k in there if k not in used.get(day, ())]:
            if not scan.item_days.get(key, set()) - {day}:  # one that moved goes when it has arrived
                add_row(day, key, "withdrawn", "", there.pop(key))
    return changes


def _blocks(run: RunStore) -> tuple[dict[str, set[str]], set[str]]:
    """The blocks that use each item, and the blocks that are done."""
    plan, size = read_plan(run), run.blocks()
    using: dict[str, set[str]] = {}
    by_id = plan.by_id()
    keys = list(by_id)
    for n, items in plan.blocks.users():
        for item in items:
            using.setdefault(item, set()).add(keys[n])
    return using, {key for key, planned in by_id.items() if is_done(run, plan, planned, size)}
