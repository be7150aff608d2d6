"""Monitoring: the days of a window, each an ordinary run below one folder, and what changed in them.

An item is done when the blocks that use it are done as it is now; the collection of the series says, by the digest of
each day's collection, of what it was put together. Beside that only the days that were searched are recorded.
"""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pystac

from geoml.engine.contract import input_of, output_of
from geoml.engine.following import Follower
from geoml.engine.run.plan import STATE, Plan
from geoml.engine.run.plan import check as check_recipe
from geoml.engine.run.planned import card_of
from geoml.engine.run.scan_record import DAY, ScanRecord, Span, format_spans, merge_spans
from geoml.errors import DataError, GeomlError, InputError, TransientError
from geoml.io.stac import search as stac
from geoml.io.stac.series import DAYS, Entry, now, read_series
from geoml.io.stac.times import time_of
from geoml.io.stores.remote import run_store
from geoml.io.stores.store import within, write_json
from geoml.recipe import PredictRecipe, differences, digest
from geoml.texts import counted, listed

FILES = {
    "changes.parquet": "what changed: items that are new, reprocessed, moved or withdrawn",
    "sources.parquet": "stac-geoparquet of the sources, of all days",
    "items.parquet": "stac-geoparquet of the outputs, of all days",
    "features.parquet": "GeoParquet 1.1: polygons or boxes of the classes, of all days",
    "tracks.parquet": "GeoParquet 1.1: what was followed, with the days on which it was seen first and last and closed",
}
"""Tables of a series beside ``collection.json``, in the order in which they are written."""


SERIES = f"{STATE}/series.json"
"""What a series is of; where it is, the folder is that of a series."""


OTHER_MODEL = "the card or the weights of its model have changed since"
"""How a run differs from one of the same recipe."""

log = logging.getLogger(__name__)


@dataclass
class Scan:
    """The result of one scan of the catalog: days with blocks to do or to merge, and those that cannot be planned."""

    id: str
    days: list[str] = field(default_factory=list)
    todo: dict[str, list[str]] = field(default_factory=dict)
    failed: dict[str, GeomlError] = field(default_factory=dict)
    items: int = 0
    left_out: dict[str, str] = field(default_factory=dict)
    """Items that cannot be used, of all days, and why."""
    unlike: list[str] = field(default_factory=list)
    """Days of this scan whose images are unlike the training data of the model."""
    warnings: list[str] = field(default_factory=list)
    """Of the maps of the days that were done, each behind its day."""
    gone: list[str] = field(default_factory=list)
    """Days of the series that were searched and have no item any more."""
    item_days: dict[str, set[str]] = field(default_factory=dict)
    """The days under which each item was found, by id."""
    gap: str = ""
    """A sentence about days before the window that no scan had searched; empty if there is none."""
    record: ScanRecord = field(default_factory=ScanRecord)
    """Of the scans before."""
    spans: tuple[Span, ...] = ()
    """What this scan has searched."""
    window: Span = (dt.date.min, dt.date.min)

    def search_spans(self, fill: bool, floor: dt.date) -> tuple[Span, ...]:
        """The spans to search for the window; with ``fill`` also what missing scans would have searched.

        These are days that were never searched, and days whose items may have come late or been made again since the
        last scan; none of them before ``floor``. The log and `gap` name the days never searched, filled or not.
        """
        first, last = self.window
        missing = self.record.missing_before(first)
        if missing:
            words = "were looked at now" if fill else "were not looked at; fill does that"
            self.gap = f"no night had looked at {format_spans(missing)}, which {words}"
            log.warning("%s", self.gap)
        begin = first if self.record.last is None else max(self.record.last + DAY - (last - first), floor)
        return merge_spans([*missing, (min(begin, first), last)]) if fill and first <= last else (self.window,)

    def add_items(self, days: Mapping[str, Sequence[pystac.Item]]) -> None:
        """Note under which days items were found."""
        for day, items in days.items():
            for item in items:
                self.item_days.setdefault(item.id, set()).add(day)

    def drop_day(self, day: str) -> None:
        """Drop a day without an item that counts."""
        self.item_days = {key: left for key, days in self.item_days.items() if (left := days - {day})}

    def new_record(self) -> ScanRecord:
        """The record after this scan; days that may work later have to be searched again."""
        again = [dt.date.fromisoformat(day) for day, err in self.failed.items() if isinstance(err, TransientError)]
        return self.record.after(self.spans, self.window, again) if self.spans else self.record


def window(lookback: int, until: str | None) -> tuple[dt.date, dt.date]:
    """First and last UTC day to search: ``lookback`` days and the one of ``until`` (a time; None: now).

    Whole days, since an item of a day that is seen in part would look withdrawn. Raises InputError.
    """
    if lookback < 0:
        raise InputError(f"lookback: {lookback}; expected days, 0 or more")
    end = stac.parse_datetime(until)[1] if until else now()
    if end is None:
        raise InputError(f"until: {until!r} has no end; expected a date or a time")
    return end.date() - dt.timedelta(days=lookback), end.date()


def by_day(items: Iterable[pystac.Item], spans: Sequence[Span]) -> dict[str, list[pystac.Item]]:
    """Items of ``spans`` by the UTC day of their ``datetime`` (``start_datetime`` without), oldest day first.

    They keep their order, and an item that several searches found comes once.
    """
    days: dict[str, dict[str, pystac.Item]] = {}
    for item in items:
        day = day_of(item)
        if any(first <= day <= last for first, last in spans):
            days.setdefault(day.isoformat(), {}).setdefault(item.id, item)
    return {day: list(by_id.values()) for day, by_id in sorted(days.items())}


def moved_spans(items: Iterable[pystac.Item], entries: Mapping[str, Entry], spans: Sequence[Span]) -> tuple[Span, ...]:
    """Days of a series, in none of ``spans``, that hold one of ``items``, which has another day now."""
    ids = {item.id for item in items}
    days = [dt.date.fromisoformat(day) for day, e in entries.items() if not ids.isdisjoint(e["items"])]
    return tuple((day, day) for day in days if not any(first <= day <= last for first, last in spans))


def withdrawn_days(scan: Scan, entries: Mapping[str, Entry], whole: Sequence[Span]) -> list[str]:
    """Days of a series in ``whole``, which were searched to the end, of whose items none counts any more.

    A day with an item that is still there and cannot be used is not among them: the item is left out and named.
    """
    there = {day for days in scan.item_days.values() for day in days}
    searched = [d for d in entries if any(first <= dt.date.fromisoformat(d) <= last for first, last in whole)]
    return [d for d in searched if d not in there and not scan.left_out.keys() & entries[d]["items"].keys()]


def day_of(item: pystac.Item) -> dt.date:
    """The UTC day of an item."""
    if (when := time_of(item)) is None:
        raise DataError(f"{item.id}: neither datetime nor start_datetime")
    return when.date()


def recipe_of(recipe: PredictRecipe, when: str) -> PredictRecipe:
    """The recipe of one day, or of the whole window; of two dates the first one, the reference, stays."""
    dates = (*recipe.query.datetime[:-1], when)
    return recipe.model_copy(update={"query": recipe.query.model_copy(update={"datetime": dates})})


def reference_of(recipe: PredictRecipe) -> str | None:
    """The earlier date that every day is compared with; None for a model of one date.

    Raises InputError for dates that do not fit the model.
    """
    return input_of(card_of(recipe), recipe).reference(recipe.query.datetime)


def check(recipe: PredictRecipe, lookback: int, until: str | None) -> None:
    """Raise what `geoml.pipeline.scan` raises for the recipe alone, before anything is written or searched."""
    reference = reference_of(recipe)
    window(lookback, until)
    if reference is not None:
        stac.parse_datetime(reference)
    check_recipe(recipe_of(recipe, ".."), dates=False)


def claim_series(recipe: PredictRecipe, out: str | Path) -> str:
    """Write to ``out`` which series it holds; the id of the series.

    Raises InputError for dates that do not fit the model and for the folder of a single run or of another series.
    """
    card, store = card_of(recipe), run_store(out)
    input_of(card, recipe).reference(recipe.query.datetime)
    if store.read(f"{STATE}/plan.json") is not None:
        raise InputError(
            f"out: {store.url} contains a single run; expected an empty folder or one of an earlier monitor"
        )
    name = f"{card.name}-{digest([recipe_of(recipe, '..').hash, card.sha256, *card.marks])[:12]}"
    store.pull(SERIES)
    before = read_series(store.local / SERIES)
    if before and before.get("id") != name:
        other = differences(before.get("recipe") or {}, recipe_of(recipe, ".."), ("block_size", "max_failed"))
        raise InputError(
            f"out: {store.url} contains a series of a different recipe: {other or OTHER_MODEL}; expected another folder"
        )
    if not before:
        write_json(store.inside(SERIES), {"id": name, "recipe": recipe_of(recipe, "..").model_dump(mode="json")})
        store.push(SERIES)
    return name


def day_out(out: str | Path, day: str) -> str:
    """The place of the run of one day in a series. Raises DataError if a folder on the way is a link."""
    if "://" not in str(out):
        within(Path(out), f"{DAYS}/{day}/{STATE}")
    return f"{str(out).rstrip('/')}/{DAYS}/{day}"


def follower_of(plan: Plan) -> Follower[Any] | None:
    """How the features of a series are followed; None if there are none, or nothing keeps its id."""
    output = output_of(plan.card, plan.recipe)
    return output.follower() if "features.parquet" in output.tables else None


def tables(plan: Plan) -> list[str]:
    """The names of the tables of a series, in the order of `FILES`."""
    features = "features.parquet" in output_of(plan.card, plan.recipe).tables
    needs = {"features.parquet": features, "tracks.parquet": follower_of(plan) is not None}
    return [name for name in FILES if needs.get(name, True)]


def days_error(failed: Mapping[str, GeomlError]) -> GeomlError:
    """One error for the days that failed, of the class that has to act first."""
    listed = "; ".join(f"{day}: {err}" for day, err in list(failed.items())[:3])
    more = f"; and {len(failed) - 3} more" if len(failed) > 3 else ""
    kinds = [type(err) for err in failed.values()]
    kind = next((k for k in kinds if not issubclass(k, DataError | TransientError)), None)
    kind = kind or (DataError if DataError in kinds else TransientError)
    return kind(f"{counted(len(failed), 'day')} failed, the others are published: {listed}{more}")


def summary(rows: Sequence[Mapping[str, Any]], scan: Scan) -> str:
    """How many items are new, reprocessed, moved and withdrawn, on how many days; what else has to be known."""
    kinds = ("new", "reprocessed", "moved", "withdrawn")
    counts = {kind: sum(r["change"] == kind for r in rows) for kind in kinds}
    changes = ", ".join(f"{n} {kind}" for kind, n in counts.items() if n) or "nothing new"
    unlike = f"; images unlike the training data of the model on {listed(scan.unlike)}" if scan.unlike else ""
    return f"{changes}; {counted(len(scan.todo), 'day')}{unlike}{'; ' * bool(scan.gap)}{scan.gap}"
