"""Heights as a Prefect flow, in batches of blocks: python -m flows.elevation RECIPE.yaml --out DIR [--wait SECONDS]."""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

from prefect import task
from prefect.states import Completed

from geoml import pipeline
from geoml.elevation import steps as heights
from geoml.elevation.recipe import ElevationRecipe
from geoml.errors import NothingFound

from . import command, form, show, signatures, steps, summaries


@task(retries=3, retry_delay_seconds=[10, 60, 300], retry_condition_fn=steps.transient, persist_result=False)
def plan(recipe: ElevationRecipe, out: str) -> list[str]:
    """Open the files and cut their ground into blocks; the ids of those that are still to do."""
    pipeline.plan(heights.elevation_run(recipe, out), out)
    return pipeline.todo(out)


@task(persist_result=False)
def finish(recipe: ElevationRecipe, out: str) -> dict[str, Any]:
    """Hold the heights against check points, where there are some."""
    return heights.finish(recipe, out)


@signatures.flow("elevation", "Terrain, surface, heights and buildings from clouds of points or from two views.")
@form.parameters_from(ElevationRecipe, choices={"ground": "ground"})
def elevation(recipe: ElevationRecipe, out: form.Text, batch: form.Count = 8, wait: form.Size = 600.0) -> Any:
    """Points or two views in; terrain, surface, heights and buildings out, on a stated datum.

    Args:
        out: folder (as the worker sees it); an unfinished run of the same recipe goes on.
        batch: blocks in one step.
        wait: seconds to wait for another run that works on the same out.
    """
    out = steps.absolute(out)
    with steps.exclusive(out, wait):
        try:
            ids = plan(recipe, out)
            tallies = steps.run_batches(out, ids, batch)
            with summaries.summarised(out):
                steps.collect(out, tallies)
                return show.completed(finish(recipe, out))
        except NothingFound as err:
            return Completed(name="Skipped", message=str(err))


main = partial(command.run_with_recipe, elevation, kind=ElevationRecipe)


if __name__ == "__main__":
    sys.exit(main())
