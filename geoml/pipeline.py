"""The steps of a run as plain functions: references in, references out.

`predict` runs them one after the other in this process; the flows run the same ones under Prefect. What passes between
steps is the output folder and block ids; arrays stay inside a step.
"""

from __future__ import annotations

import datetime as dt
import errno
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pystac

from geoml.data.recipe import recipe_file
from geoml.engine.machine.halt import halting
from geoml.engine.run import gather as gathering
from geoml.engine.run import monitor as monitoring
from geoml.engine.run import plan as planning
from geoml.engine.run.blocks import Progress, is_done, run_blocks
from geoml.engine.run.collect import collect, collected
from geoml.engine.run.domain import compare
from geoml.engine.run.planned import changed
from geoml.engine.run.sample import with_sample
from geoml.engine.run.search import search
from geoml.engine.run.searched import Searched
from geoml.engine.task import DEFAULT, Task, find
from geoml.engine.workers.drive import run_all
from geoml.errors import DataError, GeomlError, InputError, NothingFound, limits, too_long
from geoml.io.cards.domain import said
from geoml.io.software import of_item, others
from geoml.io.stac import search as stac
from geoml.io.stac.left_out import of_error
from geoml.io.stores.remote import RunStore, run_store
from geoml.io.stores.store import within
from geoml.recipe import Frozen, PredictRecipe, check_text, differences, load_yaml, parse

if TYPE_CHECKING:
    from geoml.engine.run.blocks import Tally
    from geoml.engine.task import OnEpoch

__all__ = [
    "collect",
    "do_day",
    "evaluate",
    "gather",
    "locked",
    "look",
    "monitor",
    "plan",
    "predict",
    "run_blocks",
    "search",
    "todo",
    "train",
    "training",
    "verdict",
]

log = logging.getLogger(__name__)

FREE_BYTES = 64 * 2**20
"""A run does not start with less free space on its output disk."""

LONGEST_OUT = 4095 - 256
"""Bytes of the path of an output folder: what systems take (PATH_MAX), without the longest name in a run."""


@limits("plan")
def plan(
    recipe: PredictRecipe, out: str | Path | RunStore, found: Sequence[Sequence[pystac.Item]] | None = None
) -> planning.Plan:
    """Search, check and cut the region into blocks; write the plan, or find the same one there already.

    ``found`` are the items of each date that a search for the recipe found; None searches. Two dates are compared on a
    sample of the region, see `geoml.engine.run.sample`, and where the package has a record of its training data, a
    sample is compared with it, see `geoml.engine.run.domain`; otherwise no pixel is read. Raises InputError when
    ``out`` holds the run of another recipe, ModelError for images that are out of the model's domain in a way that the
    recipe does not allow; see `geoml.engine.run.plan.make_plan` for the rest.
    """
    store = _claim(out)
    made, items = planning.make_plan(recipe, found)
    if store.sizes(planning.STATE).get(f"{planning.STATE}/plan.json"):
        before = planning.read_plan(store)
        model = set(changed(before.card, made.card)) - {"sha256"}  # in the hash; that of a calibrated model is its own
        other = before.hash != made.hash or bool(model) or before.recipe.block_size != recipe.block_size
        if other and store.sizes("items"):  # a plan that came to nothing holds no one up
            said = differences(before.recipe.model_dump(mode="json"), recipe, ("max_failed",))
            raise InputError(
                f"out: {store.url} holds the run of another recipe: {said or monitoring.OTHER_MODEL}; "
                "expected an empty folder or the same recipe"
            )
        made = with_sample(made, items, store)
        compare(made, items, store)
        if before.model_dump(mode="json") == made.model_dump(mode="json"):  # as they are written
            return made
        if before.blocks != made.blocks:
            log.info("the items found have changed since the last run; blocks with other items are done again")
    else:
        made = with_sample(made, items, store)
        compare(made, items, store)
    planning.write_plan(made, items, store)
    return made


@contextmanager
def locked(out: str | Path | RunStore) -> Iterator[RunStore]:
    """Hold the run in ``out`` inside: plan, run and collect are for one driver at a time.

    `predict` does so by itself; who calls the steps holds it around all of them, in the process that drives. Workers
    of `run_blocks` need not. Raises TransientError, saying who, when another process works on it; what a killed one
    left is taken over.
    """
    store = _claim(out)
    with store.lock():
        yield store


def _claim(out: str | Path | RunStore) -> RunStore:
    """Make the output folder. Raises InputError for a folder with foreign files, DataError without space."""
    if not isinstance(out, RunStore):
        check_text(str(out), "out")
        if "\0" in str(out):
            raise InputError(f"out: {str(out)!r} has a NUL in it; expected a path")
    store = run_store(out)
    if store.bucket is not None:
        _claim_bucket(store)
    else:
        _claim_folder(store.local)
    return store


def _claim_bucket(store: RunStore) -> None:
    if not store.empty() and not store.sizes(planning.STATE):
        raise InputError(f"out: {store.url} holds other files; expected an empty prefix or one of an earlier run")
    _claim_folder(store.local, f"GEOML_SCRATCH: {store.local}", foreign=True)


def _claim_folder(out: Path, shown: str = "", *, foreign: bool = False) -> None:
    shown = shown or f"out: {out}"
    if len(os.fsencode(out.absolute())) > LONGEST_OUT:
        raise InputError(f"out: {too_long(out)}")
    try:
        if out.exists() and not out.is_dir():
            raise InputError(f"{shown} is a file; expected a folder")
        state = within(out, f"{planning.STATE}/plan.json").parent
        if not foreign and out.is_dir() and any(out.iterdir()) and not state.is_dir():
            raise InputError(f"{shown} holds other files; expected an empty folder or one of an earlier run")
        state.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(out).free
    except OSError as err:
        if err.errno == errno.ENAMETOOLONG:
            raise InputError(f"out: {too_long(out)}") from err
        raise InputError(f"{shown} cannot be written ({err.strerror}); expected a folder of yours") from err
    if free < FREE_BYTES:
        raise DataError(f"{shown} has {free / 2**20:.0f} MB of free space; expected at least {FREE_BYTES >> 20} MB")


@limits("plan")
def todo(out: str | Path | RunStore) -> list[str]:
    """Ids of the blocks that are not done yet, in the order of the plan.

    Where the others were done by another geoml or torch, the log says so.
    """
    store = run_store(out)
    made, size = planning.read_plan(store), store.blocks()
    by_id = made.by_id()
    left = [key for key, planned in by_id.items() if not is_done(store, made, planned, size)]
    done = by_id.keys() - left if left else ()
    if words := others([of_item(store.local / "items" / f"{key}.json") for key in done]):
        log.warning("%s: %s", store.url, words)
    return left


@limits("predict")
def predict(
    recipe: PredictRecipe | Mapping[str, Any],
    out: str | Path,
    *,
    progress: Progress | None = None,
    started: Callable[[planning.Plan, Sequence[str]], None] | None = None,
) -> dict[str, Any]:
    """Region, time range and model in; COGs, GeoParquet, STAC and a report in ``out``. Returns what ``run.json`` says.

    A run that was stopped goes on where it was; a finished one changes nothing. ``started`` is called with the plan
    and the blocks still to do, ``progress`` with a block id and pixels finished.

    Blocks run where the setting ``workers`` says. In the main thread SIGTERM and Ctrl-C end the run in order, with
    SystemExit(143) and KeyboardInterrupt; see `geoml.engine.machine.halt`.

    Raises DataError at the end when blocks failed (the others are published), NothingFound when no pixel was valid,
    TransientError when another process works on ``out``.
    """
    recipe = recipe if isinstance(recipe, PredictRecipe) else parse(PredictRecipe, dict(recipe), "recipe")
    planning.check(recipe)
    with halting(), locked(out) as store:
        made = plan(recipe, store)
        left = todo(store)
        if started:
            started(made, left)
        return collect(store, run_all(store.url, left, progress=progress))


@limits("train")
def train(recipe: str | Path | Mapping[str, Any], out: str | Path, *, on_epoch: OnEpoch | None = None) -> Path:
    """Train by a recipe (YAML file, name in catalogs/recipes, or mapping) and write a model package to ``out``.

    Returns its folder. ``on_epoch`` gets epoch and loss after each epoch, and where something chooses the task's
    ``key`` and ``best``.
    Raises as ``fit`` of the task that the recipe names, `geoml.tasks.segmentation.Task.fit` for one.
    """
    task, found = training(recipe)
    task.fit(found, Path(out), on_epoch)
    return Path(out)


@limits("evaluate")
def evaluate(model: str | Path, recipe: str | Path | Mapping[str, Any], split: str = "test") -> dict[str, Any]:
    """Scores of a model package on a split of a training recipe, as ``score`` of the task that the recipe names gives
    them: `geoml.tasks.segmentation.Task.score` for one, which also says what is raised."""
    task, found = training(recipe)
    return task.score(model, found, split)


def training(recipe: str | Path | Mapping[str, Any]) -> tuple[type[Task], Frozen]:
    """The task that a training recipe (as of `train`) names, and the recipe as it parses it. Raises InputError."""
    value = dict(recipe) if isinstance(recipe, Mapping) else load_yaml(recipe_file(recipe))
    task = find(str(value.get("task", DEFAULT)))
    return task, parse(task.recipe, value, "recipe" if isinstance(recipe, Mapping) else str(recipe))


@limits("area")
def draw_places(run: str | Path, places: int, out: str | Path, seed: int = 0) -> int:
    """Draw about ``places`` of a run's map into a vector file to be filled in, see `geoml.engine.run.estimate.draw`."""
    from geoml.engine.run.estimate import draw

    return len(draw(run, places, Path(out), seed))


@limits("area")
def estimate_areas(run: str | Path, reference: str | Path, column: str = "reference") -> dict[str, Any]:
    """Areas of a run's classes with 95 % intervals, see `geoml.engine.run.estimate.estimate`."""
    from geoml.engine.run.estimate import estimate

    return estimate(run, reference, column)


@limits("monitor")
def look(
    recipe: PredictRecipe, out: str | Path, *, lookback: int = 30, until: str | None = None, fill: bool = True
) -> monitoring.Look:
    """Search the days from ``lookback`` before ``until`` (now) once, and plan each day below ``out``.

    A model of two dates compares each of them with the first ``datetime`` of the recipe, the reference.

    A day is a run of its own in ``out/days/YYYY-MM-DD``. Days whose blocks are done with the items as they are now
    are left alone. With ``fill`` the search begins with the first day that nights which did not come would have looked
    at; `Look.gap` names those that no look has searched. Days of the series of which an item was found under another
    day now are searched too.
    Items that cannot be used are left out, and so is a day that has no other; `Look.left_out` names them. Raises
    NothingFound when no item was found and the series has none there either, InputError when ``out`` holds something
    else.
    """
    _claim(out)
    found = monitoring.Look(monitoring.claim(recipe, out))
    entries, found.before = gathering.held(out)
    first, last = monitoring.window(lookback, until)
    reference = monitoring.reference_of(recipe)
    left = stac.LeftOut(recipe.query.strict)

    def at(when: str) -> list[pystac.Item]:
        return search(recipe.query.model_copy(update={"datetime": (when,)}), left)

    before = [at(reference)] if reference else []
    end = stac.parse_datetime(reference)[1] if reference else None
    floor = end.date() + dt.timedelta(days=1) if end else dt.date.min
    found.window = max(first, floor), last
    days = Searched(at, recipe.query.limit)
    days.add(found.open(fill, floor))
    days.add(monitoring.moved(days.items, entries, days.spans))
    found.spans = tuple(days.spans)
    found.left_out |= left.items | days.left_out
    by_day = monitoring.by_day(days.items, found.spans)
    found.note(by_day)
    _plan_days(recipe, out, found, before, by_day)
    found.gone = monitoring.gone(found, entries, days.whole)
    if days.nothing and not by_day and not found.gone:
        gathering.remember(out, found)
        raise days.nothing if not found.gap else NothingFound(f"{days.nothing}; {found.gap}")
    return found


def _plan_days(
    recipe: PredictRecipe,
    out: str | Path,
    found: monitoring.Look,
    before: Sequence[Sequence[pystac.Item]],
    by_day: Mapping[str, Sequence[pystac.Item]],
) -> None:
    """Plan each day, and note in ``found`` which have to be done, or failed."""
    unfit: dict[str, GeomlError] = {}
    for day, those in by_day.items():
        place = monitoring.day_out(out, day)
        found.items += len(those)
        try:
            made = plan(monitoring.recipe_of(recipe, day), place, [*before, those])
            undone = todo(place)
        except NothingFound:
            found.forget(day)  # nothing of this day covers the region
            continue
        except GeomlError as err:
            found.left_out |= of_error(err)
            (unfit if of_error(err) else found.failed)[day] = err
            continue
        found.left_out |= made.left_out
        found.days.append(day)
        if undone or not collected(place):
            found.todo[day] = undone
    if unfit and not found.days:  # no day at all has an item that can be used: that is no odd item
        found.failed |= unfit


def do_day(
    out: str | Path, look: monitoring.Look, day: str, run: Callable[[str, list[str]], Sequence[Tally]]
) -> dict[str, Any] | None:
    """Do the blocks of a day by ``run(place, ids)`` and put its outputs together; what its ``run.json`` says.

    A failure is noted in ``look`` and the other days go on; then, and without a valid pixel, there is None.
    """
    place = monitoring.day_out(out, day)
    try:
        with locked(place):
            made = collect(place, run(place, look.todo[day]))
        look.warnings += [f"{day}: {words}" for words in made.get("warnings", ())]
        if (domain := made.get("domain")) and domain["verdict"] != "inside":
            look.unlike.append(day)
            log.warning("%s: %s", day, said(domain))
        return made
    except NothingFound as err:
        log.info("%s: %s", day, err)  # published, and without a valid pixel
    except GeomlError as err:
        look.failed[day] = err
    return None


@limits("monitor")
def gather(out: str | Path, look: monitoring.Look) -> list[dict[str, Any]]:
    """Put all days together in ``out`` and give what changed, one row for each item."""
    return gathering.gather(out, look)


def verdict(look: monitoring.Look, rows: Sequence[Mapping[str, Any]]) -> None:
    """Raise, after all that exists is published, what the days that failed raised, and NothingFound for nothing new."""
    if look.failed:
        raise monitoring.trouble(look.failed)
    if not rows and not look.todo:
        raise NothingFound(
            f"nothing new: all of the {look.items} items found are done{'; ' * bool(look.gap)}{look.gap}"
        )


@limits("monitor")
def monitor(
    recipe: PredictRecipe | Mapping[str, Any],
    out: str | Path,
    *,
    lookback: int = 30,
    until: str | None = None,
    fill: bool = True,
) -> list[dict[str, Any]]:
    """Process what is new, reprocessed, moved or withdrawn, into the collection in ``out``; the rows of its changes.

    ``lookback`` days before ``until`` (now) are looked at, and with ``fill`` those that no night has looked at before.
    Of ``datetime`` only the earlier date of a model of two counts: every day is compared with it. See `look` and
    `verdict` for what is raised.
    """
    recipe = recipe if isinstance(recipe, PredictRecipe) else parse(PredictRecipe, dict(recipe), "recipe")
    monitoring.check(recipe, lookback, until)
    with halting(), locked(out):
        found = look(recipe, out, lookback=lookback, until=until, fill=fill)
        for day in found.todo:
            do_day(out, found, day, run_all)
        rows = gather(out, found)
    verdict(found, rows)
    return rows
