"""Split conformal sets over cells: smallest sets that hold the true cell with a promised probability.

The adaptive sets of Romano, Sesia and Candes 2020 (APS, https://arxiv.org/abs/2006.02544), with their random tie
breaking. The promise 1 - alpha holds on average over pictures that are exchangeable with those that calibrated;
another month or another continent is not, and no set can promise anything there.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from geoml.errors import InputError

Floats = NDArray[np.float64]


def scores(probability: Floats, seed: int | Sequence[int] = 0) -> Floats:
    """(N, K) how badly each cell fits each picture; a cell is in the set when its score is at most the quantile.

    The mass of all likelier cells and a random share of the cell's own; one share for a picture. ``seed`` is of all
    pictures, or one for each, so that a picture's set does not depend on the others.
    Raises InputError if rows do not sum to 1.
    """
    if probability.ndim != 2 or not np.allclose(probability.sum(1), 1.0, atol=1e-3):
        raise InputError(f"probability: shape {probability.shape}; expected rows that sum to 1")
    order = np.argsort(-probability, axis=1, kind="stable")
    ranked = np.take_along_axis(probability, order, 1)
    if isinstance(seed, int):
        share = np.random.default_rng(seed).random((len(probability), 1))
    else:
        share = np.array([np.random.default_rng(one).random() for one in seed]).reshape(-1, 1)
    out = np.empty_like(ranked)
    np.put_along_axis(out, order, np.cumsum(ranked, 1) - ranked + share * ranked, 1)
    return out


def quantile(probability: Floats, true: NDArray[np.int64], alpha: float, seed: int = 0) -> float:
    """The score that ceil((N + 1)(1 - alpha)) of N calibration pictures do not pass; inf when N is too small for it.

    ``true`` (N,) is the index of the true cell. Raises InputError for an alpha that is not within (0, 1).
    """
    if not 0.0 < alpha < 1.0:
        raise InputError(f"alpha: {alpha}; expected a share between 0 and 1")
    own = np.sort(scores(probability, seed)[np.arange(len(true)), true])
    rank = int(np.ceil((len(own) + 1) * (1.0 - alpha)))
    return float(own[rank - 1]) if rank <= len(own) else float("inf")


def sets(probability: Floats, limit: float, seed: int | Sequence[int] = 0) -> NDArray[np.bool_]:
    """(N, K) True for the cells of each picture's set; the likeliest cell is always in it."""
    inside = scores(probability, seed) <= limit
    inside[np.arange(len(probability)), probability.argmax(1)] = True
    return inside


def coverage(inside: NDArray[np.bool_], true: NDArray[np.int64]) -> float:
    """Share of pictures whose set holds the true cell."""
    return float(inside[np.arange(len(true)), true].mean())
