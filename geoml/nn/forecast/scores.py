"""Scores of forecasts by quantiles and by ensembles. NaN is not known: it is counted nowhere.

T. Gneiting and A. E. Raftery (2007): Strictly Proper Scoring Rules, Prediction, and Estimation,
https://doi.org/10.1198/016214506000001437.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def pinball(
    quantiles: Float[ndarray, "level ..."], truth: Float[ndarray, " ..."], levels: Sequence[float]
) -> Float[ndarray, "level ..."]:
    """Pinball loss of each level, in the unit of the truth; NaN where the truth or the quantile is."""
    at = np.asarray(levels, np.float64).reshape(-1, *[1] * truth.ndim)
    error = np.asarray(truth, np.float64)[None] - quantiles
    out: Floats = np.maximum(at * error, (at - 1) * error)
    return out


def crps_of_quantiles(
    quantiles: Float[ndarray, "level ..."], truth: Float[ndarray, " ..."], levels: Sequence[float]
) -> Float[ndarray, " ..."]:
    """Twice the mean pinball loss: the CRPS as far as so many levels tell it. Say how many there were."""
    out: Floats = 2 * pinball(quantiles, truth, levels).mean(0)
    return out


def fair_crps(members: Float[ndarray, "member ..."], truth: Float[ndarray, " ..."]) -> Float[ndarray, " ..."]:
    """CRPS of the distribution that an ensemble of two members or more was drawn from, without bias by its size.

    C. A. T. Ferro (2014): Fair scores for ensemble forecasts, https://doi.org/10.1002/qj.2270. NaN in any member or in
    the truth gives NaN.
    """
    drawn = np.sort(np.asarray(members, np.float64), 0)
    size = len(drawn)
    away = np.abs(drawn - truth[None]).mean(0)
    weight = (2 * np.arange(1, size + 1) - size - 1).reshape(-1, *[1] * truth.ndim)
    out: Floats = away - (weight * drawn).sum(0) / (size * (size - 1))
    return out


def coverage(
    low: Float[ndarray, " ..."], high: Float[ndarray, " ..."], truth: Float[ndarray, " ..."]
) -> tuple[float | None, float | None]:
    """Share of what is known that lies between both ends, these included, and the mean width; None without any."""
    known = np.isfinite(truth) & np.isfinite(low) & np.isfinite(high)
    if not known.any():
        return None, None
    low, high, truth = low[known], high[known], truth[known]
    return float(((low <= truth) & (truth <= high)).mean()), float((high - low).mean())


def pit(quantiles: Float[ndarray, "level ..."], truth: Float[ndarray, " ..."]) -> Float[ndarray, " bin"]:
    """Share of the truth between each two quantiles, below the first and above the last: of a reliable forecast the
    distances of the levels. A truth on a quantile counts half to either side. Sums to 1; NaN where nothing is known.
    """
    known = np.isfinite(truth) & np.isfinite(quantiles).all(0)
    q, y = quantiles[:, known], truth[known][None]
    below = (q < y).mean(1) if known.any() else np.full(len(q), np.nan)
    at = (q <= y).mean(1) if known.any() else np.full(len(q), np.nan)
    exceeded = (below + at) / 2
    out: Floats = -np.diff(np.concatenate([[1.0], exceeded, [0.0]]))
    return out


class LeadScores:
    """Sums of scores by lead: parts that are merged give what the whole gives at once.

    ``levels`` are those of the quantiles, symmetric about 0.5.
    """

    key = "crps"
    larger_is_better = False

    def __init__(self, leads: Sequence[str], levels: Sequence[float]) -> None:
        self.leads, self.levels = tuple(leads), tuple(levels)
        middle = len(self.levels) // 2
        self.intervals = {
            round(100 * (self.levels[-1 - k] - self.levels[k])): (k, len(self.levels) - 1 - k) for k in range(middle)
        }
        self._parts: list[tuple[Floats, Floats]] = []

    def update(self, quantiles: Float[ndarray, "n lead level"], truth: Float[ndarray, "n lead"]) -> None:
        """Count forecasts and what came true, in one unit."""
        self._parts.append((np.asarray(quantiles, np.float64), np.asarray(truth, np.float64)))

    def merge(self, other: LeadScores) -> None:
        self._parts += other._parts

    def compute(self) -> dict[str, Any]:
        """``leads``: by lead ``n``, ``mae``, ``rmse``, ``bias`` of the median, ``crps``, ``coverage`` and ``width`` by
        interval in %, ``pit``; and the means of ``mae`` and ``crps`` over the leads; None without a known truth."""
        shape = len(self.leads), len(self.levels)
        quantiles = np.concatenate([np.empty((0, *shape)), *(q for q, _ in self._parts)])
        truth = np.concatenate([np.empty((0, shape[0])), *(t for _, t in self._parts)])
        rows = {lead: self._of(quantiles[:, k], truth[:, k]) for k, lead in enumerate(self.leads)}
        means = {name: _mean([row[name] for row in rows.values() if row[name] is not None]) for name in ("mae", "crps")}
        return {**means, "levels": list(self.levels), "leads": rows}

    def _of(self, quantiles: Floats, truth: Floats) -> dict[str, Any]:
        known = np.isfinite(truth) & np.isfinite(quantiles).all(1)
        q, y = quantiles[known].T, truth[known]
        if not known.any():
            return {"n": 0, **dict.fromkeys(("mae", "rmse", "bias", "crps")), "coverage": {}, "width": {}, "pit": []}
        # sorted, so that sums do not depend on the order in which parts came
        error = np.sort(y - q[len(q) // 2])
        found: Mapping[int, Any] = {name: coverage(q[a], q[b], y) for name, (a, b) in self.intervals.items()}
        widths = {str(n): float(np.sort(q[b] - q[a]).mean()) for n, (a, b) in self.intervals.items()}
        return {
            "n": int(known.sum()),
            "mae": float(np.sort(np.abs(error)).mean()),
            "rmse": float(np.sqrt(np.sort(error**2).mean())),
            "bias": float(-error.mean()),
            "crps": float(np.sort(crps_of_quantiles(q, y, self.levels)).mean()),
            "coverage": {str(name): share for name, (share, _) in found.items()},
            "width": widths,
            "pit": pit(q, y).tolist(),
        }


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None
