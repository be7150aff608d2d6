"""Folds of ground for cross-validation, and how much each pixel counts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Index = NDArray[np.int64]


def folds(label: Index, ground: Index, most: int, seed: int) -> Index:
    """(place,) number of the fold of each place, by its class ``label`` and its ``ground``, which is in one fold whole.

    As many as the class on the fewest pieces of ground allows, ``most`` at most, so that each is held out and learnt
    from; more only where some class would else have all its ground in one of them. A class on one piece cannot be both.
    """
    pieces, of = np.unique(ground, return_inverse=True)
    classes = int(label.max()) + 1
    has = np.zeros((len(pieces), classes), np.int64)
    np.add.at(has, (of, label), 1)
    on = (has > 0).sum(0)
    count = int(max(2, min(most, on[on > 0].min())))
    while count < len(pieces):
        fold = _spread(has, on, count, seed)
        if all(len(np.unique(fold[has[:, k] > 0])) > 1 for k in np.flatnonzero(on > 1)):
            break
        count += 1
    else:
        fold = np.arange(len(pieces))  # each piece by itself
    found: Index = np.unique(fold, return_inverse=True)[1].astype(np.int64)[of]
    return found


def _spread(has: Index, on: Index, count: int, seed: int) -> Index:
    """(piece,) fold by the places ``has`` (piece, class): the rarest classes first, at random within a class."""
    random = np.random.default_rng(seed)
    fold = np.full(len(has), -1, np.int64)
    total = np.zeros((count, has.shape[1]), np.int64)
    for k in np.argsort(np.where(on > 0, on, np.iinfo(np.int64).max), kind="stable"):
        mine = random.permutation(np.flatnonzero((has[:, k] > 0) & (fold < 0)))
        for piece in mine:
            # the fold with the fewest pieces of this class, then with the fewest places
            best = min(range(count), key=lambda f: (total[f, k], int(total[f].sum()), f))
            fold[piece] = best
            total[best] += has[piece]
    return fold


def weights(label: Index, place: Index) -> NDArray[np.float64]:
    """(pixel,) of mean 1: all classes count the same, and in a class all places, however many pixels they have."""
    _, which, pixels = np.unique(place, return_inverse=True, return_counts=True)
    found = 1 / pixels[which].astype(np.float64)
    _, of = np.unique(label, return_inverse=True)
    found /= np.bincount(of, found)[of]
    out: NDArray[np.float64] = found * len(found) / found.sum()
    return out
