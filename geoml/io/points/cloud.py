"""Points in metres: what a block reads of any number of files, in an order that does not depend on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

_STEP = 2.0**20
"""Steps of a metre in the key that points are sorted by: a micrometre."""


@dataclass(frozen=True, eq=False)
class Cloud:
    """``n`` points, sorted by (y, x, z, classification, returned), each once.

    Withheld points and those of the classes 7 and 18 (noise) are not in it.
    """

    x: NDArray[np.float64]
    """(n,) metres of the horizontal CRS, eastwards."""
    y: NDArray[np.float64]
    """(n,) metres, northwards."""
    z: NDArray[np.float64]
    """(n,) metres above the stated vertical datum."""
    classification: NDArray[np.uint8]
    """(n,) classes of ASPRS: 2 ground, 6 building, 9 water, …; 1 and 0 are not classified, which is not non-ground."""
    returned: NDArray[np.uint8]
    """(n,) number of the return of its pulse, from 1; 0 occurs where the file says none."""
    returns: NDArray[np.uint8]
    """(n,) returns of its pulse."""
    intensity: NDArray[np.uint16]
    """(n,) strength of the return, of no unit."""
    synthetic: NDArray[np.bool_]
    """(n,) True for points that were made, not measured: they do not count as density."""

    def __len__(self) -> int:
        return len(self.x)

    def take(self, chosen: NDArray[np.bool_] | NDArray[np.intp]) -> Cloud:
        """The points where the (n,) mask is True, or those with these indices."""
        return Cloud(**{f.name: getattr(self, f.name)[chosen] for f in fields(self)})

    @classmethod
    def empty(cls) -> Cloud:
        """No points."""
        none = np.zeros(0)
        byte = np.zeros(0, np.uint8)
        return cls(none, none, none, byte, byte, byte, np.zeros(0, np.uint16), np.zeros(0, bool))


def joined(clouds: Sequence[Cloud]) -> Cloud:
    """All points of ``clouds`` in the one order; a point that stands in several of them, or twice, counts once."""
    if not (kept := [c for c in clouds if len(c)]):
        return Cloud.empty()
    whole = Cloud(**{f.name: np.concatenate([getattr(c, f.name) for c in kept]) for f in fields(Cloud)})
    whole = whole.take(_order(whole))
    same = np.ones(len(whole) - 1, bool)
    for field in fields(whole):
        column = getattr(whole, field.name)
        same &= column[1:] == column[:-1]
    return whole.take(np.concatenate([[True], ~same])) if same.any() else whole


def _order(cloud: Cloud) -> NDArray[np.intp]:
    """Indices that sort: by y and x to a micrometre, ties by every column."""
    y, x = (np.floor(v * _STEP).astype(np.int64) for v in (cloud.y, cloud.x))
    y -= y.min()
    x -= x.min()
    if max(int(y.max()).bit_length() + int(x.max()).bit_length(), 0) > 63:
        return np.lexsort(_columns(cloud))
    key = (y << int(x.max()).bit_length()) | x
    order = np.argsort(key)
    key = key[order]
    tied = np.zeros(len(key), bool)
    tied[1:] = key[1:] == key[:-1]
    tied[:-1] |= tied[1:]
    if tied.any():
        at = np.flatnonzero(tied)
        few = cloud.take(order[at])
        order[at] = order[at][np.lexsort((*_columns(few), key[at]))]
    return order


def _columns(cloud: Cloud) -> tuple[NDArray[np.generic], ...]:
    """The columns of a lexsort, the first to sort by at the end."""
    last = (cloud.synthetic, cloud.intensity, cloud.returns)
    return (*last, cloud.returned, cloud.classification, cloud.z, cloud.x, cloud.y)
