"""Scores of answers about places: errors with intervals, selective prediction, reliability, likelihood, sets of cells.

What the scores need is kept of every picture, so parts that are merged in their order give what the whole gives.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from geoml.geolocation.cards.locator import Calibrated
from geoml.geolocation.density.cells import Cells
from geoml.geolocation.density.density import Density
from geoml.geolocation.locate import answers, locator
from geoml.geolocation.nn import conformal, geoscores
from geoml.geolocation.rows import schema as geolocations
from geoml.geolocation.training import balance
from geoml.grid import sphere

Floats = NDArray[np.float64]


class PlaceScores:
    """An accumulator for a locator with this calibration, and ``cells`` where its head has some.

    Intervals are of ``draws`` draws by ``seed``. What is ``unlike`` the pictures that the locator is for gets no
    answer, however sure.
    """

    key: ClassVar[str] = "geoscore"
    larger_is_better: ClassVar[bool] = True

    def __init__(self, calibration: Calibrated, cells: Cells | None = None, seed: int = 0, draws: int = 1000) -> None:
        self.calibration, self.seed, self.draws = calibration, seed, draws
        self.cells = cells if calibration.conformal is not None else None
        self.kept: dict[str, list[NDArray[Any]]] = defaultdict(list)

    def update(self, density: Density, lon: Floats, lat: Floats, unlike: NDArray[np.bool_] | None = None) -> None:
        """Add pictures: calibrated densities, the true places (N,) in degrees, and which are ``unlike`` (N,)."""
        at = density.mode()
        kept = {
            "km": sphere.distance(*at, lon, lat),
            "sure": density.within(*at, self.calibration.within_km),
            "log_density": density.log_density(lon, lat),
            "coarse": balance.coarse(lon, lat, 30.0),
            "region": answers.sure_regions(density, self.calibration),
            "in_region": np.zeros(len(lon), bool),
        }
        if unlike is not None:
            kept["unlike"] = unlike
            kept["region"] = np.where(unlike, np.nan, kept["region"])
        for km in {float(v) for v in kept["region"][kept["region"] > 0]}:
            those = kept["region"] == km
            middle = geolocations.round_to(at[0][those], at[1][those], km)
            kept["in_region"][those] = sphere.distance(*middle, lon[those], lat[those]) <= km
        if self.cells is not None:
            kept["cell_probability"] = locator.cell_probability(density, self.cells)
            kept["cell"] = self.cells.assign(lon, lat)
        for name, values in kept.items():
            self.kept[name].append(values)

    def merge(self, other: PlaceScores) -> None:
        """Add the pictures of another part."""
        for name, values in other.kept.items():
            self.kept[name] += values

    def compute(self) -> dict[str, Any]:
        """All scores as plain JSON values. Raises InputError without a picture."""
        kept = {name: np.concatenate(values) for name, values in self.kept.items()}
        km, sure, near = kept["km"], kept["sure"], self.calibration.within_km
        curve = geoscores.risk_coverage(sure, km > near)
        bins = geoscores.reliability(np.clip(sure, 0.0, 1.0), km <= near)
        row: dict[str, Any] = {
            **geoscores.table_row(km, self.draws, self.seed),
            "macro_within": geoscores.macro(km, kept["coarse"].tolist(), lambda v: geoscores.within(v, near))[0],
            "nll": geoscores.nll(kept["log_density"]),
            "aurc": curve.area,
            "within_at_coverage": {f"{c:g}": 1.0 - curve.at(c) for c in (0.25, 0.5, 0.75, 1.0)},
            "risk_coverage": [[c / 50, curve.at(c / 50)] for c in range(1, 51)],
            "reliability": {"forecast": bins.forecast.tolist(), "observed": bins.observed.tolist(),
                            "count": bins.count.tolist(), "error": bins.error},
        }  # fmt: skip
        if self.calibration.threshold is not None:
            row |= self._answered(kept, sure >= self.calibration.threshold)
        if self.cells is not None and self.calibration.conformal is not None:
            inside = conformal.sets(kept["cell_probability"], self.calibration.conformal, seed=1)
            row["conformal"] = {"coverage": conformal.coverage(inside, kept["cell"]),
                                "cells": float(inside.sum(1).mean())}  # fmt: skip
        return row

    def _answered(self, kept: dict[str, NDArray[Any]], sure: NDArray[np.bool_]) -> dict[str, Any]:
        """By km the share that is answered as a region of it, and how many of these lie so near; what is unlike; and
        the share of fine answers and of the right ones among them."""
        region, unlike = kept["region"], kept.get("unlike")
        found: dict[str, Any] = {"regions": {}}
        for km in sorted({float(v) for v in region[region > 0]}):
            those = region == km
            right = float(kept["in_region"][those].mean())
            found["regions"][f"{km:g}"] = {"answered": float(those.mean()), "right": right}
        if unlike is not None:
            found["unlike"] = {"all": float(unlike.mean()), "sure": float(unlike[sure].mean())}
            sure = sure & ~unlike
        right_there = kept["km"][sure] <= self.calibration.within_km
        return found | {"answered": float(sure.mean()), "precision": float(right_there.mean()) if sure.any() else None}
