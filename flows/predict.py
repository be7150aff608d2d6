"""Predict as a Prefect flow: plan, batches of blocks as tasks, collect.

python -m flows.predict RECIPE.yaml --out DIR
"""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

from prefect import task
from prefect.states import Completed

from geoml import pipeline
from geoml.engine.run.plan import check
from geoml.errors import NothingFound
from geoml.recipe import PredictRecipe

from . import command, form, show, signatures, steps, summaries


@task(retries=3, retry_delay_seconds=[10, 60, 300], retry_condition_fn=steps.transient, persist_result=False)
def plan(recipe: PredictRecipe, out: str) -> list[str]:
    """Search and cut into blocks; the ids of those that are still to do."""
    pipeline.plan(recipe, out)
    return pipeline.todo(out)


@signatures.flow("predict", "A region, a time range and a model in; a map out: COGs, GeoParquet, STAC and a report.")
@form.parameters_from(PredictRecipe)
def predict(recipe: PredictRecipe, out: form.Text, batch: form.Count = 8, wait: form.Size = 600.0) -> Any:
    """A region, a time range and a model in; a map out.

    Args:
        out: folder (as the worker sees it) or s3://, gs:// or az:// URL; an unfinished run of the same recipe goes on.
        batch: blocks in one step.
        wait: seconds to wait for another run that works on the same out.
    """
    out = steps.absolute(out)
    check(recipe)
    with steps.exclusive(out, wait):
        try:
            ids = plan(recipe, out)
        except NothingFound as err:
            return Completed(name="Skipped", message=str(err))
        try:
            tallies = steps.run_batches(out, ids, batch)
            with summaries.summarised(out):
                return show.completed(steps.collect(out, tallies))
        except NothingFound as err:
            return Completed(name="Skipped", message=str(err))
        finally:
            show.blocks(out, ids)


main = partial(command.run_with_recipe, predict)


if __name__ == "__main__":
    sys.exit(main())
