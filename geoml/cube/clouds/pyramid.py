"""A cloud as a pyramid of voxels: what PointNet++ samples, groups and interpolates between.

Qi et al. 2017, https://arxiv.org/abs/1706.02413, sample by farthest points, an order that depends on all points. Here
the samples are the centroids of voxels of a lattice that is anchored to the origin of the CRS, each twice the size of
that below it. All is counted in whole millimetres, so centroids and ties do not depend on the order of the points, and
what a point meets lies within a known distance of it whichever other points there are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

RADIUS = 1.25
"""Of a group, in voxels: the ball about a centroid covers the voxel that it is in."""
NEAREST = 3
"""Coarser voxels that a finer one is interpolated from."""
CANDIDATES = 8
"""Of these; of more than so many at one distance, as on a perfect grid, none is farther than the third."""
WEIGHT = 2.0**-8
"""Weights of the interpolation are multiples of it."""


def millimetres(*axes: Floats) -> Ints:
    """(n, axes) of coordinates in metres."""
    return np.rint(np.stack(axes, 1) * 1000).astype(np.int64)


@dataclass(frozen=True)
class PyramidShape:
    """``voxel`` is the side of the finest voxels in mm; each of the ``levels`` has twice that of the one below."""

    voxel: int
    levels: int

    def side(self, level: int) -> int:
        """Of the voxels of a level, mm; 0 is the finest."""
        return self.voxel << level

    def reach(self, features: int = 0) -> int:
        """How far along x or y, in mm, what may have a part in the answer for a point lies from it, where what is known
        of each point depends on ``features`` mm about it."""
        down = [self.side(0) + features]
        for level in range(1, self.levels):
            radius = round(RADIUS * self.side(level))
            down.append(radius + max(down[-1], self.side(level - 1)))
            down[-1] = max(down[-1], self.side(level) + features)
        up = down[-1]
        for level in range(self.levels - 1, 0, -1):
            up = max(down[level - 1], 2 * self.side(level) + max(up, self.side(level)))
        return self.side(0) + up


class Group(NamedTuple):
    """Of one level above the finest, with m voxels over f finer ones.

    Voxel j groups ``number[j]`` finer ones (m,): those in ``source`` (e,), whose places relative to its centroid are
    ``place`` (e, 3) in sides of a voxel. Finer voxel i lies between the voxels ``near[i]`` (f, 3), which have the
    weights ``weight[i]`` (f, 3).
    """

    source: Ints
    number: Ints
    place: Floats
    near: Ints
    weight: Floats


@dataclass(frozen=True, eq=False)
class Pyramid:
    """``order`` (n,) puts points into those of the finest voxels, of which voxel j holds ``count[j]`` (m,).

    ``place`` (n, 3) is that of the ordered points relative to the centroid of their voxel, in sides of it.
    """

    order: Ints
    count: Ints
    place: Floats
    groups: tuple[Group, ...]


def pyramid(points: Ints, shape: PyramidShape) -> Pyramid:
    """Of ``points`` (n, 3), mm from the origin of the CRS and of heights; at least one."""
    order, count, centroids = voxels(points, shape.side(0))
    ordered = points[order]
    place = (ordered - np.repeat(centroids, count, 0)) / shape.side(0)
    groups = []
    for level in range(1, shape.levels):
        side = shape.side(level)
        _, _, coarse = voxels(centroids, side)
        source, number, relative = grouped(coarse, centroids, round(RADIUS * side))
        near, weight = between(centroids, coarse, 2 * side)
        groups.append(Group(source, number, relative / side, near, weight))
        centroids = coarse
    return Pyramid(order, count, place, tuple(groups))


def voxels(points: Ints, side: int) -> tuple[Ints, Ints, Ints]:
    """Points (n, 3) by the voxels of ``side`` mm: an order (n,), how many are in each voxel (m,), centroids (m, 3)."""
    cell = np.floor_divide(points, side)
    cell -= cell.min(0)
    x, y, z = cell.T
    key = (x * (int(y.max()) + 1) + y) * (int(z.max()) + 1) + z
    order = np.argsort(key, kind="stable")
    ordered = key[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    count = np.diff(starts, append=len(key))
    return order, count, np.floor_divide(np.add.reduceat(points[order], starts, axis=0), count[:, None])


def grouped(centres: Ints, points: Ints, radius: int) -> tuple[Ints, Ints, Ints]:
    """Which ``points`` lie at most ``radius`` mm from each of the ``centres`` (m, 3).

    Their indices centre by centre (e,), how many each centre has (m,), and where they lie from it (e, 3) in mm.
    """
    origin = points.min(0)
    trees = [cKDTree((which - origin).astype(np.float64)) for which in (centres, points)]
    pairs = trees[0].sparse_distance_matrix(trees[1], radius + 1.0, output_type="ndarray")
    centre, source = pairs["i"].astype(np.int64), pairs["j"].astype(np.int64)
    relative = points[source] - centres[centre]
    kept = (relative * relative).sum(1) <= radius * radius
    by_centre = np.flatnonzero(kept)[np.argsort(centre[kept], kind="stable")]
    return source[by_centre], np.bincount(centre[by_centre], minlength=len(centres)), relative[by_centre]


def between(points: Ints, centres: Ints, most: int) -> tuple[Ints, Floats]:
    """The `NEAREST` of the ``centres`` to each of the ``points``, at most ``most`` mm away, and their weights (n, 3).

    Weights fall with the square of the distance; ties go by the coordinates. One centre at least is so near.
    """
    origin = points.min(0)
    rank = np.lexsort(centres.T)
    ranked = centres[rank]
    tree = cKDTree((ranked - origin).astype(np.float64))
    many = min(CANDIDATES, len(centres))
    _, found = tree.query(
        (points - origin).astype(np.float64), k=[*range(1, many + 1)], distance_upper_bound=most + 1.0
    )
    none = found == len(ranked)
    relative = ranked[np.where(none, 0, found)] - points[:, None]
    square = (relative * relative).sum(2)
    far = none | (square > most * most)
    key = np.where(far, np.iinfo(np.int64).max, square * len(ranked) + found)
    key.sort(axis=1)
    key = key[:, :NEAREST]
    far = key == np.iinfo(np.int64).max
    first = key[:, :1] % len(ranked)
    weight = np.where(far, 0.0, 1 / (np.where(far, 0, key) // len(ranked) + 1.0))
    weight /= weight.sum(1, keepdims=True)
    near = rank[np.where(far, first, key % len(ranked))]
    missing = NEAREST - near.shape[1]  # fewer centres than that in all
    near = np.concatenate([near, np.repeat(near[:, :1], missing, 1)], 1)
    return near, np.rint(np.pad(weight, ((0, 0), (0, missing))) / WEIGHT) * WEIGHT
