"""The steps of forecasting as plain functions: a model, data and a reference time in, a folder of a run out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from geoml.errors import limits
from geoml.forecasting.recipe import ForecastRunRecipe
from geoml.recipe import PredictRecipe, parse


@limits("forecast")
def forecast(out: str | Path, **options: object) -> dict[str, Any]:
    """Quantiles at each lead, as ``rows.parquet``, ``run.json`` and ``report.html`` in the folder ``out``; what
    ``run.json`` says.

    ``options`` are the fields of `geoml.forecasting.recipe.ForecastRunRecipe`. Raises InputError that names an option,
    and the errors of `geoml.forecasting.rows.run.run`.
    """
    recipe = parse(ForecastRunRecipe, options, "forecast")
    from geoml.forecasting.rows.run import run  # torch, which a command that is only described does without

    return run(recipe, out)


@limits("forecast")
def grid_run(recipe: ForecastRunRecipe, out: str | Path) -> PredictRecipe:
    """The recipe of the run over blocks that forecasts a cube; its catalog and package lie in ``out`` then.

    Raises what `geoml.forecasting.grids.run.prepared` does.
    """
    from geoml.forecasting.grids.run import prepared  # GDAL

    return prepared(recipe, out)
