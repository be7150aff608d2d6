"""``geoml forecast``: what comes next, on grids as a COG for each lead, at stations and polygons as rows."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from geoml.cli import options
from geoml.cli.common import Json, command, out_console, print_warnings
from geoml.forecasting.recipe import ForecastRunRecipe
from geoml.texts import counted


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "forecast")(forecast)


@options.from_recipe(ForecastRunRecipe)
def forecast(
    recipe: ForecastRunRecipe,
    out: Annotated[Path, typer.Option("--out", help="folder of the run")],
    as_json: Json = False,
) -> None:
    """Make forecasts with quantiles from what was known at a reference time.

    Example:
    geoml forecast -m persistence --table air.parquet \\
      --reference-time 2024-01-02T00:00Z --leads PT6H -o air
    """
    from geoml.forecasting import steps

    if recipe.cube is not None:
        forecast_grid(recipe, out, as_json=as_json)
        return
    record = steps.forecast(out, **dict(recipe))
    if as_json:
        print(json.dumps(record))
        return
    out_console.print(
        f"{counted(record['rows'], 'row')} in {out / 'rows.parquet'}: {record['variable']} at"
        f" {counted(record['places'], 'place')},"
        f" {', '.join(record['leads'])} after {record['reference_time']}, by {record['model']}",
        highlight=False,
    )
    age = timedelta(seconds=record["age_seconds"])
    when = f"{age} before it" if age else "the reference time"
    out_console.print(f"The newest value is of {record['newest_known']}, {when}", highlight=False)
    print_warnings(record)


def forecast_grid(recipe: ForecastRunRecipe, out: Path, *, as_json: bool = False) -> None:
    """Forecast a cube over blocks, and say what was written."""
    from geoml import pipeline
    from geoml.cli.predict import outputs
    from geoml.cli.progress import progress_bar
    from geoml.forecasting import steps

    made = steps.grid_run(recipe, out)
    with progress_bar(out) as bar:
        record = pipeline.predict(made, out, progress=bar.advance, started=bar.start)
    if as_json:
        print(json.dumps(record))
        return
    outputs(out, record)
    print_warnings(record)
