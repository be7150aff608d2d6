"""Linear surfaces over a Delaunay triangulation that are the same bytes in any window.

A Delaunay triangle is one whose circumscribed circle holds no other point. One of a circle of at most ``reach`` metres
is therefore decided by the points within twice as far, so a window that was read with that much around it has exactly
the small triangles of the whole cloud; larger ones are dropped, which is also the rule of what is void. Points of
one circle, of which grids are full, are told apart by a shift below an eighth of a millimetre that comes from a hash of
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


@dataclass(frozen=True, eq=False)
class Tin:
    """Points ``x`` and ``y`` (n,) in units of which `METRE` make one, from the origin of the CRS, and ``z`` (n,).

    Points are sorted by y; ``triangles`` (m, 3) are their numbers, ascending.
    """

    x: Ints
    y: Ints
    z: Floats
    triangles: Ints


def triangulated(x: Floats, y: Floats, z: Floats, reach: float, of: np.ufunc = np.minimum) -> Tin:
    """The triangles of circumradius up to ``reach`` metres among points (n,), given in metres of the CRS.

    Of points at one place the lowest counts, or the highest by ``of=np.maximum``. Fewer than three places have no
    triangle. Raises MissingExtra if startinpy is not installed.
    """
    if not len(z):
        return Tin(np.zeros(0, np.int64), np.zeros(0, np.int64), z, np.empty((0, 3), np.int64))
    across, up = np.rint(x / GRAIN).astype(np.int64), np.rint(y / GRAIN).astype(np.int64)
    left, low = across.min(), up.min()
    key = (up - low << 32) + (across - left)
    order = np.argsort(key, kind="stable")
    key = key[order]
    first = np.flatnonzero(np.concatenate([[True], key[1:] != key[:-1]]))
    z = of.reduceat(z[order], first)
    across, up = (key[first] & 0xFFFFFFFF) + left, (key[first] >> 32) + low
    shift = place_hash(across, up)
    px = across * FINE + (shift & (FINE // 2 - 1)).astype(np.int64)
    py = up * FINE + (shift >> np.uint64(32) & (FINE // 2 - 1)).astype(np.int64)
    order = np.argsort(py, kind="stable")
    px, py, z = px[order], py[order], z[order]
    triangles = np.sort(_delaunay(px, py), axis=1)
    return Tin(px, py, z, triangles[_small(px, py, triangles, reach)])


def sampled(tin: Tin, plane: Plane, window: Window, wanted: Flags | None = None) -> Floats:
    """(y, x) heights at the centres of a window's cells, NaN outside all triangles and where not ``wanted`` (y, x).

    Where edges cross a row of centres is worked out from the edge alone, so neighbours share none and leave none out.
    """
    height, width = window.shape
    out = np.full(height * width, np.nan)
    p = tin.x / METRE / plane.res - 0.5 - plane.anchor  # columns and rows of the CRS, whole at centres
    q = -tin.y / METRE / plane.res - 0.5 - plane.anchor
    above = np.floor(q).astype(np.int64)
    low, mid, top = tin.triangles.T  # by y
    start = np.maximum(above[top] + 1, window.y0)
    rows = np.minimum(above[low] + 1, window.y1) - start
    kept = np.flatnonzero((rows > 0) & (p[tin.triangles].max(axis=1) >= window.x0) if len(rows) else rows > 0)
    low, mid, top, start, rows = low[kept], mid[kept], top[kept], start[kept], rows[kept]
    east, south = _gradient(p, q, tin.z, low, mid, top)
    t, row = _runs(start, rows)
    one = _crossing(p, q, top[t], low[t], row)
    upper = row <= above[mid[t]]
    two = _crossing(p, q, np.where(upper, top[t], mid[t]), np.where(upper, mid[t], low[t]), row)
    begin = np.maximum(np.ceil(np.minimum(one, two)).astype(np.int64), window.x0)
    cols = np.minimum(np.ceil(np.maximum(one, two)).astype(np.int64), window.x1) - begin
    some = np.flatnonzero(cols > 0)
    run, col = _runs(begin[some], cols[some])
    t, row = t[some][run], row[some][run]
    at = (row - window.y0) * width + (col - window.x0)
    if wanted is not None:
        asked = np.flatnonzero(wanted.ravel()[at])
        at, t, row, col = at[asked], t[asked], row[asked], col[asked]
    a = low[t]
    out[at] = tin.z[a] + east[t] * (col - p[a]) + south[t] * (row - q[a])
    return out.reshape(window.shape)


def _runs(start: Ints, length: Ints) -> tuple[Ints, Ints]:
    """The numbers of runs, each as often as it is long, and the whole numbers from its start on."""
    run = np.repeat(np.arange(len(length)), length)
    ends = np.cumsum(length)
    return run, np.arange(len(run)) + np.repeat(start - (ends - length), length)


def _crossing(p: Floats, q: Floats, top: Ints, low: Ints, row: Ints) -> Floats:
    """The column at which edges (n,) cross rows (n,)."""
    return np.asarray(p[top] + (row - q[top]) * ((p[low] - p[top]) / (q[low] - q[top])))


def _gradient(p: Floats, q: Floats, z: Floats, a: Ints, b: Ints, c: Ints) -> tuple[Floats, Floats]:
    """Metres of height a column and a row, of triangles (n,)."""
    bp, bq, bz = p[b] - p[a], q[b] - q[a], z[b] - z[a]
    cp, cq, cz = p[c] - p[a], q[c] - q[a], z[c] - z[a]
    det = bp * cq - cp * bq
    return (bz * cq - cz * bq) / det, (bp * cz - cp * bz) / det


def _small(x: Ints, y: Ints, triangles: Ints, reach: float) -> Flags:
    """(m,) whether the circumradius is at most ``reach`` metres."""
    a, b, c = triangles.T
    bx, by = (x[b] - x[a]) / METRE, (y[b] - y[a]) / METRE
    cx, cy = (x[c] - x[a]) / METRE, (y[c] - y[a]) / METRE
    sides = (bx * bx + by * by) * (cx * cx + cy * cy) * ((bx - cx) ** 2 + (by - cy) ** 2)
    return np.asarray(sides <= (2 * reach * (bx * cy - cx * by)) ** 2)


def _delaunay(x: Ints, y: Ints) -> Ints:
    """(m, 3) triangles among distinct points of whole units, about an origin among them."""
    if len(x) < 3:
        return np.empty((0, 3), np.int64)
    try:
        import startinpy
    except ImportError:
        raise MissingExtra("surfaces through points: startinpy is not installed; pip install 'geoml[points]'") from None
    place = np.zeros((len(x), 3))  # exact: whole units of less than 2**53
    place[:, 0], place[:, 1] = (x - x.min()) / METRE, (y - y.min()) / METRE
    order = _insertion(place[:, 0], place[:, 1], place_hash(x, y))
    tin = startinpy.DT()
    tin.snap_tolerance = 0.25 / METRE
    tin.insert(place[order])
    if tin.number_of_triangles() == 0:
        return np.empty((0, 3), np.int64)
    triangles: Ints = np.concatenate([[-1], order])[tin.triangles]  # its vertex 0 is the one at infinity
    return triangles


def _insertion(x: Floats, y: Floats, chance: NDArray[np.uint64]) -> Ints:
    """An order in rounds by chance, each twice as large as the one before, along strips there and back in each.

    Amenta, Choi and Rote 2003, "Incremental constructions con BRIO": points lie near the one before, and none is
    put into large triangles more than a few times.
    """
    bit = chance & (~chance + np.uint64(1))  # the lowest that is set: 1 of every second, 2 of every fourth, ...
    late = np.log2(np.maximum(bit, np.uint64(1)).astype(np.float64))
    width, height = float(x.max()) + 1.0, float(y.max()) + 1.0
    row = np.floor(y / (2.0 * np.sqrt(width * height / len(x) * 2.0**late)))
    along = row * width + np.where(row % 2 == 0, x, width - x)
    return np.lexsort((along, -late))


def place_hash(x: Ints, y: Ints) -> NDArray[np.uint64]:
    """(n,) 64 bits of each place (the finaliser of SplitMix64, Steele et al. 2014)."""
    h = x.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + y.astype(np.uint64) * np.uint64(0xC2B2AE3D27D4EB4F)
    h = (h ^ h >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    h = (h ^ h >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return np.asarray(h ^ h >> np.uint64(31))
