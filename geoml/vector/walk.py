"""Rings out of directed edges, each of which knows the one that follows it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components, depth_first_order

Index = NDArray[np.int64]


def walk(following: NDArray[np.int32] | Index, region_of: Callable[[Index], Index]) -> tuple[Index, Index, Index]:
    """Walk all rings: (region of each ring, edges in order of travel, where each ring starts in that order).

    The rings of a region follow each other, that of its lowest edge first, which has to be the outer one. All rings are
    opened and joined to one long path, so that one compiled search walks them.

    Args:
        following: the edge after each edge.
        region_of: gives the region of edges.
    """
    n = len(following)
    every = np.arange(n + 1, dtype=np.int32)
    links = csr_array((np.ones(n, np.int8), following, every), shape=(n, n))
    count, ring = connected_components(links, connection="strong")
    head = lowest(ring, count)
    region = region_of(head)
    turn = np.lexsort((head, region))
    head = head[turn]
    before = inverse(following)
    path = following.copy()
    path[before[head]] = np.roll(head, -1)
    joined = csr_array((np.ones(n, np.int8), path, every), shape=(n, n))
    order = depth_first_order(joined, int(head[0]), return_predecessors=False)
    lengths = np.bincount(ring, minlength=count)[turn]
    return region[turn], order, np.cumsum(lengths) - lengths


def lowest(label: Index, count: int) -> Index:
    """The lowest position of each label 0 … count - 1."""
    found = np.empty(count, np.int64)
    found[label[::-1]] = np.arange(len(label) - 1, -1, -1)  # the last one written stays
    return found


def inverse(permutation: NDArray[np.integer]) -> NDArray[np.integer]:
    """Where each number of a permutation stands in it."""
    found = np.empty_like(permutation)
    found[permutation] = np.arange(len(permutation))
    return found
