"""Two images of the same ground: their overlap, their sensitivity to height, and pairs that have none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from geoml.cube.stereo.rpc import SensorModel
from geoml.errors import InputError
from geoml.io.rpc import Floats

FLAT = 0.02
"""Base to height below which two views are one: a pixel would be fifty times its width in height."""
LATTICE = 33
"""Places along each side of a picture where the overlap is looked at."""

LEVELS = 17
"""Heights at which it is looked at."""

Surface = Callable[[Floats, Floats], Floats]
"""Heights (n,) in metres above the ellipsoid of lon, lat (n,) in degrees; NaN where unknown."""


@dataclass(frozen=True, eq=False)
class HeightBounds:
    """Where the surface may lie: from ``below`` metres under to ``above`` metres over a coarse surface."""

    surface: Surface
    below: float
    above: float

    def __post_init__(self) -> None:
        if not (self.below >= 0 and self.above >= 0 and self.below + self.above > 0):
            raise InputError(f"heights: {self.below} m below and {self.above} m above; expected metres, not both zero")


def between(lowest: float, highest: float) -> HeightBounds:
    """Heights without a coarse surface, from ``lowest`` to ``highest`` metres above the ellipsoid."""
    if not lowest < highest:
        raise InputError(f"heights: {lowest} to {highest} m; expected the lower one first")
    return HeightBounds(lambda lon, _: np.full(lon.shape, lowest), 0.0, highest - lowest)


@dataclass(frozen=True, eq=False)
class SensorView:
    """A sensor image or a crop of it: ``first`` (row, column) is where ``shape`` (rows, columns) begins in it.

    ``read`` gives (y, x) float32 of rows and columns (start, stop, start, stop) of the *file*, NaN without data.
    """

    name: str
    sensor: SensorModel
    first: tuple[int, int]
    shape: tuple[int, int]
    read: Callable[[int, int, int, int], NDArray[np.float32]]

    def window(self, top: int, bottom: int, left: int, right: int) -> NDArray[np.float32]:
        """(y, x) of rows and columns of the *sensor image*; NaN beyond the file."""
        out = np.full((bottom - top, right - left), np.nan, np.float32)
        rows, columns = (
            (max(a, f), min(b, f + n))
            for a, b, f, n in zip((top, left), (bottom, right), self.first, self.shape, strict=True)
        )
        if rows[0] < rows[1] and columns[0] < columns[1]:
            part = self.read(*(r - self.first[0] for r in rows), *(c - self.first[1] for c in columns))
            out[rows[0] - top : rows[1] - top, columns[0] - left : columns[1] - left] = part
        return out

    def holds(self, places: Floats) -> NDArray[np.bool_]:
        """Which of (2, n) rows and columns of the sensor image lie in the file."""
        inside = [(p >= f - 0.5) & (p < f + n - 0.5) for p, f, n in zip(places, self.first, self.shape, strict=True)]
        return np.asarray(inside[0] & inside[1])


@dataclass(frozen=True, eq=False)
class Pair:
    """Two pictures and where the surface may lie."""

    left: SensorView
    right: SensorView
    heights: HeightBounds

    def shifted(self, shift: Floats) -> Pair:
        """With the right sensor moved by ``shift`` (2, 3), see `SensorModel`."""
        sensor = replace(self.right.sensor, shift=shift)
        return replace(self, right=replace(self.right, sensor=sensor))

    def ground(self, row: Floats, column: Floats) -> Floats:
        """(3, n) lon, lat and height of the coarse surface where the left picture sees it; NaN where unknown."""
        h = np.full(row.shape, self.left.sensor.rpc.offsets[4])
        lon, lat = self.left.sensor.inverse(row, column, h)
        for _ in range(3):
            known = self.heights.surface(lon, lat)
            h = np.where(np.isfinite(known), known, h)
            lon, lat = self.left.sensor.inverse(row, column, h)
        return np.stack([lon, lat, np.where(np.isfinite(known), h, np.nan)])

    def across(self, row: Floats, column: Floats, h: Floats) -> Floats:
        """(2, n) row and column of the right sensor image that see what the left one sees at (n,), ``h`` high."""
        lon, lat = self.left.sensor.inverse(row, column, h)
        return self.right.sensor.forward(lon, lat, h)


@dataclass(frozen=True)
class Overlap:
    """What two pictures share: ``share`` of the left one, ``rows`` and ``columns`` (start, stop) of its sensor image.

    ``metres`` of height move the right picture by a pixel, which is ``gsd`` metres wide; ``ratio`` is base to height.
    The surface lies between ``lowest`` and ``highest`` metres above the ellipsoid.
    """

    share: float
    rows: tuple[int, int]
    columns: tuple[int, int]
    metres: float
    ratio: float
    gsd: float
    lowest: float
    highest: float


def overlap(pair: Pair) -> Overlap:
    """What a pair shares and how well it tells heights.

    Raises InputError, naming both, for one picture or one RPC given twice, no common ground, unknown heights, and views
    from one place.
    """
    left, right = pair.left, pair.right
    names = f"{left.name} and {right.name}"
    if left.sensor.rpc.equals(right.sensor.rpc):
        raise InputError(f"stereo: {names} have the same RPC; expected two views, each with its own")
    if left.first == right.first and left.shape == right.shape and _same(left, right):
        raise InputError(f"stereo: {names} are the same picture; expected two views")
    sides = [np.linspace(f, f + n - 1, LATTICE) for f, n in zip(left.first, left.shape, strict=True)]
    row, column = (a.ravel() for a in np.meshgrid(*sides, indexing="ij"))
    h = pair.ground(row, column)[2]
    known = np.isfinite(h)
    if not known.any():
        raise InputError(f"stereo: the coarse heights are unknown over all of {left.name}")
    row, column, h = row[known], column[known], h[known]
    ends = [pair.across(row, column, h + d) for d in np.linspace(-pair.heights.below, pair.heights.above, LEVELS)]
    both = np.logical_or.reduce([right.holds(e) for e in ends])
    if not both.any():
        raise InputError(f"stereo: {names} show no common ground at the heights given")
    moved = np.hypot(*(ends[-1] - ends[0])).mean() / (pair.heights.below + pair.heights.above)
    gsd = _gsd(left.sensor, row, column, h)
    ratio = float(moved * gsd)
    if ratio < FLAT:
        raise InputError(f"stereo: {names} look from one place (base to height {ratio:.4f}); expected {FLAT} or more")
    rows, columns = ((int(p[both].min()), int(p[both].max()) + 1) for p in (row, column))
    lowest, highest = float(h.min() - pair.heights.below), float(h.max() + pair.heights.above)
    return Overlap(float(both.sum() / LATTICE**2), rows, columns, float(1 / moved), ratio, gsd, lowest, highest)


def _same(left: SensorView, right: SensorView) -> bool:
    """Whether the middle of both files holds the same numbers."""
    starts = [max(0, n // 2 - 128) for n in left.shape]
    stops = [min(n, s + 256) for n, s in zip(left.shape, starts, strict=True)]
    window = (starts[0], stops[0], starts[1], stops[1])
    return np.array_equal(left.read(*window), right.read(*window), equal_nan=True)


def _gsd(sensor: SensorModel, row: Floats, column: Floats, h: Floats) -> float:
    """Metres of ground that a pixel is wide: the square root of its mean area."""
    lon, lat = sensor.inverse(row, column, h)
    metres = np.array([111_320 * np.cos(np.radians(lat.mean())), 110_950.0])
    steps = [(sensor.inverse(row + a, column + b, h) - [lon, lat]) * metres[:, None] for a, b in ((1, 0), (0, 1))]
    return float(np.sqrt(np.abs(steps[0][0] * steps[1][1] - steps[0][1] * steps[1][0]).mean()))
