"""The surface that is seen from above: the highest first return of a cell, birds left out, small holes bridged.

A first return that stands more than `STAND` metres above every other one of its cell and of those within `AROUND`
metres is a bird, or a wire or the tip of a mast: it is not a surface, however high the next one of its cell is. Where
there is no other one, nothing can be told and it stays.
"""

from __future__ import annotations

import math

import numpy as np

from geoml.cube.clouds.cells import Flags, Floats, Ints, extreme
from geoml.cube.clouds.morphology import around, dilated
from geoml.cube.clouds.tin import sampled, triangulated
from geoml.grid.plane import Plane, Window

STAND = 5.0
AROUND = 1.5
ROUNDS = 3
"""Birds above each other that are looked for in one cell."""
MOST = 4
RIM = 2
"""Cells beside a hole whose points may bridge it."""


def reach(bridged: float, res: float) -> float:
    """Metres around a window whose points `first_surface` needs."""
    return 2 * bridged + (RIM + 2 + ROUNDS * _cells(res)) * res


def first_surface(cell: Ints, x: Floats, y: Floats, z: Floats, bridged: float, plane: Plane, window: Window) -> Floats:
    """(y, x) heights of first returns (n,), of cells ``cell`` (n,) of the window; NaN where there are none.

    A cell without one takes the median of the eight around it where `MOST` or more have one, else the triangle of
    circumradius up to ``bridged`` metres that its centre lies in.
    """
    inside = cell >= 0
    cell, x, y, z = cell[inside], x[inside], y[inside], z[inside]
    top, kept = _without_birds(cell, z, plane, window)
    filled = _with_neighbours(top)
    empty = np.isnan(filled)
    rim = dilated(empty, RIM).ravel()[cell] & kept & (z == top.ravel()[cell])
    bridge = sampled(triangulated(x[rim], y[rim], z[rim], bridged, np.maximum), plane, window, empty)
    return np.where(empty, bridge, filled)


def _with_neighbours(top: Floats) -> Floats:
    """``top`` (y, x) with its NaN the median of the eight around where `MOST` or more are not."""
    wide = np.pad(top, 1, constant_values=np.nan)
    row, col = np.nonzero(np.isnan(top))
    around = np.stack([wide[row + r, col + c] for r in range(3) for c in range(3) if (r, c) != (1, 1)], axis=1)
    around.sort(axis=1)  # NaN last
    known = (~np.isnan(around)).sum(axis=1)
    at = np.arange(len(row))
    median = (around[at, np.maximum(known - 1, 0) // 2] + around[at, np.minimum(known, 7) // 2]) / 2
    out = top.copy()
    out[row, col] = np.where(known >= MOST, median, np.nan)
    return out


def _without_birds(cell: Ints, z: Floats, plane: Plane, window: Window) -> tuple[Floats, Flags]:
    """(y, x) the highest of each cell that is not a bird, NaN where none is, and which points (n,) are not birds."""
    kept = np.ones(len(z), bool)
    top = extreme(cell, z, window, np.fmax)
    for _ in range(ROUNDS):
        held = np.where(np.isnan(top), -np.inf, top).astype(np.float32)
        beside = -around(-held, _cells(plane.res))
        alone = (np.isfinite(beside) & (held > beside + np.float32(STAND))).ravel()
        if not alone.any():
            break
        there = np.flatnonzero(alone[cell] & kept)
        high = there[z[there] >= top.ravel()[cell[there]] - STAND]
        few = high[np.bincount(cell[high], minlength=alone.size)[cell[high]] < 2]
        if not len(few):
            break
        kept[few] = False
        again = np.flatnonzero(np.isin(cell, cell[few]) & kept)
        top.ravel()[cell[few]] = np.nan
        np.fmax.at(top.ravel(), cell[again], z[again])
    return top, kept


def _cells(res: float) -> int:
    return max(1, math.ceil(AROUND / res))
