"""Climatology of pixels: the mean, harmonics of the year and of the day, by least squares of what is known."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
YEAR, DAY = 365.2425 * 86_400, 86_400.0
"""Seconds."""
SHRINK = 1e-3
"""Penalty of a harmonic, for each known value."""


def waves(turns: Floats, count: int) -> Floats:
    """(time, 2 * count) sines and cosines of so many harmonics."""
    angles = 2 * np.pi * turns[:, None] * np.arange(1, count + 1)
    return np.stack([np.sin(angles), np.cos(angles)], 2).reshape(len(turns), -1)


def basis(seconds: NDArray[np.int64], annual: int, diurnal: int) -> Floats:
    """(time, 1 + 2 * annual + 2 * diurnal) at seconds since 1970."""
    return np.concatenate(
        [np.ones((len(seconds), 1)), waves(seconds / YEAR, annual), waves(seconds / DAY, diurnal)], axis=1
    )


def fit_harmonics(
    steps: Iterable[tuple[int, NDArray[np.float32]]], annual: int, diurnal: int, least: int = 1
) -> NDArray[np.float32]:
    """(feature, y, x) weights of `basis`, of (seconds, (y, x) values) one after the other, NaN where not known.

    Harmonics are shrunk a little towards none; a pixel that is known fewer than ``least`` times has NaN. Memory grows
    with the square of the number of features, and not with that of steps. No step gives an empty array.
    """
    gram = right = count = None
    for seconds, values in steps:
        (row,) = basis(np.array([seconds], np.int64), annual, diurnal)
        known = np.isfinite(values)
        if gram is None or right is None or count is None:
            gram = np.zeros((*values.shape, len(row), len(row)))
            right, count = np.zeros((*values.shape, len(row))), np.zeros(values.shape)
        gram += known[..., None, None] * np.outer(row, row)
        right += np.where(known, values, 0)[..., None].astype(np.float64) * row
        count += known
    if gram is None or right is None or count is None:
        return np.zeros((0, 0, 0), np.float32)
    shrink = np.full(gram.shape[-1], SHRINK)
    shrink[0] = 1e-9
    gram += np.maximum(count, 1)[..., None, None] * np.diag(shrink)
    weights = np.linalg.solve(gram, right[..., None])[..., 0]
    return np.moveaxis(np.where(count[..., None] >= least, weights, np.nan), -1, 0).astype(np.float32)


def at_time(weights: NDArray[np.float32], seconds: int, annual: int, diurnal: int) -> NDArray[np.float32]:
    """(y, x) of the climatology at a time; every pixel by itself, so that it is the same for any window."""
    (row,) = basis(np.array([seconds], np.int64), annual, diurnal)
    total = np.zeros(weights.shape[1:], np.float32)
    for factor, weight in zip(row, weights, strict=True):
        total += np.float32(factor) * weight
    return total
