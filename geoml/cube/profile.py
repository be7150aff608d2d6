"""Whether bands are in the order and unit that a model knows, judged by their relation to each other.

A wrong order crashes nothing and costs little of a score, so nobody would notice. Here the distance of pixels from what
is usual (`BandProfile`) is compared with that after bands are exchanged: it depends on the mean and the covariance of
the logarithms alone, so that many orders are tried at no cost. What no order makes usual is not a matter of order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from geoml.errors import ModelError
from geoml.io.cards.profile import BandProfile

Floats = NDArray[np.float64]

LOOKS = 30
"""Looks at a pixel below which nothing is said."""
MARGIN = 1.0
"""Of the mean distance: another order has to be so much nearer before it is called the right one."""
UNUSUAL = 2.0
"""Mean distance of pixels of the right level, as a multiple of the number of bands, is below this."""
TIMES = 50.0
"""Values so many times the usual ones, or such a part of them, are in another unit."""
LOW, HIGH = 1e-3, 2.0
"""Reflectances are clipped to these: what is darker or brighter says nothing about an order."""
RIDGE = 1e-4
STARTS = 30
"""Orders that exchanges begin at where the one that is given is not usual."""


@dataclass(frozen=True)
class Likeness:
    """``times`` is how many times the usual values these are; ``distance`` how far they are from what is usual, and
    ``best`` how far in the ``order`` that is nearest: band ``order[k]`` of what is given would be the k-th."""

    times: float
    distance: float
    best: float
    order: tuple[int, ...]


def fit(values: NDArray[np.floating], source: str) -> BandProfile:
    """The profile of (N, band) reflectances of one sensor and level."""
    logs = _logs(values, LOW, HIGH)
    covariance = np.cov(logs.T) + RIDGE * np.eye(logs.shape[1])
    factor = np.linalg.inv(np.linalg.cholesky(covariance))
    return BandProfile(
        center=tuple(logs.mean(axis=0).round(5).tolist()),
        factor=tuple(factor[np.tril_indices(len(factor))].round(4).tolist()),
        low=LOW,
        high=HIGH,
        pixels=len(logs),
        source=source,
    )


def likeness(profile: BandProfile, values: NDArray[np.floating]) -> Likeness:
    """Of (N, band) physical values, all finite, one row a look at a pixel."""
    size = len(profile.center)
    center, factor = np.array(profile.center), np.zeros((size, size))
    factor[np.tril_indices(size)] = profile.factor
    logs = _logs(values, profile.low, profile.high)
    precision = factor.T @ factor
    away, covariance = logs.mean(axis=0), np.cov(logs.T)

    def distances(orders: NDArray[np.int64]) -> Floats:
        d = away[orders] - center
        spread = covariance[orders[:, :, None], orders[:, None, :]]
        found: Floats = (np.einsum("ij,nij->n", precision, spread) + np.einsum("ni,ij,nj->n", d, precision, d)) / 2
        return found

    given = np.arange(size)
    first = float(distances(given[None])[0])
    nearest, best = _descend(distances, given)
    random = np.random.default_rng(0)
    for _ in range(STARTS if first >= usual(size) else 0):
        nearest, best = min((nearest, best), _descend(distances, random.permutation(size)), key=lambda found: found[0])
    dark = np.log10(np.maximum(np.median(np.abs(values), axis=0), 1e-12))  # not clipped: units lie further apart
    return Likeness(float(10 ** np.median(dark - center)), first, nearest, best)


def _descend(
    distances: Callable[[NDArray[np.int64]], Floats], order: NDArray[np.int64]
) -> tuple[float, tuple[int, ...]]:
    """The nearest order that exchanges of two bands lead to, as long as one of them helps."""
    pairs = np.array(list(combinations(range(len(order)), 2)))
    nearest = float(distances(order[None])[0])
    while len(pairs):
        tried = np.repeat(order[None], len(pairs), axis=0)
        rows = np.arange(len(pairs))
        tried[rows, pairs[:, 0]], tried[rows, pairs[:, 1]] = order[pairs[:, 1]], order[pairs[:, 0]]
        found = distances(tried)
        k = int(found.argmin())
        if found[k] >= nearest - 1e-9:
            break
        nearest, order = float(found[k]), tried[k]
    return nearest, tuple(order.tolist())


def usual(bands: int) -> float:
    """Mean distance below which pixels of so many bands are usual."""
    return UNUSUAL * bands


def other_order(found: Likeness) -> bool:
    """Whether another order of the bands is usual, and clearly nearer."""
    return found.distance - found.best > MARGIN and found.best < usual(len(found.order))


def refuse(profile: BandProfile, values: NDArray[np.floating], bands: Sequence[str]) -> str:
    """What speaks against (N, band) physical values without being sure, "" for nothing.

    Raises ModelError, naming the field, for another unit (``scale``) and another order (``bands``).
    """
    if len(values) < LOOKS:
        return ""
    found = likeness(profile, values)
    if not 1 / TIMES < found.times < TIMES:
        raise ModelError(
            f"scale: values are {found.times:.3g} times those of the training data; expected reflectance from 0 to 1 "
            "(numbers from 0 to 10000 have a scale of 0.0001)"
        )
    limit = usual(len(bands))
    if other_order(found):
        moved = [
            f"{bands[k]} holds {bands[o]}"
            for k, o in sorted(zip(found.order, range(len(bands)), strict=True))
            if k != o
        ]
        raise ModelError(f"bands: the values seem to be in another order: {', '.join(moved)}")
    if found.distance > limit:
        return (
            f"level: the bands do not relate to each other as in the training data (distance {found.distance:.0f}, "
            f"expected less than {limit:.0f}): another processing level or sensor, or clouds"
        )
    return ""


def _logs(values: NDArray[np.floating], low: float, high: float) -> Floats:
    found: Floats = np.log10(np.clip(np.asarray(values, np.float64), low, high))
    return found
