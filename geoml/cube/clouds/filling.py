"""Holes of a surface filled from around, as far as a stated number of cells and no farther (push-pull).

Gortler, Grzeszczuk, Szeliski and Cohen 1996, "The Lumigraph", section 3.6: means over ever larger cells, then down
again where there is nothing. The cells lie on the lattice of the CRS, so a window fills as the whole does.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoml.cube.clouds.morphology import Surface


def reach(levels: int) -> int:
    """Cells from which a cell may take its value."""
    return int(3 * 2**levels)


def filled(z: Surface, levels: int) -> Surface:
    """(y, x) ``z`` (y, x) with its NaN filled where values are near; the rest stays NaN.

    Both sizes are multiples of ``2**levels``, and so are the first row and column on the lattice of the CRS.
    """
    pyramid = [z]
    for _ in range(levels):
        pyramid.append(_mean(pyramid[-1]))
    out = pyramid.pop()
    for finer in reversed(pyramid):
        out = np.where(np.isnan(finer), _refined(out), finer)
    return out


def _mean(z: Surface) -> Surface:
    """Means of 2 x 2 cells, of those that are not NaN."""
    known = ~np.isnan(z)
    parts = np.where(known, z, np.float32(0))
    count = _quartered(known.astype(np.int64))
    total = _quartered(parts)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan).astype(np.float32)


def _quartered(a: NDArray[Any]) -> NDArray[Any]:
    return np.asarray((a[::2, ::2] + a[::2, 1::2]) + (a[1::2, ::2] + a[1::2, 1::2]))


def _refined(z: Surface) -> Surface:
    """Bilinear between the centres of cells twice as wide, of those that are not NaN."""
    known = ~np.isnan(z)
    weight = _doubled(_doubled(known.astype(np.float32)).T).T
    total = _doubled(_doubled(np.where(known, z, np.float32(0))).T).T
    out = np.full(total.shape, np.nan, np.float32)
    np.divide(total, weight, out=out, where=weight > 0)
    return out


def _doubled(a: Surface) -> Surface:
    """Twice as many rows, three parts of the nearer and one of the next, nothing beyond the edge."""
    none = np.zeros_like(a[:1])
    out = np.empty((2 * len(a), *a.shape[1:]), np.float32)
    own = np.float32(0.75) * a
    out[::2] = own + np.float32(0.25) * np.concatenate([none, a[:-1]])
    out[1::2] = own + np.float32(0.25) * np.concatenate([a[1:], none])
    return out
