"""Forecasts with quantiles, of stations and polygons; trained, chosen, calibrated and tested by time.

How it learns is `geoml.forecasting.rows.fit`; what others call it is fitted beside it, so that its skill can be told.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, final

from geoml.engine.task import OnEpoch
from geoml.forecasting.cards.forecast import ForecastCard
from geoml.forecasting.recipe import ForecastRecipe
from geoml.io.report.score_table import ScoreTable
from geoml.recipe import Frozen
from geoml.texts import counted, percent

SCORES = {"mae": "MAE", "rmse": "RMSE", "crps": "CRPS"}


@final
class Task:
    """Scored by the CRPS at every lead, beside persistence, climatology, damped anomaly and ridge regression."""

    name: ClassVar[str] = "forecast"
    recipe: ClassVar[type[Frozen]] = ForecastRecipe
    card: ClassVar[type[Frozen]] = ForecastCard
    input: ClassVar[str] = "table"
    output: ClassVar[str] = "rows"
    key: ClassVar[str] = "crps"
    larger_is_better: ClassVar[bool] = False

    @staticmethod
    def fit(recipe: ForecastRecipe, out: Path, on_epoch: OnEpoch | None = None) -> None:
        """As `geoml.forecasting.rows.fit.fit` of a table and `geoml.forecasting.grids.fit.fit` of a cube, which also
        say what is raised."""
        if recipe.source.kind == "table":
            from geoml.forecasting.rows.fit import fit as fit_table  # torch, which a task that is named does without

            fit_table(recipe, out, on_epoch)
        else:
            from geoml.forecasting.grids.fit import fit as fit_grid

            fit_grid(recipe, out, on_epoch)

    @staticmethod
    def score(model: str | Path, recipe: ForecastRecipe, split: str) -> dict[str, Any]:
        """As `geoml.forecasting.rows.score.score` of a table and `geoml.forecasting.grids.score.score` of a cube."""
        if recipe.source.kind == "table":
            from geoml.forecasting.rows.score import score

            return score(model, recipe, split)
        from geoml.forecasting.grids.score import score as score_grid

        return score_grid(model, recipe, split)

    @staticmethod
    def mapped(model: str | Path, recipe: ForecastRecipe, split: str, path: Path) -> dict[str, Any]:
        """As `score`; of a cube ``path`` is the skill at every place then."""
        if recipe.source.kind == "table":
            return Task.score(model, recipe, split)
        from geoml.forecasting.grids.score import score

        return score(model, recipe, split, path)

    @staticmethod
    def table(scores: Mapping[str, Any]) -> list[ScoreTable | str]:
        """A row for each method with its scores by lead, and the skill against the best of the simple ones."""
        crps = f"{_digits(scores['crps'])} {scores['unit']}".strip()
        name, unit, by = scores["name"], scores["unit"], scores.get("by", "leads")
        leads = list(scores["methods"][name]["leads"])
        parts: list[ScoreTable | str] = [
            f"{scores['variable']}, {scores['split']}: {counted(scores['times'], 'reference time')},"
            f" {counted(scores['places'], 'place')};"
            f" CRPS {crps} in the mean of {len(leads)} {by}, from"
            f" {len(scores['levels'])} quantiles"
        ]
        for key, title in SCORES.items():
            rows = [
                (method, *(_digits(row["leads"][lead][key]) for lead in leads))
                for method, row in scores["methods"].items()
            ]
            rows.append(("skill", *(_skill(scores["skill"][lead].get(key)) for lead in leads)))
            parts.append(ScoreTable(f"{title}, {unit or 'in its unit'}", ("method", *leads), tuple(rows)))
        covered = [
            (f"{method}, {interval} %", *(_share(row["leads"][lead]["coverage"].get(interval)) for lead in leads))
            for method, row in scores["methods"].items()
            for interval in (next(iter(row["leads"].values()))["coverage"] if method == name else ())
        ]
        parts.append(ScoreTable("intervals cover", ("method", *leads), tuple(covered)))
        if by_time := scores.get("by_time"):
            shown = [
                (time, *(f"{_digits(row['rmse'])} ({_share(row['coverage'].get('90'))})" for row in methods.values()))
                for time, methods in by_time.items()
            ]
            columns = ("reference time", *next(iter(by_time.values())))
            parts.append(ScoreTable("RMSE by reference time (cover of 90 %)", columns, tuple(shown)))
        return parts

    @staticmethod
    def page(scores: Mapping[str, Any]) -> str:
        """Scores and skill by lead, reliability, and of a cube maps of the skill."""
        from geoml.forecasting.rows.page import score_page

        maps: list[dict[str, Any]] = []
        if "skill_map" in scores:
            from geoml.forecasting.grids.skill_map import pictures

            maps = pictures(scores["skill_map"])
        return score_page(scores, Task.table(scores), maps)


def _digits(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _share(value: float | None) -> str:
    return percent(value, none="")


def _skill(found: Mapping[str, Any] | None) -> str:
    if not found or found["skill"] is None:
        return ""
    return f"{100 * found['skill']:+.1f} % on {found['best']}"
