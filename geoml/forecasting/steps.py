"""The steps of forecasting as plain functions: from a model, data and a reference time to the folder of a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from geoml.errors import InputError, limits
from geoml.forecasting.recipe import CycleRecipe, ForecastRunRecipe
from geoml.io.stores.store import within
from geoml.recipe import PredictRecipe, parse

if TYPE_CHECKING:
    from geoml.forecasting.cycles.folder import Cycle
    from geoml.forecasting.cycles.issue import Predict
    from geoml.forecasting.cycles.look import CycleLook

VERIFICATION = "verification.parquet"
"""In the folder of a run."""


@limits("forecast")
def forecast(out: str | Path, **options: object) -> dict[str, Any]:
    """Forecast quantiles at each lead; write ``rows.parquet``, ``run.json`` and ``report.html`` to the folder ``out``.
    Returns the contents of ``run.json``.

    ``options`` are the fields of `geoml.forecasting.recipe.ForecastRunRecipe`. Raises InputError, which names
    the option, and the errors of `geoml.forecasting.rows.run.run`.
    """
    recipe = parse(ForecastRunRecipe, options, "forecast")
    from geoml.forecasting.rows.run import run  # torch, which a command that is only described does without

    return run(recipe, out)


@limits("forecast")
def grid_run(recipe: ForecastRunRecipe, out: str | Path) -> PredictRecipe:
    """The recipe of a run over blocks that forecasts a cube; writes its catalog and package to ``out``.

    Raises what `geoml.forecasting.grids.run.prepared` does.
    """
    from geoml.forecasting.grids.run import prepared  # GDAL

    return prepared(recipe, out)


@limits("verify")
def verify(run: str | Path, *, table: str | None = None, cube: str | None = None) -> list[dict[str, Any]]:
    """Verify the forecast in the folder ``run``. Returns one row for each lead, as written to ``verification.parquet``.

    Call it again when more values are known. ``table`` or ``cube`` is where the values are now, by default where they
    were. Raises InputError if the wrong one is given, and what `geoml.forecasting.rows.verify.verified` and
    `geoml.forecasting.grids.verify.verified` do.
    """
    from geoml.forecasting.grids import verify as grids
    from geoml.forecasting.rows import verify as rows
    from geoml.io.tables.verification import write_verification

    folder, grid = Path(run), grids.is_grid(Path(run))
    if (table if grid else cube) is not None:
        kinds = ("table", "cube") if grid else ("cube", "table")
        raise InputError(f"{kinds[0]}: {folder} is not a forecast of a {kinds[0]}; expected --{kinds[1]}")
    found = grids.verified(folder, cube) if grid else rows.verified(folder, table)
    write_verification(found, within(folder, VERIFICATION))
    return found


@limits("cycles")
def look(recipe: CycleRecipe, out: str | Path) -> CycleLook:
    """Read the available data and find which cycles are due in the folder ``out``; one driver at a time, see
    `geoml.pipeline.locked`. Raises what `geoml.forecasting.cycles.look.look` does."""
    from geoml.forecasting.cycles.look import look as look_at

    return look_at(recipe, out)


def issue(recipe: CycleRecipe, found: CycleLook, cycle: Cycle, predict: Predict) -> dict[str, Any] | None:
    """Issue one of ``found.todo``; see `geoml.forecasting.cycles.issue.issue`."""
    from geoml.forecasting.cycles.issue import issue as issue_one

    return issue_one(recipe, found, cycle, predict)


@limits("cycles")
def settle(recipe: CycleRecipe, found: CycleLook) -> list[dict[str, Any]]:
    """After the last cycle of a look: verify past forecasts and write the collection of all cycles. Returns the scores
    over all cycles by lead. What failed, and whether anything is new, `geoml.forecasting.cycles.look.CycleLook.verdict`
    says.
    """
    from geoml.forecasting.cycles.catalog import write_catalog
    from geoml.forecasting.cycles.issue import deprecate_replaced
    from geoml.forecasting.cycles.scores import summary, verify_cycles

    deprecate_replaced(found)
    verify_cycles(recipe, found)
    write_catalog(recipe, found)
    return summary(found.out)
