"""Where a model was never taught: distance to the nearest training pixel in the features that decide.

Meyer and Pebesma 2021, https://doi.org/10.1111/2041-210X.13650: features are scaled, weighted by how much they count
for the model, and the distance is that over the mean distance between training pixels. What training pixels of other
folds are at most away is what is still inside.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

REFERENCES = 512
"""Training pixels that are compared with at most."""
CHUNK = 2048
LEAST = 1e-3
"""Of the threshold: what float32 tells apart, where training pixels are alike."""


@dataclass(frozen=True, eq=False)
class Applicability:
    """``weights`` (feature,) of standardised features, ``references`` (n, feature) weighted training pixels, ``mean``
    their mean distance, ``threshold`` the largest index that is inside."""

    weights: Floats
    references: Floats
    mean: float
    threshold: float

    def index(self, x: Floats) -> Floats:
        """(n,) dissimilarity of (n, feature) standardised features: distance to the nearest reference over ``mean``."""
        return nearest(x * self.weights, self.references) / self.mean


def squared(x: Floats, others: Floats) -> Floats:
    """(n, m) squared distances of (n, feature) and (m, feature), by one product; never below 0."""
    found: Floats = (x**2).sum(1)[:, None] - 2 * x @ others.T + (others**2).sum(1)
    return np.maximum(found, 0.0, out=found)


def nearest(x: Floats, references: Floats) -> Floats:
    """(n,) distance of each row to the nearest reference."""
    out = np.empty(len(x))
    for start in range(0, len(x), CHUNK):
        out[start : start + CHUNK] = np.sqrt(squared(x[start : start + CHUNK], references).min(1))
    return out


def importance(weight: Floats) -> Floats:
    """(feature,) how much each standardised feature counts for a linear head (class, feature); mean 1."""
    apart = weight - weight.mean(0)
    size = np.sqrt((apart**2).mean(0))
    found: Floats = size / size.mean() if size.any() else np.ones_like(size)
    return found


def fit(x: Floats, weights: Floats, fold: NDArray[np.int64], seed: int = 0) -> Applicability:
    """Of (n, feature) standardised training pixels; ``fold`` (n,) is that of cross-validation, two at least.

    The threshold is the upper whisker of the distances to the nearest training pixel of another fold: the largest that
    is at most 1.5 quartile ranges above the third quartile.
    """
    rows = np.arange(len(x))
    if len(x) > REFERENCES:
        rows = np.sort(np.random.default_rng(seed).choice(len(x), REFERENCES, replace=False))
    z, of = x[rows] * weights, fold[rows]
    away = np.sqrt(squared(z, z))
    count = len(z) * (len(z) - 1)
    mean = float(away.sum() / count) if count and away.any() else 1.0
    other = np.where(of[:, None] != of, away, np.inf).min(1) / mean
    other = other[np.isfinite(other)]
    low, high = np.percentile(other, (25, 75))
    inside = other[other <= high + 1.5 * (high - low)]
    return Applicability(weights, z, mean, max(float(inside.max()), LEAST))
