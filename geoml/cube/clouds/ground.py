"""Which points are ground: the filters of `geoml.cube.clouds.filters`, and what all of them promise."""

from __future__ import annotations

from typing import Protocol

from geoml.cube.clouds.cells import Flags, Floats
from geoml.registry import Registry

FILTERS = Registry("geoml.cube.clouds.filters", "ground filter")
"""By file name: ``FILTERS.build("smrf", {})`` is one with its defaults."""


class GroundFilter(Protocol):
    """Tells ground points from others by their place alone.

    A point's answer depends on nothing but the points within `halo` metres of it, in x and in y, bit for bit: the
    lattice that it works on lies at the origin of the CRS, and neither the extent of a cloud nor its order counts.
    """

    @property
    def halo(self) -> float:
        """Metres around a window whose points must be there for the answers inside to be final."""

    def ground(self, x: Floats, y: Floats, z: Floats) -> Flags:
        """(n,) True for ground, of points (n,) in metres of the CRS and of the datum, noise left out."""
