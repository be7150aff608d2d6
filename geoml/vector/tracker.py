"""Which detection is which earlier object: what moves keeps its id.

A thing moves at a velocity that wanders, as a Kalman filter in continuous time sees it (white noise of acceleration,
Bar-Shalom, Li and Kirubarajan 2001, section 6.2.1), so what is expected does not depend on how finely time is cut.
Detections go to the things that expect them, one to one, by the Hungarian method on the negative log likelihood of
place and size; those that are sure first, then the others for what is left, which begin nothing (ByteTrack,
https://arxiv.org/abs/2110.06864). Lengths are metres, times seconds: nothing here is a pixel or a frame.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse
import scipy.sparse.csgraph
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.spatial import cKDTree

from geoml.errors import InputError
from geoml.vector.motion import Motion

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """Detections of a moment: ``centre`` (n, 2) and ``size`` (n, 2) along two axes in metres, ``sure`` (n,) bool,
    False of what may continue a thing and begins none, ``kind`` (n,) their class."""

    centre: Floats
    size: Floats
    sure: NDArray[np.bool_]
    kind: Ints

    def __post_init__(self) -> None:
        rows = len(self.centre)
        shapes = [self.centre.shape, self.size.shape, self.sure.shape, self.kind.shape]
        if self.sure.dtype != np.bool_:
            raise InputError(f"sure: {self.sure.dtype}; expected True or False for each detection")
        if shapes != [(rows, 2), (rows, 2), (rows,), (rows,)]:
            raise InputError(f"detections: shapes {shapes}; expected (n, 2), (n, 2), (n,), (n,)")
        if not (np.isfinite(self.centre).all() and np.isfinite(self.size).all()):
            raise InputError("detections: not finite; expected numbers")
        if (self.size <= 0).any():
            raise InputError("detections: a size is not above 0; expected metres")


class Tracker:
    """Takes the moments of a sequence in their order and gives each detection its id, from 1 on.

    Memory is that of the things that are waited for.
    """

    def __init__(self, motion: Motion | None = None) -> None:
        self.motion = motion or Motion()
        self.count = 0
        """Ids that were given."""
        self._time = -np.inf
        self._id, self._kind = np.zeros(0, np.int64), np.zeros(0, np.int64)
        self._place, self._velocity, self._size = (np.zeros((0, 2)) for _ in range(3))
        self._spread = np.zeros((0, 3))
        """Variances along an axis: of the place, of place and velocity together, of the velocity."""
        self._last = np.zeros(0)

    @property
    def waiting(self) -> Ints:
        """(m,) ids that may still be seen again."""
        return self._id.copy()

    def step(self, time: float, seen: Seen) -> Ints:
        """(n,) int64 ids of the detections of the next moment; 0 for one that is not sure and continues nothing.

        Raises InputError for a ``time`` (seconds) that is not after the last one.
        """
        if not time > self._time:
            raise InputError(f"time: {time} s is not after {self._time} s; expected moments in their order")
        self._keep(time - self._last <= self.motion.gap)
        self._predict(time - self._time)
        self._time = time
        ids = np.zeros(len(seen.centre), np.int64)
        free = np.arange(len(self._id))
        for rows in (np.flatnonzero(seen.sure), np.flatnonzero(~seen.sure)):
            mine, theirs = self._pairs(free, rows, seen)
            ids[theirs] = self._id[mine]
            self._update(mine, theirs, seen)
            free = np.setdiff1d(free, mine)
        self._begin(np.flatnonzero(seen.sure & (ids == 0)), seen, ids)
        return ids

    def _predict(self, step: float) -> None:
        if not len(self._id):
            return
        place, both, velocity = self._spread.T
        wander = self.motion.wander
        self._place = self._place + step * self._velocity
        self._spread = np.column_stack([
            place + 2 * step * both + step**2 * velocity + wander * step**3 / 3,
            both + step * velocity + wander * step**2 / 2,
            velocity + wander * step,
        ])  # fmt: skip

    def _pairs(self, free: NDArray[np.intp], rows: NDArray[np.intp], seen: Seen) -> tuple[Ints, Ints]:
        """Rows of things and rows of detections that belong together."""
        if not len(free) or not len(rows):
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        variance = self._spread[free, 0] + _noise(self._size[free], self.motion)
        near = cKDTree(seen.centre[rows]).query_ball_point(self._place[free], self.motion.gate * np.sqrt(variance))
        one = np.repeat(np.arange(len(free)), [len(found) for found in near])
        other = np.concatenate([*map(np.sort, near), np.zeros(0)]).astype(np.intp)
        thing, found = free[one], rows[other]
        change = np.log(self._size[thing] / seen.size[found]) / self.motion.resize
        possible = np.abs(change).max(1, initial=0) <= self.motion.gate
        apart = ((self._place[thing] - seen.centre[found]) ** 2).sum(1) / variance[one]
        cost = apart + 2 * np.log(variance[one]) + (change**2).sum(1)
        cost += OTHER_KIND * (self._kind[thing] != seen.kind[found])
        mine, theirs = _assigned(cost[possible], one[possible], other[possible], (len(free), len(rows)))
        return free[mine], rows[theirs]

    def _update(self, mine: Ints, theirs: Ints, seen: Seen) -> None:
        if not len(mine):
            return
        place, both, velocity = self._spread[mine].T
        total = place + _noise(seen.size[theirs], self.motion)
        gain, turn = place / total, both / total
        off = seen.centre[theirs] - self._place[mine]
        self._place[mine] += gain[:, None] * off
        self._velocity[mine] += turn[:, None] * off
        self._spread[mine] = np.column_stack([place * (1 - gain), both * (1 - gain), velocity - turn * both])
        self._size[mine] = seen.size[theirs]
        self._kind[mine] = seen.kind[theirs]
        self._last[mine] = self._time

    def _begin(self, rows: NDArray[np.intp], seen: Seen, ids: Ints) -> None:
        if not len(rows):
            return
        new = np.arange(self.count + 1, self.count + 1 + len(rows))
        ids[rows] = new
        self.count += len(rows)
        noise = _noise(seen.size[rows], self.motion)
        spread = np.column_stack([noise, np.zeros(len(rows)), np.full(len(rows), self.motion.speed**2)])
        self._id = np.concatenate([self._id, new])
        self._kind = np.concatenate([self._kind, seen.kind[rows]])
        self._place = np.concatenate([self._place, seen.centre[rows]])
        self._velocity = np.concatenate([self._velocity, np.zeros((len(rows), 2))])
        self._size = np.concatenate([self._size, seen.size[rows]])
        self._spread = np.concatenate([self._spread, spread])
        self._last = np.concatenate([self._last, np.full(len(rows), self._time)])

    def _keep(self, which: NDArray[np.bool_]) -> None:
        for name in ("_id", "_kind", "_place", "_velocity", "_size", "_spread", "_last"):
            setattr(self, name, getattr(self, name)[which])


OTHER_KIND = 4.0
"""What another class costs, as two standard deviations of the place do: detectors change their mind."""
_FAR = 1e6


def _noise(size: Floats, motion: Motion) -> Floats:
    """(n,) variance of centres of things of a size (n, 2)."""
    out: Floats = motion.noise**2 * size.prod(1)
    return out


def _assigned(
    cost: Floats, one: NDArray[np.intp], other: NDArray[np.intp], shape: tuple[int, int]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """As many of the pairs (``one``, ``other``) as go one to one, and of those the least ``cost`` (p,).

    Pairs that have nothing to do with each other are settled apart, so a frame of thousands needs no square of them.
    """
    if not len(one):
        return one, other
    graph = scipy.sparse.coo_array((np.ones(len(one)), (one, other + shape[0])), (sum(shape), sum(shape)))
    _, label = scipy.sparse.csgraph.connected_components(graph, directed=False)
    order = np.argsort(label[one], kind="stable")
    mine, theirs = [], []
    for part in np.split(order, np.flatnonzero(np.diff(label[one][order])) + 1):
        rows, i = np.unique(one[part], return_inverse=True)
        columns, j = np.unique(other[part], return_inverse=True)
        square = np.full((len(rows), len(columns)), _FAR)
        square[i, j] = cost[part]
        a, b = linear_sum_assignment(square)
        good = square[a, b] < _FAR
        mine.append(rows[a[good]])
        theirs.append(columns[b[good]])
    return np.concatenate(mine), np.concatenate(theirs)


def nearest(before: Floats, centre: Floats, ids: Ints, count: int) -> tuple[Ints, int]:
    """The simplest tracker, to be better than: (the ids (n,) of detections at ``centre`` (n, 2), ids given in all).

    Each takes the id of the nearest of the moment before, ``before`` (m, 2) with ``ids`` (m,), if that has no nearer
    one; the others get new ones after ``count``.
    """
    found = np.zeros(len(centre), np.int64)
    if len(before) and len(centre):
        _, back = cKDTree(centre).query(before)
        _, near = cKDTree(before).query(centre)
        mutual = back[near] == np.arange(len(centre))
        found[mutual] = ids[near[mutual]]
    new = np.flatnonzero(found == 0)
    found[new] = np.arange(count + 1, count + 1 + len(new))
    return found, count + len(new)
