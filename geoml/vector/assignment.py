"""One-to-one assignment of rows to rows, of pairs that are sparse."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def assigned(
    one: NDArray[np.intp], other: NDArray[np.intp], cost: NDArray[np.float64], alone: float, shape: tuple[int, int]
) -> NDArray[np.bool_]:
    """(p,) True for those of the pairs that together cost least, one to one.

    Pair p is of the rows ``one[p]`` and ``other[p]``, of which there are ``shape``; no pair comes twice. A row of the
    first may stay without a partner at the cost ``alone``; no cost is negative. By LAPJVsp, a Hungarian method for
    sparse graphs (`scipy.sparse.csgraph.min_weight_full_bipartite_matching`).
    """
    from scipy.sparse import coo_array  # scipy, which a task that is only named does without
    from scipy.sparse.csgraph import min_weight_full_bipartite_matching

    if not len(cost):
        return np.zeros(0, np.bool_)
    rows = np.arange(shape[0])  # each has a column of its own, which stands for no partner
    i, j = np.concatenate([one, rows]), np.concatenate([other, shape[1] + rows])
    weight = np.concatenate([cost, np.full(shape[0], alone)]) + 1  # a weight of zero would be no edge
    matched = np.full(shape[0], -1)
    row, col = min_weight_full_bipartite_matching(coo_array((weight, (i, j)), shape=(shape[0], sum(shape))).tocsr())
    matched[row] = col
    chosen: NDArray[np.bool_] = matched[one] == other
    return chosen
