"""Which pictures a training epoch draws, where some parts of the world have many more pictures than others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from geoml.errors import InputError
from geoml.grid import sphere


def weights(cell: NDArray[np.int64], exponent: float = 0.5) -> NDArray[np.float64]:
    """(N,) probability to be drawn: each picture by the count of its cell to the power of -``exponent``; sums to 1.

    0 leaves the distribution as it is, 1 draws every cell equally often. ``cell`` (N,) is any label of a place.
    Raises InputError for an exponent outside [0, 1] or no pictures.
    """
    if not 0.0 <= exponent <= 1.0 or not len(cell):
        raise InputError(f"exponent: {exponent} for {len(cell)} pictures; expected 0 to 1 and at least one picture")
    _, index, count = np.unique(cell, return_inverse=True, return_counts=True)
    weight = count[index].astype(float) ** -exponent
    return np.asarray(weight / weight.sum())


def coarse(lon: NDArray[np.float64], lat: NDArray[np.float64], degrees: float = 10.0) -> NDArray[np.int64]:
    """(N,) number of the block of so many degrees that holds each place."""
    columns = int(np.ceil(360.0 / degrees))
    col = np.minimum(np.floor((sphere.wrap(lon) + 180.0) / degrees).astype(np.int64), columns - 1)
    rows = int(np.ceil(180.0 / degrees))
    row = np.clip(np.floor((np.asarray(lat) + 90.0) / degrees).astype(np.int64), 0, rows - 1)
    return row * columns + col


def one_per_sequence(sequence: Sequence[str | None], seed: int = 0) -> NDArray[np.int64]:
    """Indices that keep one random picture of each sequence (a drive, a flight, a burst); None is its own sequence."""
    rng = np.random.default_rng([seed, 0x5E0])
    members: dict[str | int, list[int]] = {}
    for i, name in enumerate(sequence):
        members.setdefault(i if name is None else name, []).append(i)
    return np.array(sorted(rows[int(rng.integers(len(rows)))] for rows in members.values()), np.int64)


def cap(place: NDArray[np.int64], most: int, seed: int = 0) -> NDArray[np.int64]:
    """Indices that keep at most ``most`` random pictures of each place. Raises InputError for less than 1."""
    if most < 1:
        raise InputError(f"most: {most}; expected at least 1")
    order = np.random.default_rng([seed, 0xCA9]).permutation(len(place))
    _, first = np.unique(place[order], return_inverse=True)
    by_place = np.argsort(first, kind="stable")
    sizes = np.bincount(first) if len(first) else np.zeros(0, int)
    rank = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return np.sort(order[by_place[rank < most]])
