"""Linear surfaces over a Delaunay triangulation that are the same bytes in any window.

A Delaunay triangle is one whose circumscribed circle holds no other point. One of a circle of at most ``reach`` metres
is therefore decided by the points within twice as far, so a window that was read with that much around it has exactly
the small triangles of the whole cloud; larger ones are dropped, which is also the rule of what is void. Points of
one circle, of which grids are full, are told apart by a shift below a quarter of a millimetre that comes from a hash of
their coordinates. Triangles are of startinpy (MIT), whose predicates are exact.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geoml.cube.clouds.cells import Flags, Floats, Ints
from geoml.errors import MissingExtra
from geoml.grid.plane import Plane, Window

GRAIN = 2.0**-12
"""Metres to which coordinates are rounded."""
FINE = 4096
"""Units of a grain; a shift takes up to half of them."""
METRE = FINE / GRAIN
SLACK = 1e-9
"""How far outside a triangle, in its own coordinates, a cell centre still belongs to it, so that none falls between."""
CANDIDATES = 2_000_000
"""Pairs of triangle and cell that are looked at together."""


@dataclass(frozen=True, eq=False)
class Tin:
    """Points ``x`` and ``y`` (n,) in `METRE` units from the origin of the CRS, ``z`` (n,), ``triangles`` (m, 3)."""

    x: Ints
    y: Ints
    z: Floats
    triangles: Ints


def triangulated(x: Floats, y: Floats, z: Floats, reach: float, highest: bool = False) -> Tin:
    """The triangles of circumradius up to ``reach`` metres among points (n,), given in metres of the CRS.

    Of points at one place the lowest or the highest counts. Fewer than three places have no triangle. Raises
    MissingExtra where startinpy is not installed.
    """
    across, up = np.rint(x / GRAIN).astype(np.int64), np.rint(y / GRAIN).astype(np.int64)
    order = np.lexsort((-z if highest else z, across, up))
    across, up, z = across[order], up[order], z[order]
    first = np.ones(len(z), bool)
    first[1:] = (np.diff(across) != 0) | (np.diff(up) != 0)
    across, up, z = across[first], up[first], z[first]
    shift = _hash(across, up)
    px = across * FINE + (shift & (FINE // 2 - 1)).astype(np.int64)
    py = up * FINE + (shift >> np.uint64(32) & (FINE // 2 - 1)).astype(np.int64)
    triangles = _delaunay(px, py)
    # the first by place of a triangle's points is what it is interpolated from, whatever the window
    triangles = np.sort(triangles, axis=1)
    return Tin(px, py, z, triangles[_small(px, py, triangles, reach)])


def sampled(tin: Tin, plane: Plane, window: Window, wanted: Flags | None = None) -> Floats:
    """(y, x) heights at the centres of a window's cells, NaN outside all triangles and where not ``wanted`` (y, x)."""
    height, width = window.shape
    out = np.full(height * width, np.nan)
    cx = np.rint((np.arange(window.x0, window.x1) + 0.5 + plane.anchor) * plane.res * METRE).astype(np.int64)
    cy = np.rint(-(np.arange(window.y0, window.y1) + 0.5 + plane.anchor) * plane.res * METRE).astype(np.int64)
    if not len(tin.triangles) or window.empty:
        return out.reshape(window.shape)
    a, b, c = tin.triangles.T
    step = plane.res * METRE
    left = np.minimum(np.minimum(tin.x[a], tin.x[b]), tin.x[c])
    right = np.maximum(np.maximum(tin.x[a], tin.x[b]), tin.x[c])
    low = np.minimum(np.minimum(tin.y[a], tin.y[b]), tin.y[c])
    top = np.maximum(np.maximum(tin.y[a], tin.y[b]), tin.y[c])
    tiny = 1e-6
    c0 = np.clip(np.ceil((left - cx[0]) / step - tiny), 0, width).astype(np.int64)
    c1 = np.clip(np.floor((right - cx[0]) / step + tiny) + 1, 0, width).astype(np.int64)
    r0 = np.clip(np.ceil((cy[0] - top) / step - tiny), 0, height).astype(np.int64)
    r1 = np.clip(np.floor((cy[0] - low) / step + tiny) + 1, 0, height).astype(np.int64)
    pairs = np.maximum(c1 - c0, 0) * np.maximum(r1 - r0, 0)
    some = np.flatnonzero(pairs)
    ends = np.cumsum(pairs[some])
    for start, stop in _parts(ends):
        chosen = some[start:stop]
        n = pairs[chosen]
        t = np.repeat(chosen, n)
        k = np.arange(len(t)) - np.repeat(np.cumsum(n) - n, n)
        wide = (c1 - c0)[t]
        row = r0[t] + k // wide
        col = c0[t] + k % wide
        if wanted is not None:
            asked = wanted[row, col]
            t, row, col = t[asked], row[asked], col[asked]
        z, inside = _interpolated(tin, t, cx[col], cy[row])
        np.fmin.at(out, (row * width + col)[inside], z[inside])  # on an edge the lower of two: no order matters
    return out.reshape(window.shape)


def _parts(ends: Ints) -> list[tuple[int, int]]:
    """Runs of at most `CANDIDATES` pairs, or of one triangle, by the running count of pairs."""
    parts, start = [], 0
    while start < len(ends):
        done = int(ends[start - 1]) if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, done + CANDIDATES, side="right")))
        parts.append((start, stop))
        start = stop
    return parts


def _interpolated(tin: Tin, t: Ints, cx: Ints, cy: Ints) -> tuple[Floats, Flags]:
    """Heights at places (n,) of the planes of triangles ``t`` (n,), and whether the place lies in it."""
    a, b, c = tin.triangles[t].T
    bx, by = (tin.x[b] - tin.x[a]).astype(float), (tin.y[b] - tin.y[a]).astype(float)
    ex, ey = (tin.x[c] - tin.x[a]).astype(float), (tin.y[c] - tin.y[a]).astype(float)
    px, py = (cx - tin.x[a]).astype(float), (cy - tin.y[a]).astype(float)
    det = bx * ey - ex * by
    second = (px * ey - py * ex) / det
    third = (py * bx - px * by) / det
    inside = (second >= -SLACK) & (third >= -SLACK) & (second + third <= 1 + SLACK)
    return tin.z[a] + second * (tin.z[b] - tin.z[a]) + third * (tin.z[c] - tin.z[a]), inside


def _small(x: Ints, y: Ints, triangles: Ints, reach: float) -> Flags:
    """(m,) whether the circumradius is at most ``reach`` metres."""
    a, b, c = triangles.T
    bx, by = (x[b] - x[a]) / METRE, (y[b] - y[a]) / METRE
    cx, cy = (x[c] - x[a]) / METRE, (y[c] - y[a]) / METRE
    opposite = (bx - cx) ** 2 + (by - cy) ** 2
    sides = (bx * bx + by * by) * (cx * cx + cy * cy) * opposite
    return np.asarray(sides <= (2 * reach * (bx * cy - cx * by)) ** 2)


def _delaunay(x: Ints, y: Ints) -> Ints:
    """(m, 3) triangles among distinct points of whole units, about an origin among them."""
    if len(x) < 3:
        return np.empty((0, 3), np.int64)
    try:
        import startinpy
    except ImportError:
        raise MissingExtra("surfaces through points need startinpy: pip install 'geoml[points]'") from None
    px, py = (x - x.min()) / METRE, (y - y.min()) / METRE  # exact: whole units of less than 2**53
    order = _boustrophedon(px, py)
    tin = startinpy.DT()
    tin.snap_tolerance = 0.25 / METRE
    tin.insert(np.column_stack([px[order], py[order], np.zeros(len(px))]))
    if tin.number_of_triangles() == 0:
        return np.empty((0, 3), np.int64)
    triangles: Ints = order[tin.triangles.astype(np.int64) - 1]  # its vertex 0 is the one at infinity
    return triangles


def _boustrophedon(x: Floats, y: Floats) -> Ints:
    """An order along strips of some points across, there and back: each point lies near the one before."""
    strip = 2.0 * np.sqrt(max(np.ptp(x) * np.ptp(y), 1e-12) / len(x))
    row = np.floor(y / strip).astype(np.int64)
    return np.lexsort((np.where(row % 2 == 0, x, -x), row))


def _hash(x: Ints, y: Ints) -> NDArray[np.uint64]:
    """(n,) 64 bits of each place (the finaliser of SplitMix64, Steele et al. 2014)."""
    h = x.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + y.astype(np.uint64) * np.uint64(0xC2B2AE3D27D4EB4F)
    h = (h ^ h >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    h = (h ^ h >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return np.asarray(h ^ h >> np.uint64(31))
