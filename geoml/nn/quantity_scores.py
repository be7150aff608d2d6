"""Scores of a map of a quantity, summed part by part: the parts together give the score of the whole."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

INTERVAL = 0.9
"""Share of the truth that the interval around a value should hold."""
DEVIATIONS = 1.6449
"""Half the width of that interval of a normal distribution, in standard deviations."""
FINE = 16
"""Parts of a step in which errors are summed up, as integers: so neither order nor size of the parts matter."""


class QuantityScores:
    """Errors of values that are stored in steps of ``step``, and how often the truth lies where the spread says."""

    key: ClassVar[str] = "mae"
    larger_is_better: ClassVar[bool] = False

    def __init__(self, step: float) -> None:
        self.part = step / FINE
        self.sums: dict[str, int] = dict.fromkeys(("n", "absolute", "error", "square", "truth", "power", "inside"), 0)
        self.width = 0

    def update(self, value: NDArray[np.number], spread: NDArray[np.number], target: NDArray[np.number]) -> None:
        """Add pixels, all in the unit of the quantity; those whose truth or value is NaN are left out."""
        known = np.isfinite(target) & np.isfinite(value)
        truth, guess, sure = (self._parts(v[known]) for v in (target, value, spread))
        error = guess - truth
        found = {
            "n": known.sum(),
            "absolute": np.abs(error).sum(),
            "error": error.sum(),
            "square": (error**2).sum(),
            "truth": truth.sum(),
            "power": (truth**2).sum(),
            "inside": (np.abs(error) <= DEVIATIONS * sure).sum(),
        }
        self.sums = {k: n + int(found[k]) for k, n in self.sums.items()}
        self.width += int(sure.sum())

    def merge(self, other: QuantityScores) -> None:
        """Add the sums of another part."""
        self.sums = {k: n + other.sums[k] for k, n in self.sums.items()}
        self.width += other.width

    def compute(self) -> dict[str, Any]:
        """Plain JSON values, None if nothing was scored: ``mae``, ``rmse``, ``bias`` (map less truth) in the unit.

        ``r2`` is the share of the variance that is explained, ``coverage`` the share of the truth inside the interval
        of 90 %, ``spread`` the mean standard deviation that the map gives.
        """
        n, s = self.sums["n"], self.sums
        if not n:
            return {"pixels": 0, **dict.fromkeys(("mae", "rmse", "bias", "r2", "coverage", "spread"))}
        variance = s["power"] - s["truth"] ** 2 / n
        return {
            "pixels": n,
            "mae": s["absolute"] / n * self.part,
            "rmse": (s["square"] / n) ** 0.5 * self.part,
            "bias": s["error"] / n * self.part,
            "r2": 1 - s["square"] / variance if variance > 0 else None,
            "coverage": s["inside"] / n,
            "spread": self.width / n * self.part,
        }

    def _parts(self, values: NDArray[np.number]) -> NDArray[np.int64]:
        return np.rint(values.astype(np.float64) / self.part).astype(np.int64)
