"""The steps of a run as plain functions: references in, references out.

`predict` runs them one after the other in this process; the flows run the same ones under Prefect. What passes between
steps is the output folder and block ids; arrays stay inside a step.
"""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pystac

from geoml.data.recipe import RasterRecipe, recipe_file
from geoml.engine.images import catalog as images
from geoml.engine.images.recipe import PredictAsked
from geoml.engine.machine.shutdown import graceful_shutdown
from geoml.engine.run import monitor as monitoring
from geoml.engine.run import plan as planning
from geoml.engine.run.collect import collect as collect
from geoml.engine.run.collect import collected
from geoml.engine.run.domain import compare
from geoml.engine.run.fitted import with_fitted
from geoml.engine.run.planned import changed_fields
from geoml.engine.run.sample import with_sample
from geoml.engine.run.search import search as search
from geoml.engine.run.span_search import SpanSearch
from geoml.engine.run.tally import Progress, Tally, is_done
from geoml.engine.task import DEFAULT, Task, find, with_maps
from geoml.engine.workers.drive import run_all
from geoml.errors import GeomlError, InputError, NothingFound, limits
from geoml.io.cards.domain import describe
from geoml.io.software import item_software, other_versions
from geoml.io.stac import search as stac
from geoml.io.stores.claim import claim
from geoml.io.stores.remote import RunStore, run_store
from geoml.recipe import Frozen, PredictRecipe, differences, load_yaml, parse

if TYPE_CHECKING:
    from geoml.engine.learn.recipe import LearnRecipe
    from geoml.engine.task import OnEpoch
    from geoml.engine.train.radius import Shortened
    from geoml.engine.train.simple import SimpleComparison
    from geoml.io.cards.map_card import MapCard

log = logging.getLogger(__name__)


@limits("plan")
def plan(
    recipe: PredictRecipe, out: str | Path | RunStore, dates: Sequence[Sequence[pystac.Item]] | None = None
) -> planning.Plan:
    """Search, check and cut the region into blocks; write the plan, or find the same one there already.

    ``dates`` are the items of each date that a search for the recipe gave; None searches. Two dates are compared on a
    sample of the region, see `geoml.engine.run.sample`, and where the package has a record of its training data, a
    sample is compared with it, see `geoml.engine.run.domain`; otherwise no pixel is read. Raises InputError when
    ``out`` holds the run of another recipe, ModelError for images that are out of the model's domain in a way that the
    recipe does not allow; see `geoml.engine.run.plan.make_plan` for the rest.
    """
    store = claim(out, planning.STATE)
    made, items = planning.make_plan(recipe, dates)
    if store.sizes(planning.STATE).get(f"{planning.STATE}/plan.json"):
        before = planning.read_plan(store)
        # in the hash; that of a calibrated model is its own
        model = set(changed_fields(before.card, made.card)) - {"sha256"}
        other = before.hash != made.hash or bool(model) or before.recipe.block_size != recipe.block_size
        if other and store.sizes("items"):  # a plan that came to nothing holds no one up
            changes = differences(before.recipe.model_dump(mode="json"), recipe, ("max_failed",))
            raise InputError(
                f"out: {store.url} holds the run of another recipe: {changes or monitoring.OTHER_MODEL}; "
                "expected an empty folder or the same recipe"
            )
        made = _sampled(made, items, store)
        if planning.same(before, made):
            return made
        if before.blocks.hashes != made.blocks.hashes:
            log.info("the items found have changed since the last run; blocks with other items are done again")
    else:
        made = _sampled(made, items, store)
    planning.write_plan(made, items, store)
    return made


def _sampled(made: planning.Plan, items: Sequence[pystac.Item], store: RunStore) -> planning.Plan:
    """The plan with what samples of its region say, after these were held against the records of its model."""
    made = with_sample(made, items, store)
    compare(made, items, store)
    return with_fitted(made, items, store)


@contextmanager
def locked(out: str | Path | RunStore) -> Iterator[RunStore]:
    """Hold the run in ``out`` inside: plan, run and collect are for one driver at a time.

    `predict` does so by itself; who calls the steps holds it around all of them, in the process that drives. Workers
    of `run_blocks` need not. Raises TransientError, saying who, when another process works on it; what a killed one
    left is taken over.
    """
    store = claim(out, planning.STATE)
    with store.lock():
        yield store


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
    if words := other_versions([item_software(store.local / "items" / f"{key}.json") for key in done]):
        log.warning("%s: %s", store.url, words)
    return left


def run_blocks(out: str | Path | RunStore, ids: Sequence[str] | None = None, progress: Progress | None = None) -> Tally:
    """A batch of blocks in this process, see `geoml.engine.run.blocks.run_blocks`."""
    from geoml.engine.run import blocks  # torch, which a plan and a finished run do without

    return blocks.run_blocks(out, ids, progress)


@limits("predict")
def predict(
    recipe: PredictRecipe | Mapping[str, object],
    out: str | Path,
    *,
    progress: Progress | None = None,
    started: Callable[[planning.Plan, Sequence[str]], None] | None = None,
) -> dict[str, Any]:
    """Region, time range and model in; COGs, GeoParquet, STAC and a report in ``out``. Returns what ``run.json`` says.

    In the place of a query a mapping may name files, ``{"model": "water", "image": "scene.tif"}``, and what
    `geoml.engine.images.recipe.PredictAsked` has beside them.

    A run that was stopped goes on where it was; a finished one changes nothing. ``started`` is called with the plan
    and the blocks still to do, ``progress`` with a block id and pixels finished.

    Blocks run where the setting ``workers`` says. In the main thread SIGTERM and Ctrl-C end the run in order, with
    SystemExit(143) and KeyboardInterrupt; see `geoml.engine.machine.shutdown`.

    Raises DataError at the end when blocks failed (the others are published), NothingFound when no pixel was valid,
    TransientError when another process works on ``out``.
    """
    if not isinstance(recipe, PredictRecipe):
        recipe = images.asked(recipe) if "image" in recipe else parse(PredictRecipe, recipe, "recipe")
    if isinstance(recipe, PredictAsked):
        recipe = images.settled(recipe, out)
    planning.check(recipe)
    with graceful_shutdown(), locked(out) as store:
        return run_planned(recipe, store, progress=progress, started=started)


def run_planned(
    recipe: PredictRecipe,
    store: RunStore,
    *,
    progress: Progress | None = None,
    started: Callable[[planning.Plan, Sequence[str]], None] | None = None,
) -> dict[str, Any]:
    """As `predict`, of a run that the caller holds, see `locked`."""
    made = plan(recipe, store)
    left = todo(store)
    if started:
        started(made, left)
    return collect(store, run_all(store.url, left, progress=progress))


@limits("train")
def train(recipe: str | Path | Mapping[str, object], out: str | Path, *, on_epoch: OnEpoch | None = None) -> Path:
    """Train by a recipe (YAML file, name in catalogs/recipes, or mapping) and write a model package to ``out``.

    Returns its folder. ``on_epoch`` gets epoch and loss after each epoch, and where something chooses the task's
    ``key`` and ``best``.
    Raises InputError for a recipe that does not fit itself or the folder, NothingFound or DataError for its data,
    ModelError when the loss is not finite, TransientError where memory is not enough or a process was killed.
    """
    task, parsed = _settled(recipe)
    task.fit(parsed, Path(out), on_epoch)
    return Path(out)


@limits("learn")
def learn(recipe: LearnRecipe, out: str | Path) -> tuple[MapCard, PredictRecipe]:
    """Learn from few labels: a package in ``out/model``; its card, and the recipe of the map that it is for.

    ``out`` is the folder of the run of that map. `geoml.engine.learn.fit.fit` says what is raised.
    """
    from geoml.engine.learn.fit import fit, map_recipe  # torch

    place = claim(out, planning.STATE).local / "model"
    return fit(recipe, place), map_recipe(recipe, place)


@limits("evaluate")
def evaluate(
    model: str | Path,
    recipe: str | Path | Mapping[str, object],
    split: str = "test",
    maps: str | Path | None = None,
) -> dict[str, Any]:
    """Scores of a model package on a split of a training recipe, as ``score`` of the task that the recipe names gives
    them: `geoml.tasks.segmentation.Task.score` for one, which also says what is raised. Where the task has a map of its
    scores, the COG ``maps`` is written too."""
    task, parsed = _settled(recipe)
    if maps is not None and (mapped := with_maps(task)):
        return mapped.mapped(model, parsed, split, Path(maps))
    return task.score(model, parsed, split)


@limits("evaluate")
def beside_simple(package: str | Path, recipe: str | Path | Mapping[str, object]) -> SimpleComparison:
    """The held-out scores that a package of classes has in its card, beside those of the best simple method by its
    recipe and of the commonest class; see `geoml.engine.train.simple`."""
    from geoml.engine.train.simple import beside  # scikit-learn

    _, parsed = _settled(recipe)
    return beside(package, parsed)


@limits("quantize")
def quantize(model: str | Path, recipe: str | Path | Mapping[str, object], out: str | Path) -> MapCard:
    """The package ``model`` with a program in int8, in ``out``; its card says what is lost by it on the validation data
    of the ``recipe`` that it was trained by. `geoml.engine.train.quantize.quantize` says what is raised."""
    from geoml.engine.train import quantize as int8  # torch

    _, parsed = _settled(recipe)
    return int8.quantize(model, parsed, out)


@limits("radius")
def radius(
    model: str | Path, recipe: str | Path | Mapping[str, object], tolerance: float, out: str | Path
) -> Shortened:
    """The package ``model`` with a smaller radius, in ``out``, that changes at most ``tolerance`` of the classes on the
    validation data of the ``recipe`` that it was trained by. `geoml.engine.train.radius.shorten` says what is raised.
    """
    from geoml.engine.train.radius import shorten  # torch

    _, parsed = _settled(recipe)
    return shorten(model, parsed, tolerance, out)


def training(recipe: str | Path | Mapping[str, object]) -> tuple[type[Task], Frozen]:
    """The task that a training recipe (as of `train`) names, and the recipe as it parses it. Raises InputError."""
    value = dict(recipe) if isinstance(recipe, Mapping) else load_yaml(recipe_file(recipe))
    task = find(str(value.get("task", DEFAULT)))
    return task, parse(task.recipe, value, "recipe" if isinstance(recipe, Mapping) else str(recipe))


def _settled(recipe: str | Path | Mapping[str, object]) -> tuple[type[Task], Frozen]:
    """As `training`, with the bands that ranges of wavelengths stand for; see `geoml.data.prepare.settled`."""
    from geoml.data.prepare import settled  # files, which a recipe that is only found does without

    task, parsed = training(recipe)
    return task, settled(parsed) if isinstance(parsed, RasterRecipe) else parsed


@limits("monitor")
def scan(
    recipe: PredictRecipe, out: str | Path, *, lookback: int = 30, until: str | None = None, fill: bool = True
) -> monitoring.Scan:
    """Search the days from ``lookback`` before ``until`` (now) once, and plan each day below ``out``.

    A model of two dates compares each of them with the first ``datetime`` of the recipe, the reference.

    A day is a run of its own in ``out/days/YYYY-MM-DD``. Days whose blocks are done with the items as they are now
    are left alone. With ``fill`` the search begins with the first day that earlier scans should have searched and did
    not; `Scan.gap` names the days that no scan has searched. Days of the series of which an item now has another day
    are searched too.
    Items that cannot be used are left out, and so is a day that has no other; `Scan.left_out` names them. Raises
    NothingFound when no item was found and the series has none there either, InputError when ``out`` holds something
    else.
    """
    from geoml.engine.run import gather as gathering  # tables, which a run of one date does without

    claim(out, planning.STATE)
    result = monitoring.Scan(monitoring.claim_series(recipe, out))
    entries, result.record = gathering.read_state(out)
    first, last = monitoring.window(lookback, until)
    reference = monitoring.reference_of(recipe)
    left = stac.LeftOut(recipe.query.strict)

    def items_at(when: str) -> list[pystac.Item]:
        return search(recipe.query.model_copy(update={"datetime": (when,)}), left)

    before = [items_at(reference)] if reference else []
    end = stac.parse_datetime(reference)[1] if reference else None
    floor = end.date() + dt.timedelta(days=1) if end else dt.date.min
    result.window = max(first, floor), last
    days = SpanSearch(items_at, recipe.query.limit)
    days.add(result.search_spans(fill, floor))
    days.add(monitoring.moved_spans(days.items, entries, days.spans))
    result.spans = tuple(days.spans)
    result.left_out |= left.items | days.left_out
    by_day = monitoring.by_day(days.items, result.spans)
    result.add_items(by_day)
    _plan_days(recipe, out, result, before, by_day)
    result.gone = monitoring.withdrawn_days(result, entries, days.whole)
    if days.nothing and not by_day and not result.gone:
        gathering.record_scan(out, result)
        raise days.nothing if not result.gap else NothingFound(f"{days.nothing}; {result.gap}")
    return result


def _plan_days(
    recipe: PredictRecipe,
    out: str | Path,
    result: monitoring.Scan,
    before: Sequence[Sequence[pystac.Item]],
    by_day: Mapping[str, Sequence[pystac.Item]],
) -> None:
    """Plan each day, and note in ``result`` which have to be done, or failed."""
    unfit: dict[str, GeomlError] = {}
    for day, those in by_day.items():
        place = monitoring.day_out(out, day)
        result.items += len(those)
        try:
            made = plan(monitoring.recipe_of(recipe, day), place, [*before, those])
            undone = todo(place)
        except NothingFound:
            result.drop_day(day)  # nothing of this day covers the region
            continue
        except GeomlError as err:
            result.left_out |= err.left_out
            (unfit if err.left_out else result.failed)[day] = err
            continue
        result.left_out |= made.left_out
        result.days.append(day)
        if undone or not collected(place):
            result.todo[day] = undone
    if unfit and not result.days:  # no day at all has an item that can be used: that is no odd item
        result.failed |= unfit


def do_day(
    out: str | Path, scan: monitoring.Scan, day: str, run: Callable[[str, list[str]], Sequence[Tally]]
) -> dict[str, Any] | None:
    """Do the blocks of a day by ``run(place, ids)`` and put its outputs together; what its ``run.json`` says.

    A failure is noted in ``scan`` and the other days go on; then, and without a valid pixel, there is None.
    """
    place = monitoring.day_out(out, day)
    try:
        with locked(place):
            made = collect(place, run(place, scan.todo[day]))
        scan.warnings += [f"{day}: {words}" for words in made.get("warnings", ())]
        if (domain := made.get("domain")) and domain["verdict"] != "inside":
            scan.unlike.append(day)
            log.warning("%s: %s", day, describe(domain))
        return made
    except NothingFound as err:
        log.info("%s: %s", day, err)  # published, and without a valid pixel
    except GeomlError as err:
        scan.failed[day] = err
    return None


@limits("monitor")
def gather(out: str | Path, scan: monitoring.Scan) -> list[dict[str, Any]]:
    """Put all days together in ``out`` and give what changed, one row for each item."""
    from geoml.engine.run import gather as gathering

    return gathering.gather(out, scan)


def verdict(scan: monitoring.Scan, rows: Sequence[Mapping[str, Any]]) -> None:
    """Raise, after all that exists is published, what the days that failed raised, and NothingFound for nothing new."""
    if scan.failed:
        raise monitoring.days_error(scan.failed)
    if not rows and not scan.todo:
        raise NothingFound(
            f"nothing new: all of the {scan.items} items found are done{'; ' * bool(scan.gap)}{scan.gap}"
        )


@limits("monitor")
def monitor(
    recipe: PredictRecipe | Mapping[str, object],
    out: str | Path,
    *,
    lookback: int = 30,
    until: str | None = None,
    fill: bool = True,
) -> list[dict[str, Any]]:
    """Process what is new, reprocessed, moved or withdrawn, into the collection in ``out``; the rows of its changes.

    ``lookback`` days before ``until`` (now) are looked at, and with ``fill`` those that no night has looked at before.
    Of ``datetime`` only the earlier date of a model of two counts: every day is compared with it. See `scan` and
    `verdict` for what is raised.
    """
    recipe = recipe if isinstance(recipe, PredictRecipe) else parse(PredictRecipe, recipe, "recipe")
    monitoring.check(recipe, lookback, until)
    with graceful_shutdown(), locked(out):
        found = scan(recipe, out, lookback=lookback, until=until, fill=fill)
        for day in found.todo:
            do_day(out, found, day, run_all)
        rows = gather(out, found)
    verdict(found, rows)
    return rows
