"""Points as a LAS file holds them, and their columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from geoml.io.points.cloud import Cloud
from geoml.io.points.lattice import MetreAxis

NOISE = (7, 18)
"""Classes of low and high noise, which are left out."""


@dataclass(frozen=True, eq=False)
class Points:
    """(n,) columns of points with their integers, in the order of the file."""

    x: NDArray[np.int32]
    y: NDArray[np.int32]
    z: NDArray[np.int32]
    classification: NDArray[np.uint8]
    returned: NDArray[np.uint8]
    returns: NDArray[np.uint8]
    intensity: NDArray[np.uint16]
    synthetic: NDArray[np.bool_]
    withheld: NDArray[np.bool_]

    @property
    def kept(self) -> NDArray[np.bool_]:
        """(n,) True for points that are neither withheld nor noise."""
        return ~self.withheld & ~np.isin(self.classification, NOISE)

    def take(self, chosen: NDArray[np.bool_]) -> Points:
        """The points where the (n,) mask is True."""
        return Points(*(getattr(self, f.name)[chosen] for f in fields(self)))

    def cloud(self, axes: tuple[MetreAxis, MetreAxis, MetreAxis]) -> Cloud:
        """The same points in metres, neither sorted nor sifted."""
        x, y, z = (a.metres(v) for a, v in zip(axes, (self.x, self.y, self.z), strict=True))
        rest = self.classification, self.returned, self.returns, self.intensity, self.synthetic
        return Cloud(x, y, z, *rest)


@lru_cache(maxsize=64)
def _layout(point_format: int, record_bytes: int) -> np.dtype[np.void]:
    names = {"x": ("<i4", 0), "y": ("<i4", 4), "z": ("<i4", 8), "intensity": ("<u2", 12), "bits": ("u1", 14)}
    names |= {"flags": ("u1", 15), "classification": ("u1", 15 if point_format < 6 else 16)}
    kinds, offsets = zip(*names.values(), strict=True)
    return np.dtype({"names": list(names), "formats": kinds, "offsets": offsets, "itemsize": record_bytes})


def decoded(raw: bytes | NDArray[np.uint8], point_format: int, record_bytes: int) -> Points:
    """The columns of whole records."""
    table = np.frombuffer(raw, _layout(point_format, record_bytes))
    bits, flags = table["bits"], table["flags"]
    if point_format < 6:  # five bits of class with the flags above them, three bits for each number of a return
        returned, returns = bits & 7, bits >> 3 & 7
        classification, synthetic, withheld = flags & 31, flags & 32, flags & 128
    else:
        returned, returns = bits & 15, bits >> 4
        classification, synthetic, withheld = table["classification"].copy(), flags & 1, flags & 4
    x, y, z, intensity = (table[n].copy() for n in ("x", "y", "z", "intensity"))
    classes, first, last = (np.asarray(v, np.uint8) for v in (classification, returned, returns))
    return Points(x, y, z, classes, first, last, intensity, synthetic != 0, withheld != 0)


def together(parts: Sequence[Points]) -> Points:
    """The points of all parts, one after the other."""
    return Points(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Points)))
