"""Which cell of the plane a point belongs to, and statistics of the points in a cell.

Cells are half-open: a point on the left or upper edge of a cell belongs to it, one on the right or lower edge to the
next. The number of a cell comes from its coordinates and the plane alone, so that no block sees a point elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geoml.grid.plane import Plane, Window

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]


def cell_of(plane: Plane, window: Window, x: Floats, y: Floats) -> Ints:
    """(n,) the cells of points, numbered along the rows of the window; -1 for a point outside it.

    ``x`` and ``y`` (n,) are coordinates of the plane's CRS.
    """
    col = np.floor(x / plane.res - plane.anchor).astype(np.int64) - window.x0
    row = np.floor(-y / plane.res - plane.anchor).astype(np.int64) - window.y0
    height, width = window.shape
    inside = (row >= 0) & (row < height) & (col >= 0) & (col < width)
    return np.where(inside, row * width + col, -1)


@dataclass(frozen=True, eq=False)
class CellHeights:
    """(y, x) arrays of a window: how many points a cell holds, the lowest, the highest and their deviation in metres.

    NaN where there are none.
    """

    count: Ints
    lowest: Floats
    highest: Floats
    spread: Floats


def summarised(cell: Ints, z: Floats, window: Window) -> CellHeights:
    """Points ``z`` (n,) of cells ``cell`` (n,), those of cell -1 left out; added up in the order that they come in."""
    inside = cell >= 0
    cell, z = cell[inside], z[inside]
    count, lowest = counted(cell, window), extreme(cell, z, window, np.fmin)
    over = z - lowest.ravel()[cell]
    first, second = (np.bincount(cell, a, count.size).reshape(window.shape) for a in (over, over * over))
    with np.errstate(invalid="ignore"):  # cells without points
        spread = np.sqrt(np.maximum(second / count - (first / count) ** 2, 0))
    return CellHeights(count, lowest, extreme(cell, z, window, np.fmax), spread)


def counted(cell: Ints, window: Window, chosen: Flags | None = None) -> Ints:
    """(y, x) how many points (n,), or those ``chosen``, lie in each cell; those of cell -1 in none."""
    height, width = window.shape
    kept = cell >= 0 if chosen is None else (cell >= 0) & chosen
    return np.bincount(cell[kept], minlength=height * width).reshape(height, width)


def extreme(cell: Ints, z: Floats, window: Window, of: np.ufunc) -> Floats:
    """(y, x) the lowest or highest, by ``np.fmin`` or ``np.fmax``, of the points of each cell; NaN where empty."""
    out = np.full(window.shape[0] * window.shape[1], np.nan)
    of.at(out, cell, z)
    return out.reshape(window.shape)
