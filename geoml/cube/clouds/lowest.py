"""The lowest points of the cells of a lattice at the origin of the CRS: where ground filters begin."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from geoml.cube.clouds.cells import Flags, Floats, Ints, cell_of, extreme
from geoml.cube.clouds.morphology import Surface, around, dilated
from geoml.errors import InputError
from geoml.grid.plane import Plane, Window

MOST = 400_000_000
"""Cells of a lattice; more would be points of another place among those of a window."""
NEAR = 2
"""Cells from one with points within which an opening may be laid."""
PIT = 5.0
"""Metres by which a point that is the lowest of all around is taken for an echo and no ground."""
REACH = 3
"""Cells that this looks around: of one only, ground that is seen through a gap between crowns would be such."""


@dataclass(frozen=True, eq=False)
class Lattice:
    """``z`` (y, x) lowest points, inf where there are none, ``near`` (y, x) True near points, ``cell`` (n,) of points.

    Points lie at least ``spare`` cells from the edge, and its first row and column are multiples of ``spare``.
    """

    plane: Plane
    window: Window
    cell: Ints
    z: Surface
    near: Flags


def lattice(x: Floats, y: Floats, z: Floats, size: float, spare: int) -> Lattice:
    """Cells of ``size`` metres for points (n,), n > 0. Raises InputError if these are spread over `MOST` cells."""
    plane = Plane("metres", size)
    held = plane.window(x.min(), y.min(), x.max(), y.max()).expand(1)  # half-open cells: one more at two sides
    window = held.expand(spare).coarser(spare).finer(spare)
    height, width = window.shape
    if height * width > MOST:
        raise InputError(f"points spread over {height} x {width} cells of {size} m; expected those of a block")
    cell = cell_of(plane, window, x, y)
    low = extreme(cell, z, window, np.fmin).astype(np.float32)
    low[np.isnan(low)] = np.inf
    beside = around(low, REACH)
    low[np.isfinite(beside) & (low < beside - np.float32(PIT))] = np.inf
    return Lattice(plane, window, cell, low, dilated(np.isfinite(low), NEAR))
