"""Climatology of places: harmonics of the year and of the day, and for steps of years a level and a common trend."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from geoml.cube.harmonics import waves
from geoml.io.tables.durations import StepDuration

Floats = NDArray[np.float64]
YEAR, DAY = 365.2425, 86_400
ANNUAL, DIURNAL = 3, 3
"""Harmonics."""
LEAST_OF_A_YEAR = 300
"""Days of training below which there is no wave of the year."""
SHRINK = 1e-3
"""Penalty of a harmonic, for each known value, in standardised units."""


def basis(times: pd.DatetimeIndex, step: StepDuration) -> Floats:
    """(time, feature): 1, harmonics of the year for steps below one, of the day for steps below one and the change of
    the first two over the year; for steps of years the years since 2000."""
    seconds = times.tz_convert("UTC").tz_localize(None).to_numpy("datetime64[s]").astype(np.int64)
    one = np.ones((len(times), 1))
    if step.months >= 12:
        return np.concatenate([one, (seconds[:, None] / DAY - 10_957) / YEAR], 1)
    year = waves(seconds / (YEAR * DAY), ANNUAL)
    if step.months or step.seconds >= DAY:
        return np.concatenate([one, year], 1)
    day = waves(seconds / DAY, DIURNAL)
    both = (year[:, :2, None] * day[:, None, :4]).reshape(len(times), -1)
    return np.concatenate([one, year, day, both], 1)


class PlaceClimatology(nn.Module):
    """``weights`` (place, feature) in the normalised unit of the target."""

    weights: Tensor

    def __init__(self, places: int, step: StepDuration) -> None:
        super().__init__()
        self.step = step
        features = basis(pd.DatetimeIndex(["2000-01-01"], tz="UTC"), step).shape[1]
        self.register_buffer("weights", torch.zeros(places, features, dtype=torch.float64))

    def at(self, times: pd.DatetimeIndex) -> Floats:
        """(time, place)."""
        out: Floats = basis(times, self.step) @ self.weights.numpy().T
        return out

    def fit(self, times: pd.DatetimeIndex, values: Floats) -> None:
        """Take (time, place), NaN where not known. A place without any is as the mean of all."""
        design = basis(times, self.step)
        if self.step.months >= 12:
            weights = _trend(design, values)
        else:
            span = (times.max() - times.min()).total_seconds() / DAY if len(times) else 0.0
            fits = np.ones(design.shape[1], bool)
            if span < LEAST_OF_A_YEAR:  # a wave that was seen in part is anything elsewhere
                fits[1 : 1 + 2 * ANNUAL] = False
                fits[1 + 2 * ANNUAL + 2 * DIURNAL :] = False
            weights = np.zeros((values.shape[1], design.shape[1]))
            weights[:, fits] = _harmonics(design[:, fits], values)
        self.weights.copy_(torch.from_numpy(weights))


def _harmonics(design: Floats, values: Floats) -> Floats:
    out = np.full((values.shape[1], design.shape[1]), np.nan)
    for place in range(values.shape[1]):
        known = np.isfinite(values[:, place])
        if not known.any():
            continue
        x, y = design[known], values[known, place]
        penalty = np.full(x.shape[1], SHRINK * len(x))
        penalty[0] = 1e-9
        out[place] = np.linalg.solve(x.T @ x + np.diag(penalty), x.T @ y)
    return np.where(np.isfinite(out), out, np.nanmean(out, 0) if np.isfinite(out).any() else 0.0)


def _trend(design: Floats, values: Floats) -> Floats:
    """A slope that all places share, from changes within each and as far as it is sure, and levels that are shrunk to
    that of all by how few values there are of a place (empirical Bayes)."""
    known = np.isfinite(values)
    count = known.sum(0)
    year = np.where(known, design[:, 1:2], np.nan)
    seen = count > 0
    mean_year, mean = (np.full(values.shape[1], np.nan) for _ in range(2))
    mean_year[seen], mean[seen] = np.nanmean(year[:, seen], 0), np.nanmean(values[:, seen], 0)
    away = np.where(known, year - mean_year, 0.0)
    spread = (away**2).sum()
    slope = (away * np.where(known, values - mean, 0.0)).sum() / spread if spread > 0 else 0.0
    slope *= _sure(np.where(known, values - mean - slope * away, np.nan), design[:, 1], slope)
    level = mean - slope * mean_year
    middle = float(np.average(level[seen], weights=count[seen])) if seen.any() else 0.0
    left = np.where(known, values - level - slope * design[:, 1:2], 0.0)
    within = (left**2).sum() / max(1, count.sum() - seen.sum())
    between = max(1e-9, float(np.var(level[seen])) - within * float(np.mean(1 / count[seen]))) if seen.any() else 1.0
    share = count / (count + within / between)
    return np.column_stack([np.where(seen, middle + share * (level - middle), middle), np.full(len(count), slope)])


def _sure(left: Floats, years: Floats, slope: float) -> float:
    """What is kept of a slope, 0 to 1 (positive-part James and Stein), given what is ``left`` of (time, place) beside
    it: years are good or bad for all places at once, so years are what there is few of."""
    seen = np.isfinite(left).any(1)
    if seen.sum() < 3 or slope == 0:
        return 0.0
    common, year = np.nanmean(left[seen], 1), years[seen]
    variance = (common**2).sum() / (seen.sum() - 2) / ((year - year.mean()) ** 2).sum()
    return float(max(0.0, 1 - variance / slope**2))
