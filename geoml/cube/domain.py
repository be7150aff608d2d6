"""How like the training data a pixel is: the density of a mixture of Gaussians over the bands of one date.

A joint density sees what the bands show apart cannot: the same reds and greens in another combination. The mixture is
fitted by expectation maximisation (Dempster et al. 1977) in a robust space; held-out pixels of the same training data
say how low the density of what is known may be.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoml.io.cards.domain import LEVELS, NODATA, OUTSIDE, STEPS, Domain

Floats = NDArray[np.float64]

COMPONENTS = 4
MANY = 32
"""Bands above which there is one component: a triangle of 218 bands has 24,000 numbers, each a sum for every pixel."""
LEVEL = 0.01
"""Share of the held-out pixels that count as unlike."""
PIXELS = 10_000
"""Pixels that the mixture is fitted on at most."""
FLOOR = 1e-3
"""Least variance of a component in every direction, in squares of a band's spread."""
ROUNDS, ENOUGH = 40, 1e-4
CHUNK = 1 << 16
"""Pixels that are compared at once, so that what they need stays in the cache."""
DIGITS = 6
"""Significant digits of a record's numbers."""


def fit(train: NDArray[np.floating], held_out: NDArray[np.floating], **about: Any) -> Domain:
    """The record of (N, band) training and (M, band) held-out pixels in physical values; ``about``: its other fields.

    `PIXELS` evenly spaced rows are fitted at most, and the same rows give the same record.
    """
    train, held_out = (np.asarray(v, np.float64) for v in (train, held_out))
    center = np.median(train, axis=0)
    low, high = np.percentile(train, (25, 75), axis=0)
    wide = train.std(axis=0)
    spread = np.where(high > low, (high - low) / 1.349, np.where(wide > 0, wide, 1.0))
    z = (train - center) / spread
    weights, means, covariances = _mixture(z[:: max(1, -(-len(z) // PIXELS))])
    factors = np.linalg.inv(np.linalg.cholesky(covariances))
    size = len(center)
    diagonal = np.diagonal(factors, axis1=1, axis2=2)
    constants = np.log(weights) + np.log(diagonal).sum(axis=1) - size / 2 * np.log(2 * np.pi)
    rows, cols = np.tril_indices(size)
    domain = Domain(
        quantiles=_rows(np.quantile(train, LEVELS, axis=0).T),
        magnitude=_row(magnitude(train)),
        center=_row(center),
        spread=_row(spread),
        constants=_row(constants),
        factors=_rows(factors[:, rows, cols]),
        shifts=_rows(np.einsum("kij,kj->ki", factors, means)),
        middle=0.0,
        threshold=-1.0,
        level=LEVEL,
        pixels=len(train),
        held_out=len(held_out),
        **about,
    )
    density = log_density(domain, held_out.T)
    low, middle = (float(v) for v in np.quantile(density, (LEVEL, 0.5)))
    return domain.model_copy(update={"middle": _round(middle), "threshold": _round(min(low, middle - 0.1))})


def magnitude(pixels: NDArray[np.floating]) -> Floats:
    """(band,) the third quartile of the absolute values of (N, band) pixels."""
    found: Floats = np.quantile(np.abs(pixels), 0.75, axis=0)
    return found


def log_density(
    domain: Domain, data: NDArray[np.number], scale: Sequence[float] = (), offset: Sequence[float] = ()
) -> NDArray[np.float32]:
    """float32 (…) of the likeliest component for (band, …) stored numbers; physical = stored * scale + offset.

    Only element-wise sums, in one order: a pixel gets the same number wherever its block was cut.
    """
    size = len(domain.center)
    spread = np.array(domain.spread)
    mul = (np.array(scale or [1.0] * size) / spread).astype(np.float32)
    add = ((np.array(offset or [0.0] * size) - np.array(domain.center)) / spread).astype(np.float32)
    z = [np.multiply(data[b], mul[b], dtype=np.float32, casting="unsafe") + add[b] for b in range(size)]
    best = np.full(data.shape[1:], -np.inf, np.float32)
    for constant, triangle, shift in zip(domain.constants, domain.factors, domain.shifts, strict=True):
        entries = iter(np.array(triangle, np.float32))
        total = np.zeros(data.shape[1:], np.float32)
        for i in range(size):
            far = z[0] * next(entries)
            for j in range(1, i + 1):
                far += z[j] * next(entries)
            far -= np.float32(shift[i])
            far *= far
            total += far
        total *= np.float32(-0.5)
        total += np.float32(constant)
        np.fmax(best, total, out=best)
    return best


def likeness(
    domain: Domain,
    data: NDArray[np.number],
    valid: NDArray[np.bool_],
    scale: Sequence[float],
    offset: Sequence[float],
    looks: NDArray[np.bool_] | None = None,
) -> NDArray[np.uint8]:
    """(y, x) uint8 of (date * band, y, x) stored numbers: of the least like date; `NODATA` where not ``valid``.

    Of a series a date counts where ``looks`` (date, y, x) has one.
    `STEPS` is a density of the median held-out pixel or above, `OUTSIDE` the threshold, 0 as far below it again.
    """
    size = len(domain.center)
    out = np.full(valid.shape, STEPS, np.uint8)
    known = np.flatnonzero(valid.any(axis=0))
    cols = slice(known[0], known[-1] + 1) if len(known) else slice(0, 0)
    rows = max(1, CHUNK // max(1, cols.stop - cols.start))
    gain = np.float32(OUTSIDE / (domain.middle - domain.threshold))
    with np.errstate(over="ignore", invalid="ignore"):  # of numbers beyond all reason
        for start in range(0, valid.shape[0], rows):
            part = slice(start, start + rows), cols
            if not valid[part].any():
                continue
            for date, first in enumerate(range(0, len(data), size)):
                bands = slice(first, first + size)
                found = log_density(domain, data[(bands, *part)], scale[bands], offset[bands])
                found -= np.float32(domain.threshold)
                found *= gain
                found += OUTSIDE
                stored = np.nan_to_num(found, nan=0.0, posinf=0.0).clip(0, STEPS).astype(np.uint8)
                np.minimum(out[part], stored, out=out[part], where=True if looks is None else looks[(date, *part)])
    return np.where(valid, out, np.uint8(NODATA))


def _mixture(z: Floats) -> tuple[Floats, Floats, Floats]:
    """Weights (K,), means (K, d) and covariances (K, d, d) of (N, d) points by expectation maximisation."""
    count, size = z.shape
    means = _apart(z, min(COMPONENTS if size <= MANY else 1, count))
    covariances = np.stack([np.cov(z.T, bias=True).reshape(size, size) + FLOOR * np.eye(size)] * len(means))
    weights = np.full(len(means), 1 / len(means))
    before = -np.inf
    for _ in range(ROUNDS):
        each = np.empty((count, len(means)))
        for k, (mean, covariance) in enumerate(zip(means, covariances, strict=True)):
            factor = np.linalg.inv(np.linalg.cholesky(covariance))
            each[:, k] = np.log(weights[k]) + np.log(np.diagonal(factor)).sum()
            each[:, k] -= (((z - mean) @ factor.T) ** 2).sum(axis=1) / 2
        whole = np.logaddexp.reduce(each, axis=1)
        share = np.exp(each - whole[:, None])
        mass = share.sum(axis=0) + 1e-9
        weights, means = mass / mass.sum(), share.T @ z / mass[:, None]
        for k in range(len(means)):
            apart = z - means[k]
            covariances[k] = (apart * share[:, [k]]).T @ apart / mass[k] + FLOOR * np.eye(size)
        if whole.mean() - before < ENOUGH:
            break
        before = float(whole.mean())
    return weights, means, covariances


def _apart(z: Floats, count: int) -> Floats:
    """``count`` of the points (N, d), far from each other: k-means++ (Arthur and Vassilvitskii 2007)."""
    random = np.random.default_rng(0)
    chosen = [z[random.integers(len(z))]]
    far = ((z - chosen[0]) ** 2).sum(axis=1)
    for _ in range(count - 1):
        chosen.append(z[min(np.searchsorted(np.cumsum(far), random.random() * far.sum()), len(z) - 1)])
        far = np.minimum(far, ((z - chosen[-1]) ** 2).sum(axis=1))
    return np.array(chosen)


def _round(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


def _row(values: NDArray[np.floating]) -> tuple[float, ...]:
    return tuple(_round(v) for v in values.tolist())


def _rows(values: NDArray[np.floating]) -> tuple[tuple[float, ...], ...]:
    return tuple(_row(v) for v in values)
