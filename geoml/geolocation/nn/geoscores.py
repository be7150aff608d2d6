"""Scores of geolocation, in numpy: errors in km, shares within a distance, GeoScore, intervals, selective prediction.

Distances are great-circle km on the sphere of mean radius. The levels are those of PlaNet (Weyand et al. 2016,
https://arxiv.org/abs/1602.05314): street, city, region, country, continent.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geoml.errors import InputError

Floats = NDArray[np.float64]

LEVELS_KM = (1.0, 25.0, 200.0, 750.0, 2500.0)
GEOSCORE_MAX = 5000.0
GEOSCORE_KM = 1492.7
"""GeoScore = 5000 exp(-d / 1492.7 km): PIGEON (Haas et al. 2024, https://arxiv.org/abs/2307.05845), section 4."""


def geoscore(km: Floats) -> Floats:
    """5000 at the place, 1839 at 1492.7 km; of any shape."""
    return GEOSCORE_MAX * np.exp(-np.asarray(km, float) / GEOSCORE_KM)


def within(km: Floats, level: float) -> float:
    """Share of pictures with an error of at most ``level`` km."""
    return float(np.mean(_checked(km) <= level))


def summary(km: Floats) -> dict[str, float]:
    """``median_km``, ``mean_km``, ``geoscore`` and ``within_1`` … ``within_2500`` of errors (N,).

    Raises InputError for no errors, or one that is negative or not finite.
    """
    km = _checked(km)
    scores = {"median_km": float(np.median(km)), "mean_km": float(np.mean(km)), "geoscore": float(geoscore(km).mean())}
    return {**scores, **{f"within_{level:g}": within(km, level) for level in LEVELS_KM}}


def bootstrap(km: Floats, draws: int = 1000, seed: int = 0, level: float = 0.95) -> dict[str, tuple[float, float]]:
    """Percentile intervals of `summary` over pictures resampled with replacement (Efron 1979)."""
    km = _checked(km)
    rng = np.random.default_rng(seed)
    resampled: dict[str, list[float]] = {}
    for _ in range(draws):
        for name, value in summary(km[rng.integers(0, len(km), len(km))]).items():
            resampled.setdefault(name, []).append(value)
    tail = (1.0 - level) / 2.0
    return {k: (float(np.quantile(v, tail)), float(np.quantile(v, 1.0 - tail))) for k, v in resampled.items()}


def macro_within(km: Floats, group: NDArray[np.int64], level: float) -> float:
    """The mean over groups (continents, coarse cells) of the share `within` a level of each; ``group`` (N,) labels.

    Raises InputError if the lengths differ.
    """
    km = _checked(km)
    if len(group) != len(km):
        raise InputError(f"groups: {len(group)} for {len(km)} pictures; expected one each")
    _, first, index, count = np.unique(group, return_index=True, return_inverse=True, return_counts=True)
    share = np.bincount(index, km <= level) / count
    return float(share[np.argsort(first)].mean())  # in the order of the pictures, since sums of floats depend on it


@dataclass(frozen=True)
class RiskCoverage:
    """Risk (share of wrong answers) among the surest pictures: ``risk[i]`` at ``coverage[i]``, coverage rising to 1."""

    coverage: Floats
    risk: Floats

    @property
    def area(self) -> float:
        """AURC, the mean risk over all coverages (Geifman and El-Yaniv 2019, https://arxiv.org/abs/1805.08206)."""
        return float(self.risk.mean())

    def at(self, coverage: float) -> float:
        """Risk when this share of pictures is answered."""
        return float(self.risk[max(int(np.ceil(coverage * len(self.risk) - 1e-9)), 1) - 1])


def risk_coverage(confidence: Floats, wrong: NDArray[np.bool_]) -> RiskCoverage:
    """The curve over thresholds of ``confidence`` (N,); equal confidences share their mean risk, in any order."""
    confidence = np.asarray(confidence, float)
    if len(confidence) != len(wrong) or not len(wrong):
        raise InputError(f"confidence: {len(confidence)} for {len(wrong)} answers; expected one each, at least one")
    order = np.argsort(-confidence, kind="stable")
    _, first, count = np.unique(-confidence[order], return_index=True, return_counts=True)
    sums = np.add.reduceat(np.asarray(wrong, float)[order], first)
    errors = np.cumsum(np.repeat(sums / count, count))
    answered = np.arange(1, len(order) + 1)
    return RiskCoverage(answered / len(order), errors / answered)


def threshold(confidence: Floats, right: NDArray[np.bool_], precision: float) -> float | None:
    """The lowest confidence from which on at least this share of answers is right; None if there is no such.

    Chosen on pictures that were neither trained on nor tested on (Geifman and El-Yaniv 2017,
    https://arxiv.org/abs/1705.08500, without their bound). All pictures of equal confidence are answered or none is.
    """
    confidence = np.asarray(confidence, float)
    order = np.argsort(-confidence, kind="stable")
    ordered = confidence[order]
    share = np.cumsum(np.asarray(right, float)[order]) / np.arange(1, len(order) + 1)
    last = np.append(ordered[1:] != ordered[:-1], True)
    good = np.flatnonzero(last & (share >= precision))
    return float(ordered[good[-1]]) if len(good) else None


def reliability(forecast: Floats, came_true: NDArray[np.bool_], bins: int = 10) -> dict[str, object]:
    """Forecast probabilities (N,) against what was, in bins of equal width; empty bins are left out.

    As JSON values: mean ``forecast``, share ``observed`` and ``count`` of each bin, and their weighted mean gap
    ``error`` (expected calibration error, Naeini et al. 2015). Raises InputError for a forecast outside [0, 1] or
    lengths that differ.
    """
    forecast = np.asarray(forecast, float)
    if len(forecast) != len(came_true) or not len(forecast):
        raise InputError(f"forecast: {len(forecast)} for {len(came_true)} outcomes; expected one each, at least one")
    if not (np.isfinite(forecast).all() and forecast.min() >= -1e-6 and forecast.max() <= 1 + 1e-6):
        raise InputError("forecast: expected probabilities between 0 and 1")
    which = np.clip((forecast * bins).astype(int), 0, bins - 1)
    count = np.bincount(which, minlength=bins)
    used = count > 0
    count = count[used]
    mean = np.bincount(which, forecast, bins)[used] / count
    true = np.bincount(which, np.asarray(came_true, float), bins)[used] / count
    error = float((np.abs(mean - true) * count).sum() / count.sum())
    return {"forecast": mean.tolist(), "observed": true.tolist(), "count": count.tolist(), "error": error}


def nll(log_density: Floats) -> float:
    """Mean negative log-likelihood of the true places, nats per steradian; log(4 pi) = 2.53 for knowing nothing."""
    return float(-np.mean(np.asarray(log_density, float)))


def table_row(km: Floats, draws: int = 1000, seed: int = 0) -> dict[str, object]:
    """`summary` and the intervals of `bootstrap`, as JSON values, with the number of pictures."""
    intervals = {k: list(v) for k, v in bootstrap(km, draws, seed).items()}
    return {"n": len(km), **summary(km), "interval": intervals}


def _checked(km: Floats) -> Floats:
    km = np.asarray(km, float)
    if km.ndim != 1 or not len(km) or not np.isfinite(km).all() or km.min() < 0:
        raise InputError(f"km: shape {km.shape}; expected at least one finite error, none negative")
    return km
