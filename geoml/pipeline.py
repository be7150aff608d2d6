"""The steps of a run as plain functions that take and return references.

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
from geoml.engine.images import settle as images
from geoml.engine.images.recipe import Asked
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
from geoml.errors import DataError, GeomlError, InputError, NothingFound, limits
from geoml.io.cards.domain import describe
from geoml.io.software import item_software, other_versions
from geoml.io.stac import search as stac
from geoml.io.stores.bucket import is_bucket
from geoml.io.stores.claim import claim
from geoml.io.stores.remote import RunStore, run_store
from geoml.recipe import Frozen, PredictRecipe, differences, load_yaml, parse
from geoml.texts import counted

if TYPE_CHECKING:
    from geoml.engine.clouds.items import CloudWork
    from geoml.engine.clouds.recipe import CloudMaskRecipe
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
    """Search, check the items and divide the region into blocks; write the plan, or keep an existing one that is equal.

    ``dates`` are the items of each date, as a search for the recipe gave them; None searches. Two dates are compared
    on a sample of the region (`geoml.engine.run.sample`). If the package records its training data, a sample is
    compared with that (`geoml.engine.run.domain`). Otherwise no pixel is read. Raises InputError if ``out`` holds the
    run of another recipe, and ModelError for images outside the model's domain if the recipe does not allow them; see
    `geoml.engine.run.plan.make_plan` for other errors.
    """
    store = claim(out, planning.STATE)
    made, items = planning.make_plan(recipe, dates)
    if store.sizes(planning.STATE).get(f"{planning.STATE}/plan.json"):
        before = planning.read_plan(store)
        # in the hash; that of a calibrated model is its own
        model = set(changed_fields(before.card, made.card)) - {"sha256"}
        other = before.hash != made.hash or bool(model) or before.recipe.block_size != recipe.block_size
        if other and store.sizes("items"):  # a plan that came to nothing holds no one up
            raise _other_run(before, recipe, store)
        made = _sampled(made, items, store)
        if planning.same(before, made):
            return made
        if before.blocks.hashes != made.blocks.hashes:
            log.info("the items found have changed since the last run; blocks with other items are done again")
    else:
        made = _sampled(made, items, store)
    planning.write_plan(made, items, store)
    return made


def _other_run(before: planning.Plan, recipe: PredictRecipe, store: RunStore) -> InputError:
    changes = differences(before.recipe.model_dump(mode="json"), recipe, ("max_failed",))
    return InputError(
        f"out: {store.url} contains a run of a different recipe: {changes or monitoring.OTHER_MODEL}; "
        "expected an empty folder or the same recipe"
    )


def _sampled(made: planning.Plan, items: Sequence[pystac.Item], store: RunStore) -> planning.Plan:
    """The plan with what samples of its region say, after these were compared with the records of its model."""
    made = with_sample(made, items, store)
    compare(made, items, store)
    return with_fitted(made, items, store)


@contextmanager
def locked(out: str | Path | RunStore) -> Iterator[RunStore]:
    """Lock the run in ``out``: only one driver at a time may plan, run and collect.

    `predict` does this itself. If you call the steps yourself, hold the lock around all of them in the driving process;
    workers of `run_blocks` do not need it. Raises TransientError, naming the holder, if another process works on the
    run. The lock of a killed process is taken over.
    """
    store = claim(out, planning.STATE)
    with store.lock():
        yield store


@limits("plan")
def todo(out: str | Path | RunStore) -> list[str]:
    """Ids of the blocks that are not done yet, in the order of the plan.

    Logs a warning if the finished blocks were made by another version of geoml or torch.
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
    """Run a batch of blocks in this process; see `geoml.engine.run.blocks.run_blocks`."""
    from geoml.engine.run import blocks  # torch, which a plan and a finished run do without

    return blocks.run_blocks(out, ids, progress)


@limits("predict")
def predict(
    recipe: PredictRecipe | Asked | Mapping[str, object],
    out: str | Path,
    *,
    progress: Progress | None = None,
    started: Callable[[planning.Plan, Sequence[str]], None] | None = None,
) -> dict[str, Any]:
    """Run a model over a region and time range; write COGs, GeoParquet, STAC and a report to ``out``.

    Instead of a query a mapping may name files, ``{"model": "water", "image": "scene.tif"}``, with the fields of
    `geoml.engine.images.recipe.PredictAsked`.

    Returns the contents of ``run.json``. A stopped run is resumed; a finished one changes nothing. ``started`` is
    called with the plan and the ids of the blocks still to do, ``progress`` with a block id and the number of pixels
    finished.

    The setting ``workers`` decides where blocks run. In the main thread SIGTERM and Ctrl-C end the run cleanly, with
    SystemExit(143) and KeyboardInterrupt; see `geoml.engine.machine.shutdown`.

    Raises DataError at the end if blocks failed (the others are published), NothingFound if no pixel was valid, and
    TransientError if another process works on ``out``.
    """
    if not isinstance(recipe, PredictRecipe):
        recipe = images.asked(recipe) if "image" in recipe else parse(PredictRecipe, recipe, "recipe")
    if isinstance(recipe, Asked):
        images.check(recipe, out)
        recipe = recipe if recipe.image else images.settled(recipe, out)
    if not isinstance(recipe, Asked):
        planning.check(recipe)
    with graceful_shutdown(), locked(out) as store:
        if isinstance(recipe, Asked):  # under the lock, for the catalog of images lies in the folder
            recipe = images.settled(recipe, out)
            planning.check(recipe)
        return run_planned(recipe, store, progress=progress, started=started)


def run_planned(
    recipe: PredictRecipe,
    store: RunStore,
    *,
    progress: Progress | None = None,
    started: Callable[[planning.Plan, Sequence[str]], None] | None = None,
) -> dict[str, Any]:
    """Like `predict`, for a run that the caller has locked; see `locked`."""
    made = plan(recipe, store)
    left = todo(store)
    if started:
        started(made, left)
    return collect(store, run_all(store.url, left, progress=progress))


@limits("train")
def train(recipe: str | Path | Mapping[str, object], out: str | Path, *, on_epoch: OnEpoch | None = None) -> Path:
    """Train by a recipe (YAML file, name in catalogs/recipes, or mapping) and write a model package to ``out``.

    Returns the folder of the package. ``on_epoch`` is called after each epoch with the epoch and the loss, and with
    the task's ``key`` and ``best`` if a validation score chooses the weights.
    Raises InputError for a recipe that contradicts itself or does not fit the folder, NothingFound or DataError for
    its data, ModelError if the loss is not finite, and TransientError if memory runs out or a process was killed.
    """
    task, parsed = _settled(recipe)
    task.fit(parsed, Path(out), on_epoch)
    return Path(out)


@limits("learn")
def learn(recipe: LearnRecipe, out: str | Path, *, places: int = 0) -> tuple[MapCard, PredictRecipe]:
    """Learn from few labels and write a package to ``out/model``. Returns its card and the recipe of its map.

    ``out`` is the folder in which that map will be run, ``places`` how many places will be drawn from it. Raises
    InputError, before anything is learnt, if ``out`` holds another run and if the places are too few for the classes;
    see `geoml.engine.learn.fit.fit` for other errors.
    """
    from geoml.engine.learn.fit import fit, map_recipe, prepare  # torch

    store = claim(out, planning.STATE)
    place = store.local / "model"
    ready = prepare(recipe)
    run = map_recipe(ready, place)
    planned = store.sizes(planning.STATE).get(f"{planning.STATE}/plan.json") and store.sizes("items")
    if planned and not (place / planning.MODEL).exists():  # with a package there, nothing is learnt over it
        before = planning.read_plan(store)
        if before.recipe.hash != run.hash or before.recipe.block_size != run.block_size:
            raise _other_run(before, run, store)
    if places:
        from geoml.engine.run.estimate import check_places

        check_places(places, len(ready.labels.classes))
    return fit(ready, place), run


@limits("clouds")
def cloud_masks(
    recipe: CloudMaskRecipe | Mapping[str, object], out: str | Path, *, done: Callable[[int], None] | None = None
) -> CloudWork:
    """Make masks of clouds for the items of a query, and write a catalog of these items with their masks to ``out``.

    A stopped run is resumed. ``done`` is called with 1 after each item. Items that cannot be masked are left out and
    named in ``left``. Raises InputError for a bucket or a folder with other files, NothingFound or DataError if no item
    is left, MissingExtra without ukis-csmask if the recipe names no model, and TransientError if a source does not
    answer.
    """
    from geoml.engine.clouds import items as cloud_items  # torch
    from geoml.engine.clouds import recipe as cloud_recipe

    if not isinstance(recipe, cloud_recipe.CloudMaskRecipe):
        recipe = parse(cloud_recipe.CloudMaskRecipe, recipe, "recipe")
    if is_bucket(out):
        raise InputError(f"out: {out} is a bucket; expected a folder, for its catalog names files of this machine")
    with graceful_shutdown(), locked(out) as store:
        work = cloud_items.CloudWork.of(recipe, store.local, planning.STATE)
        for item in work.todo():
            try:
                one = work.run_of(item)
            except (InputError, DataError) as err:
                work.left.add(item.id, err)
                continue
            try:
                with locked(work.place(item)) as place:
                    plan(one, place, [[item]])
                    collect(place, run_all(place.url, todo(place)))
                work.add(item, one)
            except GeomlError as err:
                work.leave_out(item, err)
            if done:
                done(1)
        work.publish()
    return work


@limits("evaluate")
def evaluate(
    model: str | Path,
    recipe: str | Path | Mapping[str, object],
    split: str = "test",
    maps: str | Path | None = None,
) -> dict[str, Any]:
    """Scores of a model package on a split of a training recipe, as the recipe's task computes them.

    See the task's ``score``, such as `geoml.tasks.segmentation.Task.score`, for its contents and errors. ``maps`` is
    the path of a COG with a map of the scores, written for tasks that have one.
    """
    task, parsed = _settled(recipe)
    if maps is not None and (mapped := with_maps(task)):
        return mapped.mapped(model, parsed, split, Path(maps))
    return task.score(model, parsed, split)


@limits("evaluate")
def beside_simple(package: str | Path, recipe: str | Path | Mapping[str, object]) -> SimpleComparison:
    """The held-out scores in the card of a package of classes, compared with those of the best simple method on the
    same recipe and of the most common class; see `geoml.engine.train.simple`."""
    from geoml.engine.train.simple import beside  # scikit-learn

    _, parsed = _settled(recipe)
    return beside(package, parsed)


@limits("quantize")
def quantize(model: str | Path, recipe: str | Path | Mapping[str, object], out: str | Path) -> MapCard:
    """Write the package ``model`` with an int8 program to ``out`` and return its card.

    The card states what is lost on the validation data of the ``recipe`` that trained the package. See
    `geoml.engine.train.quantize.quantize` for errors.
    """
    from geoml.engine.train import quantize as int8  # torch

    _, parsed = _settled(recipe)
    return int8.quantize(model, parsed, out)


@limits("radius")
def radius(
    model: str | Path, recipe: str | Path | Mapping[str, object], tolerance: float, out: str | Path
) -> Shortened:
    """Write the package ``model`` to ``out`` with a smaller radius.

    It changes at most the share ``tolerance`` of the classes on the validation data of the ``recipe`` that trained the
    package. See `geoml.engine.train.radius.shorten` for errors.
    """
    from geoml.engine.train.radius import shorten  # torch

    _, parsed = _settled(recipe)
    return shorten(model, parsed, tolerance, out)


def training(recipe: str | Path | Mapping[str, object]) -> tuple[type[Task], Frozen]:
    """The task named by a training recipe (as for `train`), and the recipe parsed by it. Raises InputError."""
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
    """Search the ``lookback`` days before ``until`` (by default now) once, and plan each day below ``out``.

    A model that needs two dates compares each day with the first ``datetime`` of the recipe, the reference.

    Each day is a separate run in ``out/days/YYYY-MM-DD``. Days whose blocks are done with the current items are left
    alone. With ``fill`` the search begins with the first day that earlier scans missed; `Scan.gap` names the days that
    no scan has searched. Days of the series are searched again if one of their items has moved to another day.
    Items that cannot be used are left out, and so is a day without any other; `Scan.left_out` names them. Raises
    NothingFound if no item was found and the series has none in this period either, InputError if ``out`` holds
    something else.
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
    if unfit and not result.days:  # no day at all has an item that can be used: that is not an odd item
        result.failed |= unfit


def do_day(
    out: str | Path, scan: monitoring.Scan, day: str, run: Callable[[str, list[str]], Sequence[Tally]]
) -> dict[str, Any] | None:
    """Run the blocks of a day with ``run(place, ids)`` and collect its outputs. Returns the contents of ``run.json``.

    Returns None after a failure, which is noted in ``scan`` so that the other days continue, and if no pixel is valid.
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
    """Collect all days in ``out``. Returns what changed, one row per item."""
    from geoml.engine.run import gather as gathering

    return gathering.gather(out, scan)


def verdict(scan: monitoring.Scan, rows: Sequence[Mapping[str, Any]]) -> None:
    """Raise the errors of failed days, or NothingFound if nothing is new; called after everything is published."""
    if scan.failed:
        raise monitoring.days_error(scan.failed)
    if not rows and not scan.todo:
        raise NothingFound(
            f"nothing new: everything found is already done ({counted(scan.items, 'item')})"
            f"{'; ' * bool(scan.gap)}{scan.gap}"
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
    """Update the collection in ``out`` with new, reprocessed, moved or withdrawn items. Returns the rows of changes.

    Searches the ``lookback`` days before ``until`` (by default now), and with ``fill`` also days that no earlier call
    has searched. For a model that needs two dates, ``datetime`` is the earlier date, with which every day is compared;
    otherwise it is not used. See `scan` and `verdict` for errors.
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
