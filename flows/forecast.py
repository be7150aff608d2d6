"""Forecasts by schedule, by reference time: python -m flows.forecast RECIPE.yaml --out DIR [--wait SECONDS]."""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

from prefect import task
from prefect.artifacts import create_table_artifact
from prefect.states import Completed

from geoml import pipeline
from geoml.errors import NothingFound
from geoml.forecasting import steps as forecasting
from geoml.forecasting.cycles.look import CycleLook, summary
from geoml.forecasting.recipe import CycleRecipe
from geoml.recipe import PredictRecipe

from . import command, form, show, signatures, steps


@task(retries=3, retry_delay_seconds=[10, 60, 300], retry_condition_fn=steps.transient, persist_result=False)
def look(recipe: CycleRecipe, out: str) -> CycleLook:
    """What is there, and which cycles are due."""
    return forecasting.look(recipe, out)


@task(persist_result=False)
def settle(recipe: CycleRecipe, found: CycleLook) -> list[dict[str, Any]]:
    """What came true of all cycles, and their collection."""
    return forecasting.settle(recipe, found)


@signatures.flow("forecast", "Every forecast that is due, and what came true of those before, in one collection.")
@form.parameters_from(CycleRecipe, choices={"model": "forecast"})
def forecast(recipe: CycleRecipe, out: form.Text, batch: form.Count = 8, wait: form.Size = 600.0) -> Any:
    """Every reference time whose step is there, once; again where late or corrected data change it.

    Args:
        out: folder (as the worker sees it); each cycle is a run below its cycles/.
        batch: blocks in one step.
        wait: seconds to wait for another run that works on the same out.
    """
    out = steps.absolute(out)

    def blocks(made: PredictRecipe, place: str) -> None:
        with pipeline.locked(place):
            pipeline.plan(made, place)
            pipeline.collect(place, steps.run_batches(place, pipeline.todo(place), batch))

    with steps.exclusive(out, wait):
        try:
            found = look(recipe, out)
            for cycle in found.todo:
                forecasting.issue(recipe, found, cycle, blocks)
            scores = settle(recipe, found)
            found.verdict()
        except NothingFound as err:
            return Completed(name="Skipped", message=str(err))
    rows = [{"lead": r["lead"], "cycles": r["cycles"], "MAE": r["mae"], "best simple": r["best"], "skill": r["skill"]}
            for r in scores]  # fmt: skip
    show.publish(create_table_artifact, rows, key="verification", description=f"What came true of {out}")
    return Completed(message="; ".join([summary(found), *show.warning_line(found.warnings())]))


main = partial(command.run_with_recipe, forecast, kind=CycleRecipe)


if __name__ == "__main__":
    sys.exit(main())
