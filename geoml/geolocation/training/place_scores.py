"""Scores of answers about places: errors with intervals, selective prediction, reliability, likelihood, sets of cells.

What the scores need is collected of every picture, so parts that are merged in their order give what the whole gives.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from geoml.geolocation.cards.locator import FittedCalibration
from geoml.geolocation.density.cells import Cells
from geoml.geolocation.density.density import Density
from geoml.geolocation.locate import answers, locator
from geoml.geolocation.nn import conformal, geoscores
from geoml.geolocation.rows import schema as geolocations
from geoml.geolocation.training import balance
from geoml.geolocation.training.recipe import CHOSEN_BY
from geoml.grid import sphere

Floats = NDArray[np.float64]
Columns = dict[str, NDArray[Any]]
"""What is known of N pictures, by name: (N,) numbers or truth values, or (N, cells)."""


class PlaceScores:
    """An accumulator for a locator with this calibration, and ``cells`` where its head has some.

    Intervals are of ``draws`` draws by ``seed``. What is ``unlike`` the pictures that the locator is for gets no
    answer, however sure.
    """

    key: ClassVar[str] = CHOSEN_BY
    larger_is_better: ClassVar[bool] = True

    def __init__(
        self, calibration: FittedCalibration, cells: Cells | None = None, seed: int = 0, draws: int = 1000
    ) -> None:
        self.calibration, self.seed, self.draws = calibration, seed, draws
        self.cells = cells if calibration.conformal is not None else None
        self.parts: list[Columns] = []

    def update(self, density: Density, lon: Floats, lat: Floats, unlike: NDArray[np.bool_] | None = None) -> None:
        """Add pictures: calibrated densities, the true places (N,) in degrees, and which are ``unlike`` (N,)."""
        at = density.mode()
        region = answers.sure_regions(density, self.calibration)
        in_region = np.zeros(len(lon), bool)
        if unlike is not None:
            region = np.where(unlike, np.nan, region)
        for km in set(region[region > 0].tolist()):
            coarse = region == km
            middle = geolocations.round_to(at[0][coarse], at[1][coarse], km)
            in_region[coarse] = sphere.distance(*middle, lon[coarse], lat[coarse]) <= km
        columns: Columns = {
            "km": sphere.distance(*at, lon, lat),
            "sure": density.within(*at, self.calibration.within_km),
            "log_density": density.log_density(lon, lat),
            "block": balance.coarse(lon, lat, 30.0),
            "region": region,
            "in_region": in_region,
        }
        if self.cells is not None:
            columns["cell_probability"] = locator.cell_probability(density, self.cells)
            columns["cell"] = self.cells.assign(lon, lat)
        if unlike is not None:
            columns["unlike"] = unlike
        self.parts.append(columns)

    def merge(self, other: PlaceScores) -> None:
        """Add the pictures of another part."""
        self.parts += other.parts

    def compute(self) -> dict[str, object]:
        """All scores as plain JSON values. Raises InputError without a picture."""
        columns = {name: np.concatenate([part[name] for part in self.parts]) for name in self.parts[0]}
        km, sure, near = columns["km"], columns["sure"], self.calibration.within_km
        curve = geoscores.risk_coverage(sure, km > near)
        row: dict[str, object] = {
            **geoscores.table_row(km, self.draws, self.seed),
            "macro_within": geoscores.macro_within(km, columns["block"], near),
            "nll": geoscores.nll(columns["log_density"]),
            "aurc": curve.area,
            "within_at_coverage": {f"{c:g}": 1.0 - curve.at(c) for c in (0.25, 0.5, 0.75, 1.0)},
            "risk_coverage": [[c / 50, curve.at(c / 50)] for c in range(1, 51)],
            "reliability": geoscores.reliability(np.clip(sure, 0.0, 1.0), km <= near),
        }
        if self.calibration.threshold is not None:
            row |= self._answered(columns, sure >= self.calibration.threshold)
        if self.cells is not None and self.calibration.conformal is not None:
            inside = conformal.sets(columns["cell_probability"], self.calibration.conformal, seed=1)
            row["conformal"] = {"coverage": conformal.coverage(inside, columns["cell"]),
                                "cells": float(inside.sum(1).mean())}  # fmt: skip
        return row

    def _answered(self, columns: Columns, sure: NDArray[np.bool_]) -> dict[str, object]:
        """By km the share that is answered as a region of it, and how many of these lie so near; what is unlike; and
        the share of fine answers and of the right ones among them."""
        region, unlike = columns["region"], columns.get("unlike")
        regions = {}
        for km in sorted(set(region[region > 0].tolist())):
            coarse = region == km
            right = float(columns["in_region"][coarse].mean())
            regions[f"{km:g}"] = {"answered": float(coarse.mean()), "right": right}
        row: dict[str, object] = {"regions": regions}
        if unlike is not None:
            row["unlike"] = {"all": float(unlike.mean()), "sure": float(unlike[sure].mean())}
            sure = sure & ~unlike
        right_there = columns["km"][sure] <= self.calibration.within_km
        return row | {"answered": float(sure.mean()), "precision": float(right_there.mean()) if sure.any() else None}


def constant_baselines(train: Floats, lon: Floats, lat: Floats) -> dict[str, dict[str, float]]:
    """What doing nothing scores: one answer to all pictures at ``lon``, ``lat`` (N,), whatever they show.

    By name: the mean direction of the training places (N, 2), lon first, and that of those in the most common of their
    blocks of 10 degrees. Scores as `geoml.geolocation.nn.geoscores.summary` has them.
    """
    _, block, count = np.unique(balance.coarse(*train.T), return_inverse=True, return_counts=True)
    chosen = {"commonest cell": train[block == count.argmax()], "mean direction": train}
    return {
        name: geoscores.summary(sphere.distance(*sphere.mean(*places.T), lon, lat)) for name, places in chosen.items()
    }
