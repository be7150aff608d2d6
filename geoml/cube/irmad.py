"""IR-MAD: differences of canonical variates of two dates, reweighted until they rest on unchanged pixels alone.

Nielsen: The Regularized Iteratively Reweighted MAD Method for Change Detection in Multi- and Hyperspectral Data. IEEE
Transactions on Image Processing 16 (2), 2007, https://doi.org/10.1109/TIP.2006.888195. The variates do not change with
an affine transform of the bands of either date.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

ROUNDS = 50
"""Reweightings at most."""
TOLERANCE = 1e-4
"""A largest change of a canonical correlation below this ends them."""
LEAST_SHARE = 0.05
"""Of the weight: with one or two variates every round shrinks what passes for unchanged, without an end."""
RANK = 1e-6
"""Directions with a smaller share of the largest variance are left out: their covariance is singular."""
LEAST_VARIANCE = 1e-5
"""Of a difference of variates (of variance 1): pixels that did not change at all have none."""
EQUAL = 1e-10
"""Below 1, a smallest canonical correlation that only rounding keeps from it: the dates are one."""

Floats = NDArray[np.float64]


class Variates(NamedTuple):
    """``(z - mean) @ transform.T`` are V MAD variates, of variance 1 where nothing changed; none of equal dates."""

    mean: Floats
    """(2 * bands,)"""
    transform: Floats
    """(V, 2 * bands)"""
    correlation: Floats
    """(V,) of the dates, falling."""

    def no_change(self, z: Floats) -> Floats:
        """(N,) probability that an unchanged pixel would differ as much as each of (N, 2 * bands), or more."""
        from scipy.special import gammaincc

        squared = (((z - self.mean) @ self.transform.T) ** 2).sum(axis=1)
        return np.asarray(gammaincc(max(len(self.transform), 1) / 2, squared / 2))


def reweighted(z: Floats, bands: int, corrected: bool = False) -> Variates:
    """The variates of (N, 2 * bands) pixels, the first date first, each band of mean 0 and deviation 1.

    Each round weighs a pixel by `Variates.no_change`. Unlike in the paper, variances may be ``corrected`` for the tails
    that the weights cut off, so that half of the unchanged pixels have a probability above one half.
    """
    found = _variates(z, np.ones(len(z)), bands, False)
    if len(found.correlation) and (1 - found.correlation).max() < EQUAL:
        return found._replace(transform=found.transform[:0])
    for _ in range(ROUNDS):
        weight = found.no_change(z)
        if weight.mean() < LEAST_SHARE:
            break
        before, found = found, _variates(z, weight, bands, corrected)
        same = len(found.correlation) == len(before.correlation)
        if same and np.abs(found.correlation - before.correlation).max(initial=0) < TOLERANCE:
            break
    return found


def _variates(z: Floats, weight: Floats, bands: int, corrected: bool) -> Variates:
    weight = weight / weight.sum()
    mean = weight @ z
    centred = z - mean
    covariance = centred.T @ (centred * weight[:, None])
    first = _whitening(covariance[:bands, :bands])
    second = _whitening(covariance[bands:, bands:])
    left, correlation, right = np.linalg.svd(first.T @ covariance[:bands, bands:] @ second, full_matrices=False)
    both = np.concatenate([(first @ left).T, -(right @ second.T)], axis=1)
    variance = np.maximum(2 * (1 - correlation), LEAST_VARIANCE) / (_left(len(correlation)) if corrected else 1.0)
    return Variates(mean, both / np.sqrt(variance)[:, None], correlation)


def _whitening(covariance: Floats) -> Floats:
    """(bands, rank) transform to uncorrelated directions of variance 1; what has next to no variance is left out."""
    values, vectors = np.linalg.eigh(covariance)
    keep = values > RANK * max(float(values[-1]), RANK)
    return np.asarray(vectors[:, keep] / np.sqrt(values[keep]))


@lru_cache
def _left(variates: int) -> float:
    """The share of a variance that is left under the weights of so many variates."""
    if not variates:
        return 1.0
    from scipy.special import gammaincc

    grid = np.linspace(0, 20 * variates + 50, 10_000)
    return float(np.trapezoid(gammaincc(variates / 2, grid / 2) ** 2, grid) / variates)
