"""SMRF, the simple morphological filter: openings, then a threshold that grows with the slope.

Pingel, Clarke and McBride 2013, https://doi.org/10.1016/j.isprsjprs.2012.12.002, made local: empty cells are left out
of the openings, each of which is of the lowest points themselves and not of the opening before, and what is not ground
is filled from some cells around in place of an inpainting of all. On slopes that costs less ground than the original.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from geoml.cube.clouds import lowest
from geoml.cube.clouds.cells import Flags, Floats
from geoml.cube.clouds.filling import filled, reach
from geoml.cube.clouds.lowest import Lattice, lattice
from geoml.cube.clouds.morphology import Surface, opened, radii

LEVELS = 4
EDGE = 3
"""Cells that the slope and the interpolation at a point reach over."""
STEEPEST = 9.0


@dataclass(frozen=True)
class Config:
    """One set for town, open country and forest; metres, and metres of height a metre."""

    cell: float = 1.0
    window: float = 25.0
    """Half the width of the largest building."""
    slope: float = 0.2
    """The steepest ground among buildings: what is opened by more at a distance is an object."""
    threshold: float = 0.3
    """Height above the terrain up to which a point is ground, on the flat."""
    scaling: float = 0.6
    """What is added to it for each metre of height a metre of slope."""


class SMRF:
    """`geoml.cube.clouds.ground.GroundFilter`."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.radii = radii(config.window / config.cell)

    @property
    def halo(self) -> float:
        return (2 * self.radii[-1] + lowest.REACH + reach(LEVELS) + EDGE) * self.config.cell

    def ground(self, x: Floats, y: Floats, z: Floats) -> Flags:
        if not len(z):
            return np.zeros(0, bool)
        cells = lattice(x, y, z, self.config.cell, 2**LEVELS)
        terrain = filled(self._bare(cells), LEVELS)
        north, east = np.gradient(terrain, np.float32(self.config.cell))
        slope = np.minimum(np.nan_to_num(np.hypot(north, east)), np.float32(STEEPEST))
        allowed = np.float32(self.config.threshold) + np.float32(self.config.scaling) * slope
        ceiling = _bilinear(terrain + allowed, cells, x, y)
        # a point in a pit is not ground either; within its cell the ground itself falls by the slope
        floor = (terrain - allowed - np.float32(self.config.cell) * slope).ravel()[cells.cell]
        return np.asarray((z <= ceiling) & (z >= floor))

    def _bare(self, cells: Lattice) -> Surface:
        """(y, x) lowest points of cells that no opening takes for objects, NaN elsewhere."""
        last = cells.z
        bare = np.isfinite(cells.z)
        for radius in self.radii:
            now = opened(cells.z, cells.near, radius)
            with np.errstate(invalid="ignore"):  # inf - inf in cells without points
                bare &= last - now <= np.float32(self.config.slope * radius * self.config.cell)
            last = now
        return np.where(bare, cells.z, np.float32(np.nan))


def _bilinear(surface: Surface, cells: Lattice, x: Floats, y: Floats) -> Floats:
    """(n,) the surface at points, between four cell centres; of the point's own cell where one of them is NaN."""
    res, width = cells.plane.res, cells.window.shape[1]
    across, down = x / res - 0.5, -y / res - 0.5
    col, row = np.floor(across), np.floor(down)
    right, below = across - col, down - row
    at = (row.astype(np.int64) - cells.window.y0) * width + (col.astype(np.int64) - cells.window.x0)
    flat = surface.ravel()
    upper = flat[at] * (1 - right) + flat[at + 1] * right
    lower = flat[at + width] * (1 - right) + flat[at + width + 1] * right
    out = upper * (1 - below) + lower * below
    return np.where(np.isnan(out), flat[cells.cell], out)


build = SMRF
