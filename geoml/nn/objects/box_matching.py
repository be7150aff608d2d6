"""Which boxes are of which true ones: greedy as COCO has it, by the best assignment as DeepForest has it, by distance.

All are one to one. Pairs are sparse, so the cost is that of the boxes that touch.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from geoml.vector.assignment import assigned
from geoml.vector.boxes import overlapping

HIT, MISS, ASIDE = 1, 0, -1
"""Fates of what was found: it is a true box, it is none, it finds what does not count."""


class Pairs(NamedTuple):
    """Rows of what was found, rows of what is true, and what they share (or how far apart they are)."""

    found: NDArray[np.intp]
    truth: NDArray[np.intp]
    value: NDArray[np.float64]

    def where(self, mine: NDArray[np.bool_]) -> Pairs:
        """Some of the pairs."""
        return Pairs(self.found[mine], self.truth[mine], self.value[mine])

    def among(self, found: NDArray[np.bool_], truth: NDArray[np.bool_]) -> Pairs:
        """Those of some rows of both, (n,) and (m,), which count from 0 then."""
        some = self.where(found[self.found] & truth[self.truth])
        return Pairs(np.cumsum(found)[some.found] - 1, np.cumsum(truth)[some.truth] - 1, some.value)


def shares(found: NDArray[np.float64], truth: NDArray[np.float64]) -> Pairs:
    """Pairs of boxes (n, 4) and (m, 4) that overlap, with their intersection over union."""
    return Pairs(*overlapping(found, truth, 0.0)) if len(found) and len(truth) else _none()


def distances(found: NDArray[np.float64], truth: NDArray[np.float64], most: float) -> Pairs:
    """Pairs of points (n, 2) and (m, 2) that are at most ``most`` apart, with their distance."""
    from scipy.spatial import cKDTree  # scipy, which a task that is only named does without

    if not len(found) or not len(truth):
        return _none()
    near = cKDTree(found).sparse_distance_matrix(cKDTree(truth), most, output_type="coo_matrix")
    i, j = near.row.astype(np.intp), near.col.astype(np.intp)
    order = np.lexsort((j, i))
    i, j = i[order], j[order]
    return Pairs(i, j, np.hypot(*(found[i] - truth[j]).T))


def greedy(pairs: Pairs, count: int, aside: NDArray[np.bool_], often: NDArray[np.bool_]) -> NDArray[np.int64]:
    """(count,) fates of boxes that come best first: each takes the true one that it overlaps most and that is free.

    What is ``aside`` (m,) is taken where nothing that counts is free; ``often`` (m,) by any number. As in COCO (Lin et
    al. 2014, https://arxiv.org/abs/1405.0312), whose crowds are `often`.
    """
    fate, free = np.full(count, MISS), np.ones(len(aside), bool)
    i, j, share = pairs
    order = np.lexsort((j, -share, aside[j], i))
    for a, b in zip(i[order].tolist(), j[order].tolist(), strict=True):
        if fate[a] == MISS and (free[b] or often[b]):
            fate[a], free[b] = ASIDE if aside[b] else HIT, False
    return fate


def most_shared(pairs: Pairs, found: int, truth: int) -> Pairs:
    """The one-to-one pairs whose intersections over union add up to the most: the Hungarian method.

    As DeepForest does it (Weinstein et al. 2021, https://doi.org/10.1371/journal.pcbi.1009180): whether a pair overlaps
    enough to be a match is asked afterwards.
    """
    return pairs.where(assigned(pairs.found, pairs.truth, 1 - pairs.value, 1.0, (found, truth)))


def nearest(pairs: Pairs, found: int, truth: int) -> Pairs:
    """As many one-to-one pairs as there can be, and of these choices the one with the least sum of distances.

    The rule for trees as points of Ventura et al. 2024, https://arxiv.org/abs/2208.10607.
    """
    alone = float(pairs.value.max(initial=0.0) + 1) * (min(found, truth) + 1)
    return pairs.where(assigned(pairs.found, pairs.truth, pairs.value, alone, (found, truth)))


def _none() -> Pairs:
    return Pairs(np.empty(0, np.intp), np.empty(0, np.intp), np.empty(0))
