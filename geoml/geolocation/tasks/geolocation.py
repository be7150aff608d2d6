"""Geolocation: a picture in, a density of places over the sphere out, calibrated so that it knows when to be silent.

The head owns the loss, since it owns the form of the density; a picture without a place is in no set.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, final

from geoml.engine.task import OnEpoch
from geoml.geolocation.tasks._locators import LocatorTask
from geoml.geolocation.training.recipe import CHOSEN_BY, GeoRecipe
from geoml.io.report.score_table import ScoreTable
from geoml.recipe import Frozen
from geoml.texts import percent

WITHIN_KM = (25, 200, 750, 2500)


@final
class Task(LocatorTask):
    """Scored on test sets that the recipe names: errors in km, GeoScore, and what is answered at which risk."""

    name: ClassVar = "geolocation"
    recipe: ClassVar[type[Frozen]] = GeoRecipe
    key: ClassVar = CHOSEN_BY
    larger_is_better: ClassVar = True

    @staticmethod
    def fit(recipe: GeoRecipe, out: Path, on_epoch: OnEpoch | None = None) -> None:
        """Features, a head and its calibration.

        Raises InputError for a recipe that does not fit itself or the folder or a split that leaks, NothingFound
        without a picture, DataError for one that cannot be read, ModelError if the loss is not finite.
        """
        from geoml.geolocation.training.head import fit

        fit(recipe, out, on_epoch=on_epoch)

    @staticmethod
    def score(model: str | Path, recipe: GeoRecipe, split: str) -> dict[str, object]:
        """Every test set of the recipe, as `geoml.geolocation.training.head.score`; raises InputError for a split."""
        from geoml.geolocation.training.head import score

        Task.check_split(split)
        return score(model, recipe)

    @staticmethod
    def table(scores: Mapping[str, Any]) -> list[ScoreTable | str]:
        """Rows for each test set, then for doing nothing: how far off, and how many within what distance."""
        rows = []
        for name, test in scores.get("sets", scores).items():  # a card holds the sets alone
            nothing = test.get("baseline", {}).items()  # packages from before have none
            for label, row in ((name, test), *((f"{name}, {constant}", row) for constant, row in nothing)):
                shares = (percent(row[f"within_{d}"]) for d in WITHIN_KM)
                rows.append((label, f"{row['median_km']:.0f}", *shares, f"{row['geoscore']:.0f}"))
        columns = ("set", "median km", *(f"≤ {d} km" for d in WITHIN_KM), "GeoScore")
        return [ScoreTable("geolocation", columns, tuple(rows))]

    @staticmethod
    def page(scores: Mapping[str, Any]) -> str:
        """The table and two curves of every test set, see `geoml.geolocation.locate.report.locator_report`."""
        from geoml.geolocation.locate.report import locator_report

        return locator_report(scores)
