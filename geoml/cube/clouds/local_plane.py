"""Heights at cell centres where points lie all around: a plane by least squares through those of the cell itself.

Where these are too few or aside, through 3 x 3 and then 5 x 5 cells, with binomial weights. Where points are dense and
ground is smooth this is as near to points that were left out as a triangulation is, and several times faster;
docs/elevation.md has both.
"""

from __future__ import annotations

import numpy as np

from geoml.cube.clouds.cells import Floats, Ints
from geoml.grid.plane import Plane, Window

REACH = 2
"""Cells around one whose points decide it."""
LEAST = (4.0, 8.0, 64.0)
"""Sum of weights in the cell itself, in nine and in 25, where the cell has 1, 4 and 36 of 1, 16 and 256."""
FLATTEST = (0.0015, 0.02, 0.2)
"""Determinant of the points' covariance, cells to the fourth; 0.007, 0.34 and 1.2 where even, 0 on a line."""
ROUGHEST = (0.15, 0.05, 0.05)
"""Metres, the root mean square from the plane: where ground bends more, the points themselves decide."""
STRIP = 48
"""Rows that are worked on together."""
FARTHEST = 1.0
"""Deviations of the points' scatter that their middle may lie from the centre."""


def fitted(cell: Ints, x: Floats, y: Floats, z: Floats, plane: Plane, window: Window) -> Floats:
    """(y, x) heights at the window's cell centres, NaN where its points, of cells ``cell`` (n,), are no such plane.

    The points of a cell are added up in the order that they come in. Wrong in the outermost cells of the window.
    """
    inside = cell >= 0
    cell, x, y, z = cell[inside], x[inside], y[inside], z[inside]
    height, width = window.shape
    u = x / plane.res - plane.anchor - 0.5 - (window.x0 + cell % width)
    v = -y / plane.res - plane.anchor - 0.5 - (window.y0 + cell // width)
    values = (None, u, v, u * u, u * v, v * v, z, u * z, v * z, z * z)
    sums = [np.bincount(cell, a, height * width).reshape(height, width).astype(np.float64) for a in values]
    out = _centre(sums, 0)
    for first in range(0, height, STRIP):  # what a processor's cache holds
        lo, hi = max(first - REACH, 0), min(first + STRIP + REACH, height)
        own = slice(first - lo, first - lo + STRIP)
        part = [a[lo:hi] for a in sums]
        here = out[first : first + STRIP]
        for ring in (1, 2):
            part = _gathered(_gathered(part, 1), 0)
            here[:] = np.where(np.isnan(here), _centre([a[own] for a in part], ring), here)
    return out


def _centre(sums: list[Floats], ring: int) -> Floats:
    """The plane of these moments at u = v = 0, NaN where the points do not surround it."""
    n, su, sv, suu, suv, svv, sz, suz, svz, szz = sums
    with np.errstate(divide="ignore", invalid="ignore"):
        mu, mv, mz = su / n, sv / n, sz / n
        uu, uv, vv = suu / n - mu * mu, suv / n - mu * mv, svv / n - mv * mv
        uz, vz = suz / n - mu * mz, svz / n - mv * mz
        det = uu * vv - uv * uv
        aside = (mu * mu * vv - 2 * mu * mv * uv + mv * mv * uu) / det
        east, south = (uz * vv - vz * uv) / det, (vz * uu - uz * uv) / det
        at = mz - (mu * east + mv * south)
        rough = szz / n - mz * mz - (east * uz + south * vz)
        good = (n >= LEAST[ring]) & (det >= FLATTEST[ring]) & (aside <= FARTHEST**2)
        good &= rough <= ROUGHEST[ring] ** 2
    return np.where(good, at, np.nan)


def _gathered(sums: list[Floats], axis: int) -> list[Floats]:
    """Sums over three cells along an axis, about the middle one: moments of n, u, v, uu, uv, vv, z, uz, vz, zz."""
    n, u, v, uu, uv, vv, z, uz, vz, zz = sums
    if axis == 0:  # v is along the rows: the same with the two exchanged
        n, v, u, vv, uv, uu, z, vz, uz, zz = _gathered([a.T for a in (n, v, u, vv, uv, uu, z, vz, uz, zz)], 1)
        return [a.T for a in (n, u, v, uu, uv, vv, z, uz, vz, zz)]
    return [
        _smooth(n),
        _smooth(u) + _beside(n, -1),
        _smooth(v),
        _smooth(uu) + 2 * _beside(u, -1) + _beside(n, 1),
        _smooth(uv) + _beside(v, -1),
        _smooth(vv),
        _smooth(z),
        _smooth(uz) + _beside(z, -1),
        _smooth(vz),
        _smooth(zz),
    ]


def _smooth(a: Floats) -> Floats:
    out = 2 * a
    out[:, :-1] += a[:, 1:]
    out[:, 1:] += a[:, :-1]
    return out


def _beside(a: Floats, sign: int) -> Floats:
    """What the next column holds and, plus or minus, the last; 0 beyond the window."""
    out = np.zeros_like(a)
    out[:, :-1] = a[:, 1:]
    out[:, 1:] += sign * a[:, :-1]
    return out
