"""Where buildings stand, by the classes of points."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from geoml.cube.clouds.cells import Flags, cell_of, counted
from geoml.cube.clouds.morphology import dilated
from geoml.grid.plane import Plane, Window

if TYPE_CHECKING:
    from geoml.io.points.cloud import Cloud

BUILDING = 6
NARROW = 0.5
"""Metres: what is less than twice as wide, by whole cells, is a wall or an edge and no building."""


def reach(res: float) -> float:
    """Metres around a window whose points `footprints` needs."""
    return (2 * int(NARROW / res) + 2) * res


def footprints(cloud: Cloud, plane: Plane, window: Window) -> Flags:
    """(y, x) True where at least half of a cell's points are of buildings (class 6), or an empty cell lies among such.

    ``cloud`` holds all points of the window and `reach` metres around it. Without classes there are none: height and
    smoothness alone took trees for a third of what they found.
    """
    radius = int(NARROW / plane.res)
    margin = 2 * radius + 2
    wide = window.expand(margin)
    cell = cell_of(plane, wide, cloud.x, cloud.y)
    count = counted(cell, wide)
    built = (count > 0) & (2 * counted(cell, wide, cloud.classification == BUILDING) >= count)
    built |= (count == 0) & _eroded(dilated(built, 1), 1)
    return dilated(_eroded(built, radius), radius)[window.slices(wide)]


def _eroded(some: Flags, cells: int) -> Flags:
    return np.asarray(~dilated(~some, cells))
