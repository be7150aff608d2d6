"""Geolocation: a picture in, a density of places over the sphere out, calibrated so that it knows when to be silent.

The head owns the loss, since it owns the form of the density; a picture without a place is in no set.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, final

from geoml.engine.task import OnEpoch
from geoml.errors import InputError
from geoml.geolocation.cards.locator import LocatorCard
from geoml.geolocation.training.place_scores import PlaceScores
from geoml.geolocation.training.recipe import GeoRecipe
from geoml.io.report.score_table import ScoreTable
from geoml.recipe import Frozen

WITHIN_KM = (25, 200, 750, 2500)


@final
class Task:
    """Scored on test sets that the recipe names: errors in km, GeoScore, and what is answered at which risk."""

    name: ClassVar = "geolocation"
    recipe: ClassVar[type[Frozen]] = GeoRecipe
    card: ClassVar[type[Frozen]] = LocatorCard
    input: ClassVar = "pictures"
    output: ClassVar = "table"
    compares: ClassVar = False
    key: ClassVar = PlaceScores.key
    larger_is_better: ClassVar = PlaceScores.larger_is_better

    @staticmethod
    def fit(recipe: GeoRecipe, out: Path, on_epoch: OnEpoch | None = None) -> None:
        """Features, a head and its calibration; raises as `geoml.geolocation.training.head.fit`."""
        from geoml.geolocation.training.head import fit

        fit(recipe, out, on_epoch=on_epoch)

    @staticmethod
    def score(model: str | Path, recipe: GeoRecipe, split: str) -> dict[str, Any]:
        """Every test set of the recipe, as `geoml.geolocation.training.head.score`; raises InputError for a split."""
        from geoml.geolocation.training.head import score

        if split != "test":
            raise InputError(f"split: {split}; a recipe of geolocation has several test sets, and all are scored")
        return score(model, recipe)

    @staticmethod
    def table(scores: Mapping[str, Any]) -> list[ScoreTable | str]:
        """A row for each test set: how far off, and how many within what distance."""
        rows = []
        for name, row in scores["sets"].items():
            shares = (f"{row[f'within_{d}']:.1%}" for d in WITHIN_KM)
            rows.append((name, f"{row['median_km']:.0f}", *shares, f"{row['geoscore']:.0f}"))
        columns = ("set", "median km", *(f"≤ {d} km" for d in WITHIN_KM), "GeoScore")
        return [ScoreTable("geolocation", columns, tuple(rows))]

    @staticmethod
    def page(scores: Mapping[str, Any]) -> str:
        """The table and two curves of every test set, see `geoml.geolocation.locate.report.locator_report`."""
        from geoml.geolocation.locate.report import locator_report

        return locator_report(scores)
