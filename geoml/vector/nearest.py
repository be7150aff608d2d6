"""Exact search for the vectors that are most like one, by the cosine between them.

Vectors may be of any number type, also mapped from a file: some thousand at a time are made float32.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.floating] | NDArray[np.integer]

ROWS = 16_384
"""Vectors that are compared at once."""
TINY = 1e-12
"""A shorter vector has no direction."""


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """(n, F) vectors of length 1; those of zeros stay."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(length, TINY), np.float32)


def cosines(vectors: Vectors, query: NDArray[np.float32], *, units: bool = False) -> NDArray[np.float32]:
    """(n,) cosines, -1 to 1, of (n, F) vectors with one (F,) of length 1; ``units``: they have length 1 as well."""
    found = np.empty(len(vectors), np.float32)
    for start in range(0, len(vectors), ROWS):
        part = np.asarray(vectors[start : start + ROWS], np.float32)
        found[start : start + ROWS] = part @ query
        if not units:
            found[start : start + ROWS] /= np.sqrt(np.maximum(np.einsum("nf,nf->n", part, part), TINY))
    return found


def best(scores: NDArray[np.float32], count: int, keep: NDArray[np.bool_] | None = None) -> NDArray[np.intp]:
    """Rows of the ``count`` largest scores, best first and of equal ones the first; only rows that ``keep`` has."""
    rows = np.arange(len(scores)) if keep is None else np.flatnonzero(keep)
    if len(rows) > count:  # whatever is as good as the last of the best
        rows = rows[scores[rows] >= np.partition(scores[rows], len(rows) - count)[len(rows) - count]]
    return rows[np.argsort(-scores[rows], kind="stable")][:count]
