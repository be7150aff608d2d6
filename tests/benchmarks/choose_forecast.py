"""Which options of a forecast of a table are best on the last months before its test: those are the ones to ship.

``python -m tests.benchmarks.choose_forecast RECIPE JUDGED --try JSON ... --rolling P30D ...`` trains the recipe with
each change on what its ``train`` and ``val`` have before the months ``JUDGED``, whose values calibrate and choose
nothing but the row of this table: the least mean CRPS. The test of the recipe is not read.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import pandas as pd

from geoml import pipeline
from geoml.engine.train.state import FolderClaim
from geoml.forecasting.recipe import ForecastRecipe, interval
from geoml.forecasting.rows.calibrated import answers
from geoml.forecasting.rows.fit import trained
from geoml.forecasting.rows.fitted import card_of, read, reference_steps
from geoml.forecasting.rows.score import truth_of
from geoml.io.tables.durations import StepDuration
from geoml.nn.forecast.scores import LeadScores


def earlier(recipe: ForecastRecipe, judged: str, change: dict[str, Any]) -> ForecastRecipe:
    """The recipe with a change and a split that ends with the months that judge, as its test."""
    asked = {**recipe.model_dump(mode="json"), **change}
    step = recipe.source.duration  # type: ignore[union-attr]
    end = interval(judged, "judged")[0] - pd.Timedelta(seconds=step.seconds * (recipe.history + recipe.steps[-1] + 1))
    parts: dict[str, list[str]] = {"test": [judged]}
    for part in ("train", "val"):
        whole = [(a, min(b, end)) for a, b in recipe.split.of(part) if a < end]
        parts[part] = [f"{a:%Y-%m-%dT%H:%M}/{b:%Y-%m-%dT%H:%M}" for a, b in whole]
    return ForecastRecipe.model_validate({**asked, "split": parts})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe")
    parser.add_argument("judged", help="interval, such as 2014-08-05/2015-02-27")
    parser.add_argument("--try", dest="tries", nargs="+", type=json.loads, default=[{}], help="fields as JSON")
    parser.add_argument("--rolling", nargs="+", default=["P30D"])
    asked = parser.parse_args()
    base = pipeline.training(asked.recipe)[1]
    assert isinstance(base, ForecastRecipe)
    for change in asked.tries:
        recipe = earlier(base, asked.judged, change)
        begun = time.process_time()
        panel = read(recipe)
        # what comes after the months that judge is not known
        judged = panel.numbers[panel.axis.time(panel.numbers) <= recipe.split.of("test")[-1][1]]
        panel = panel.between(panel.first, int(judged[-1]) + recipe.steps[-1])
        with tempfile.TemporaryDirectory() as folder:
            claim = FolderClaim(Path(folder), recipe, recipe.hash)
            found, history = trained(recipe, card_of(recipe, panel), panel, claim, None)
        took = time.process_time() - begun
        print(json.dumps(change), f"{took:.0f} CPU s,", f"val {json.dumps(history[-1])}", flush=True)
        at = reference_steps(recipe, panel, "test", recipe.every)
        truth = truth_of(found, at)
        for rolling in asked.rolling:
            steps = StepDuration.parse(rolling, "rolling").steps(found.card.table.duration)
            found.forecaster.card = found.card.model_copy(update={"rolling": steps})
            quantiles = answers(found.forecaster, found.windows, at)
            scores = LeadScores(found.card.leads, found.card.levels)
            scores.update(quantiles.reshape(-1, *quantiles.shape[2:]), truth.reshape(-1, truth.shape[2]))
            said = scores.compute()
            each = said["leads"].values()
            print(
                f"  {rolling}: CRPS {said['crps']:.3f} =", *(f"{row['crps']:.2f}" for row in each),
                "| MAE", *(f"{row['mae']:.2f}" for row in each),
                "| 90 % covers", *(f"{row['coverage']['90']:.1%}" for row in each), flush=True,
            )  # fmt: skip


if __name__ == "__main__":
    main()
