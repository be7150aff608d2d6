"""Train, validation and test of pictures with a place, and the check that none of them leaks.

The same weights score three times higher where the query's place is in the gallery. So held-out blocks of degrees are
never trained, training keeps a gap from them, and copies, sequences and near places across splits fail the run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from geoml.data.splits import draw
from geoml.errors import InputError
from geoml.geolocation.training.balance import coarse
from geoml.grid import sphere

Places = NDArray[np.float64]
"""(N, 2) lon, lat in degrees."""


def blocks(
    where: Places, test: float = 0.2, val: float = 0.1, degrees: float = 10.0, seed: int = 0
) -> NDArray[np.str_]:
    """(N,) ``train``, ``val`` or ``test`` by the hash of the block of degrees that a place is in."""
    number = coarse(where[:, 0], where[:, 1], degrees)
    split = {int(b): draw(f"{degrees:g} {b}", {"test": test, "val": val}, seed) for b in np.unique(number)}
    return np.array([split[int(b)] for b in number], dtype="<U5")


def apart(where: Places, held: Places, gap_km: float) -> NDArray[np.bool_]:
    """(N,) True for places that are further than ``gap_km`` from each of ``held`` (M, 2)."""
    if not len(held):
        return np.ones(len(where), bool)
    return nearest_km(where, held)[0] > gap_km


def nearest_km(where: Places, others: Places) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Great-circle km (N,) to the nearest of ``others``, and its index."""
    tree = KDTree(sphere.to_xyz(others[:, 0], others[:, 1]))
    _, index = tree.query(sphere.to_xyz(where[:, 0], where[:, 1]))
    km = sphere.distance(where[:, 0], where[:, 1], others[index, 0], others[index, 1])
    return km, index.astype(np.int64)


def check(
    splits: Mapping[str, Places],
    gap_km: float,
    sha256: Mapping[str, Sequence[str]] | None = None,
    sequence: Mapping[str, Sequence[str | None]] | None = None,
) -> None:
    """Raise InputError, naming the two, for places of two splits within ``gap_km``, or a shared checksum or sequence.

    ``sha256`` and ``sequence`` give those of each split's pictures; a sequence None is shared with nobody.
    """
    for one, other in combinations(splits, 2):
        _check_gap(one, splits[one], other, splits[other], gap_km)
        for what, values in (("sha256", sha256), ("sequence", sequence)):
            if values is not None:
                _check_shared(what, one, values.get(one, ()), other, values.get(other, ()))


def _check_gap(one: str, a: Places, other: str, b: Places, gap_km: float) -> None:
    if not len(a) or not len(b):
        return
    km, index = nearest_km(a, b)
    near = int(km.argmin())
    if km[near] <= gap_km:
        raise InputError(
            f"split: leak, picture {near} of {one} is {km[near]:.1f} km from picture {index[near]} of {other};"
            f" expected more than {gap_km:g} km"
        )


def _check_shared(what: str, one: str, a: Sequence[str | None], other: str, b: Sequence[str | None]) -> None:
    shared = {v for v in a if v is not None} & set(b)
    if shared:
        raise InputError(f"split: leak, {what} {min(shared)} is in {one} and in {other}")
