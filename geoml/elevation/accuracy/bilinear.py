"""Values of the cells of a plane at places between their centres."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geoml.grid.plane import Plane

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Between:
    """What four cells around places (n,) hold, and how far right and below of the first of them these lie, 0 to 1."""

    first: Floats
    east: Floats
    south: Floats
    both: Floats
    right: Floats
    below: Floats

    @property
    def value(self) -> Floats:
        """(n,) bilinear; NaN where one of the four is."""
        upper = self.first * (1 - self.right) + self.east * self.right
        lower = self.south * (1 - self.right) + self.both * self.right
        return np.asarray(upper * (1 - self.below) + lower * self.below)

    @property
    def gradient(self) -> Floats:
        """(n,) steepest change of the value for each cell."""
        east = (self.east - self.first) * (1 - self.below) + (self.both - self.south) * self.below
        south = (self.south - self.first) * (1 - self.right) + (self.both - self.east) * self.right
        return np.asarray(np.hypot(east, south))


def between(plane: Plane, x: Floats, y: Floats, cells: Callable[[Ints, Ints], Floats]) -> Between:
    """Around places (n,); ``cells`` gives the values of cells by rows (n,) and columns (n,) of the plane."""
    across, down = x / plane.res - plane.anchor - 0.5, -y / plane.res - plane.anchor - 0.5
    col, row = np.floor(across).astype(np.int64), np.floor(down).astype(np.int64)
    return Between(
        first=cells(row, col),
        east=cells(row, col + 1),
        south=cells(row + 1, col),
        both=cells(row + 1, col + 1),
        right=across - col,
        below=down - row,
    )
