"""Monitoring: the days of a window, each an ordinary run below one folder, and what changed in them.

Nothing is remembered beside the outputs. An item is done when the blocks that use it are done as it is now; the
collection of the series says, by the digest of each day's collection, of what it was put together.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pystac

from geoml.engine.history import history
from geoml.engine.package import read_card
from geoml.engine.plan import MODEL, STATE, item_version, read_plan
from geoml.engine.plan import check as check_recipe
from geoml.engine.run import is_done
from geoml.errors import DataError, GeomlError, InputError, TransientError
from geoml.io import mlm, stac
from geoml.io.card import ModelCard
from geoml.io.changes import tracks_frame, write_changes
from geoml.io.remote import RunStore, run_store
from geoml.io.series import DAYS, DIGESTS, add_changes, join_features, now, of_day, read_series, write_series
from geoml.io.store import sha256, within, write_json
from geoml.recipe import PredictRecipe, differences, digest
from geoml.texts import listed

FILES = {
    "changes.parquet": "what changed: items that are new, reprocessed or withdrawn",
    "sources.parquet": "stac-geoparquet of what was read, of all days",
    "items.parquet": "stac-geoparquet of what was written, of all days",
    "features.parquet": "GeoParquet 1.1: polygons of the classes, of all days",
    "tracks.parquet": "GeoParquet 1.1: changes with the days on which they were seen first and last, and closed",
}
"""Files of a series beside ``collection.json``, in the order in which they are written."""


SERIES = f"{STATE}/series.json"
"""What a series is of; where it is, the folder is that of a series."""


OTHER_MODEL = "the card or the weights of its model have changed since"
"""How a run differs from one of the same recipe."""


@dataclass
class Look:
    """What a look at the catalog found: days with blocks to do or to put together, and those that cannot be planned."""

    id: str
    days: list[str] = field(default_factory=list)
    todo: dict[str, list[str]] = field(default_factory=dict)
    failed: dict[str, GeomlError] = field(default_factory=dict)
    items: int = 0
    left_out: dict[str, str] = field(default_factory=dict)
    """Items that cannot be used, of all days, and why."""
    unlike: list[str] = field(default_factory=list)
    """Days of this look whose images are unlike the training data of the model."""
    warnings: list[str] = field(default_factory=list)
    """Of the maps of the days that were done, each behind its day."""


def window(lookback: int, until: str | None) -> tuple[dt.date, dt.date]:
    """First and last UTC day to look at: ``lookback`` days and the one of ``until`` (a time; None: now).

    Whole days, since an item of a day that is seen in part would look withdrawn. Raises InputError.
    """
    if lookback < 0:
        raise InputError(f"lookback: {lookback}; expected days, 0 or more")
    end = stac.parse_datetime(until)[1] if until else now()
    if end is None:
        raise InputError(f"until: {until!r} has no end; expected a date or a time")
    return end.date() - dt.timedelta(days=lookback), end.date()


def by_day(items: Iterable[pystac.Item], first: dt.date, last: dt.date) -> dict[str, list[pystac.Item]]:
    """Items by the UTC day of their ``datetime`` (``start_datetime`` without), oldest day first, in their order."""
    days: dict[str, list[pystac.Item]] = {}
    for item in items:
        day = day_of(item)
        if first <= day <= last:
            days.setdefault(day.isoformat(), []).append(item)
    return dict(sorted(days.items()))


def day_of(item: pystac.Item) -> dt.date:
    """The UTC day of an item."""
    when = item.datetime or item.common_metadata.start_datetime
    if when is None:
        raise DataError(f"{item.id}: neither datetime nor start_datetime")
    return (when if when.tzinfo else when.replace(tzinfo=dt.UTC)).astimezone(dt.UTC).date()


def recipe_of(recipe: PredictRecipe, when: str) -> PredictRecipe:
    """The recipe of one day, or of the whole window; of two dates the first one, the reference, stays."""
    dates = (*recipe.query.datetime[:-1], when)
    return recipe.model_copy(update={"query": recipe.query.model_copy(update={"datetime": dates})})


def reference_of(recipe: PredictRecipe) -> str | None:
    """The earlier date that every day is compared with; None for a model of one date."""
    return recipe.query.datetime[0] if len(recipe.query.datetime) > 1 else None


def check(recipe: PredictRecipe, lookback: int, until: str | None) -> None:
    """Raise what `look` would raise for the recipe alone, before anything is written or searched."""
    _card_of(recipe)
    window(lookback, until)
    if (reference := reference_of(recipe)) is not None:
        stac.parse_datetime(reference)
    check_recipe(recipe_of(recipe, ".."), dates=False)


def _card_of(recipe: PredictRecipe) -> ModelCard:
    """The card of a recipe's model. Raises InputError for dates that do not fit it."""
    card, given = read_card(recipe.model), len(recipe.query.datetime)
    if card.dates > 2 or given != card.dates:
        takes = (
            "expected the earlier date to compare each day with" if card.dates == 2 else "monitoring needs one or two"
        )
        raise InputError(f"datetime: {card.name} takes {card.dates} dates; {takes}")
    return card


def claim(recipe: PredictRecipe, out: str | Path) -> str:
    """Say in ``out`` which series it holds; the id of it.

    Raises InputError for dates that do not fit the model and for the folder of a single run or of another series.
    """
    card, store = _card_of(recipe), run_store(out)
    if store.read(f"{STATE}/plan.json") is not None:
        raise InputError(f"out: {store.url} holds a single run; expected an empty folder or one of an earlier monitor")
    made = f"{card.name}-{digest([recipe_of(recipe, '..').hash, card.sha256])[:12]}"
    store.pull(SERIES)
    before = read_series(store.local / SERIES)
    if before and before.get("id") != made:
        said = differences(before.get("recipe") or {}, recipe_of(recipe, ".."), ("block_size", "max_failed"))
        raise InputError(
            f"out: {store.url} holds the series of another recipe: {said or OTHER_MODEL}; expected another folder"
        )
    if not before:
        write_json(store.inside(SERIES), {"id": made, "recipe": recipe_of(recipe, "..").model_dump(mode="json")})
        store.push(SERIES)
    return made


def day_out(out: str | Path, day: str) -> str:
    """The place of the run of one day in a series. Raises DataError where a folder on the way is a link."""
    if "://" not in str(out):
        within(Path(out), f"{DAYS}/{day}/{STATE}")
    return f"{str(out).rstrip('/')}/{DAYS}/{day}"


def gather(out: str | Path, look: Look) -> list[dict[str, Any]]:
    """Put the runs of all days together in ``out``: see `FILES`, then ``collection.json``. Gives the rows of changes.

    Writes nothing when nothing is new. The collection comes last: a run that dies before is put together by the next.
    """
    store = run_store(out)
    store.pull("collection.json", "sources.parquet", "changes.parquet")
    folder = store.local
    before = read_series(folder / "collection.json")
    stores = {day: run_store(day_out(out, day)) for day in _known(folder, before, look)}
    for part in stores.values():
        part.pull("collection.json")
    stores = {day: part for day, part in stores.items() if (part.local / "collection.json").is_file()}
    digests = {day: sha256(part.local / "collection.json") for day, part in stores.items()}
    sources, rows = _changes(out, folder, look)
    complete = store.remote or all((folder / a["href"]).is_file() for a in before.get("assets", {}).values())
    if not stores or (before.get(DIGESTS) == digests and complete and not rows):
        return rows
    for part in stores.values():
        part.pull("items.parquet", "features.parquet")
    plan = read_plan(stores[max(set(stores) & set(look.days) or stores)])
    names = [
        n
        for n in FILES
        if (n != "features.parquet" or plan.recipe.features)
        and (n != "tracks.parquet" or (plan.recipe.features and plan.card.dates > 1))
    ]
    add_changes(rows, folder / "changes.parquet")
    catalog = stac.open_catalog(plan.recipe.query.catalog)
    stac.write_items(sources, folder / "sources.parquet", catalog=catalog, left_out=look.left_out)
    items = [of_day(i, day) for day, part in stores.items() for i in stac.read_items(part.local / "items.parquet")]
    stac.write_items(items, folder / "items.parquet")
    if plan.recipe.features:
        ids = None
        if plan.card.dates > 1:
            tracks, ids = history({day: part.local for day, part in stores.items()})
            write_changes(tracks_frame(tracks, plan.card), folder / "tracks.parquet")
        parts = [part.local / "features.parquet" for part in stores.values()]
        join_features(parts, folder / "features.parquet", ids)
    write_json(folder / MODEL, mlm.to_item(plan.card).to_dict(include_self_link=False))
    about = f"{plan.card.task} by {plan.card.name} over {plan.collection or plan.recipe.query.catalog}, day by day"
    write_series(
        {day: part.local / "collection.json" for day, part in stores.items()},
        folder / "collection.json",
        id=look.id,
        title=about,
        digests=digests,
        files={n: FILES[n] for n in names},
    )
    store.push(*names, MODEL, "collection.json")
    return rows


def _known(folder: Path, before: Mapping[str, Any], look: Look) -> list[str]:
    """Days of a series: those of its collection, those just found, and the folders that lie here."""
    here = (p.parent.name for p in (folder / DAYS).glob("*/collection.json"))
    return sorted({*before.get(DIGESTS, {}), *look.days, *here})


def _changes(out: str | Path, folder: Path, look: Look) -> tuple[list[pystac.Item], list[dict[str, Any]]]:
    """All items that the series is made of now, and a row for each that changed since its collection was written."""
    path = folder / "sources.parquet"
    before = {(day_of(i).isoformat(), i.id): i for i in (stac.read_items(path) if path.is_file() else [])}
    after, rows = dict(before), []
    seen = now()
    for day in look.days:
        store = run_store(day_out(out, day))
        items = stac.read_items(store.local / "sources.parquet")
        found = {i.id: i for i in read_plan(store).by_date(items)[-1]}  # without those of the reference
        gone = [key for at, key in before if at == day and key not in found]
        versions = {
            key: tuple(_version(i) for i in (before.get((day, key)), found.get(key))) for key in [*found, *gone]
        }
        changed = {key: pair for key, pair in versions.items() if pair[0] != pair[1]}
        using, done = _blocks(store) if changed else ({}, set())
        for key, (old, new) in changed.items():
            kind = "withdrawn" if new is None else "new" if old is None else "reprocessed"
            asked = using.get(key, set())
            row = {"seen": seen, "day": day, "item": key, "change": kind, "version": new or "", "before": old}
            rows.append({**row, "blocks": len(asked), "done": len(asked & done)})
            if new is None:
                del after[day, key]
            elif asked <= done:  # until then the item stays a change
                after[day, key] = found[key]
    return list(after.values()), rows


def _version(item: pystac.Item | None) -> str | None:
    return None if item is None else item_version(item)


def _blocks(store: RunStore) -> tuple[dict[str, set[str]], set[str]]:
    """The blocks that use each item, and the blocks that are done."""
    plan, size = read_plan(store), store.blocks()
    using: dict[str, set[str]] = {}
    by_id = plan.by_id()
    for key, planned in by_id.items():
        for item in planned.items:
            using.setdefault(item, set()).add(key)
    return using, {key for key, planned in by_id.items() if is_done(store, plan, planned, size)}


def trouble(failed: Mapping[str, GeomlError]) -> GeomlError:
    """One error for the days that failed, of the class that has to act first."""
    listed = "; ".join(f"{day}: {err}" for day, err in list(failed.items())[:3])
    more = f"; and {len(failed) - 3} more" if len(failed) > 3 else ""
    kinds = [type(err) for err in failed.values()]
    kind = next((k for k in kinds if not issubclass(k, DataError | TransientError)), None)
    kind = kind or (DataError if DataError in kinds else TransientError)
    return kind(f"{len(failed)} days failed, the others are published: {listed}{more}")


def summary(rows: Sequence[Mapping[str, Any]], look: Look) -> str:
    """How many items are new, reprocessed and withdrawn, on how many days, and which days the model does not fit."""
    counts = {kind: sum(r["change"] == kind for r in rows) for kind in ("new", "reprocessed", "withdrawn")}
    said = ", ".join(f"{n} {kind}" for kind, n in counts.items() if n) or "nothing new"
    unlike = f"; images unlike the training data of the model on {listed(look.unlike)}" if look.unlike else ""
    return f"{said}; {len(look.todo)} days{unlike}"
