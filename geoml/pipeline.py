"""The steps of a run as plain functions: references in, references out.

`predict` runs them one after the other in this process; the flows run the same ones under Prefect. What passes between
steps is the output folder and block ids; arrays stay inside a step.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pystac

from geoml.engine import plan as planning
from geoml.engine.collect import collect
from geoml.engine.run import Progress, Tally, is_done, run_blocks
from geoml.errors import DataError, InputError
from geoml.io import stac
from geoml.recipe import PredictRecipe, Query, parse

if TYPE_CHECKING:
    from geoml.data.recipe import TrainRecipe

__all__ = ["collect", "evaluate", "plan", "predict", "run_blocks", "search", "todo", "train"]

log = logging.getLogger(__name__)

FREE_BYTES = 64 * 2**20
"""A run does not start with less free space on its output disk."""


def search(query: Query | Mapping[str, Any]) -> list[pystac.Item]:
    """The items of a query, for all its dates. Raises InputError, NothingFound or TransientError."""
    query = query if isinstance(query, Query) else parse(Query, dict(query), "query")
    region = planning.region_of_query(query)
    catalog = stac.open_catalog(query.catalog)
    return [item for when in query.datetime for item in stac.search(catalog, query, region, when)]


def plan(recipe: PredictRecipe, out: Path) -> planning.Plan:
    """Search, check and cut the region into blocks; write the plan, or find the same one there already.

    Raises InputError when ``out`` holds the run of another recipe; see `geoml.engine.plan.make_plan` for the rest.
    """
    _claim(out)
    made, items = planning.make_plan(recipe)
    if (out / planning.STATE / "plan.json").exists():
        before = planning.read_plan(out)
        other = before.hash != made.hash or before.recipe.block_size != recipe.block_size
        if other and any((out / "items").glob("*.json")):  # a plan that came to nothing holds no one up
            raise InputError(
                f"out: {out} holds the run of another recipe ({before.hash[:12]}, this is {made.hash[:12]}); "
                "expected an empty folder or the same recipe"
            )
        if before == made:
            return before
        log.info("the items found have changed since the last run; blocks with other items are done again")
    planning.write_plan(made, items, out)
    return made


def _claim(out: Path) -> None:
    """Make the output folder. Raises InputError for a folder with foreign files, DataError without space."""
    if out.exists() and not out.is_dir():
        raise InputError(f"out: {out} is a file; expected a folder")
    if out.is_dir() and any(out.iterdir()) and not (out / planning.STATE).is_dir():
        raise InputError(f"out: {out} holds other files; expected an empty folder or one of an earlier run")
    try:
        (out / planning.STATE).mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(out).free
    except OSError as err:
        raise InputError(f"out: {out} cannot be written ({err.strerror}); expected a folder of yours") from err
    if free < FREE_BYTES:
        raise DataError(f"out: {out} has {free / 2**20:.0f} MB of free space; expected at least {FREE_BYTES >> 20} MB")


def todo(out: Path) -> list[str]:
    """Ids of the blocks that are not done yet, in the order of the plan."""
    made = planning.read_plan(out)
    return [key for key, planned in made.by_id().items() if not is_done(out, made, planned)]


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

    Raises DataError at the end when blocks failed (the others are published), NothingFound when no pixel was valid.
    """
    recipe = recipe if isinstance(recipe, PredictRecipe) else parse(PredictRecipe, dict(recipe), "recipe")
    out = Path(out)
    made = plan(recipe, out)
    left = todo(out)
    if started:
        started(made, left)
    return collect(out, [run_blocks(out, left, progress) if left else Tally()])


def train(
    recipe: str | Path | Mapping[str, Any],
    out: str | Path,
    *,
    on_epoch: Callable[[dict[str, float]], None] | None = None,
) -> Path:
    """Train by a recipe (YAML file, name in catalogs/recipes, or mapping) and write a model package to ``out``.

    Returns its folder. ``on_epoch`` gets epoch, loss, miou and best after each epoch. Raises as `geoml.engine.fit.fit`.
    """
    from geoml.engine.fit import fit

    fit(_train_recipe(recipe), Path(out), on_epoch=on_epoch)
    return Path(out)


def evaluate(model: str | Path, recipe: str | Path | Mapping[str, Any], split: str = "test") -> dict[str, Any]:
    """Scores of a model package on a split of a training recipe, as `geoml.engine.evaluate.evaluate` gives them."""
    from geoml.engine.evaluate import evaluate as run

    return run(str(model), _train_recipe(recipe), split=split)


def _train_recipe(recipe: str | Path | Mapping[str, Any]) -> TrainRecipe:
    from geoml.data.recipe import TrainRecipe, load_recipe

    return parse(TrainRecipe, dict(recipe), "recipe") if isinstance(recipe, Mapping) else load_recipe(recipe)
