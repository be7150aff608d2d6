"""A square chip rotated about its centre by any angle, and scaled: cut from a larger one, so no corner is empty.

Coordinates are x to the right and y down, whole numbers are edges of pixels; angles are radians from east towards
south, as those of oriented boxes (`geoml.vector.boxes`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T", bound=np.generic)
TINY = 9
"""Decimals of a pixel; what cosines of quarter turns leave behind them is nothing."""


@dataclass(frozen=True)
class Rotation:
    """A chip of ``size`` pixels that shows the middle of a larger one turned by ``angle``, ``scale`` times as large."""

    size: int
    angle: float = 0.0
    scale: float = 1.0

    @property
    def margin(self) -> int:
        """Pixels that the larger chip has on every side of the smaller one, for corners and for interpolation."""
        reach = self.size / 2 * (abs(math.cos(self.angle)) + abs(math.sin(self.angle))) / self.scale
        return max(0, math.ceil(round(reach - self.size / 2, TINY)) + 1)

    def points(self, xy: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n, 2) x, y in the chip of points (n, 2) of the larger one."""
        x, y = (xy - (self.size / 2 + self.margin)).T * self.scale
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        return np.column_stack([x * cos - y * sin, x * sin + y * cos]) + self.size / 2

    def nearest(self, array: NDArray[T]) -> NDArray[T]:
        """(…, size, size): of each pixel the value of the pixel of the larger chip (…, y, x) that holds its centre."""
        row, col = (np.floor(at + 0.5).astype(np.intp) for at in self._sources)
        found: NDArray[T] = array[..., row, col]
        return found

    def bilinear(
        self, image: NDArray[np.number], valid: NDArray[np.bool_]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Image (band, size, size), interpolated between the four nearest pixels, and where it is valid: where all of
        them are that count. ``image`` (band, y, x) and ``valid`` (y, x) are of the larger chip."""
        first = [np.floor(at).astype(np.intp) for at in self._sources]
        after = [at - start for at, start in zip(self._sources, first, strict=True)]
        found = np.zeros((len(image), self.size, self.size), np.float32)
        known = np.ones((self.size, self.size), np.bool_)
        for step in product((0, 1), repeat=2):
            row, col = (start + k for start, k in zip(first, step, strict=True))
            down, right = (part if k else 1 - part for part, k in zip(after, step, strict=True))
            weight = down * right
            found += image[:, row, col].astype(np.float32) * weight.astype(np.float32)
            known &= valid[row, col] | (weight == 0)
        return np.where(known, found, np.float32(0)), known

    @cached_property
    def _sources(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Row and column (size, size) of each pixel's centre in the larger chip; whole numbers are centres there."""
        off = np.arange(self.size) + 0.5 - self.size / 2
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        middle = self.size / 2 + self.margin - 0.5
        row = (off[:, None] * cos - off[None] * sin) / self.scale + middle
        col = (off[None] * cos + off[:, None] * sin) / self.scale + middle
        return row.round(TINY), col.round(TINY)
