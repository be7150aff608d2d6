"""One tile of the left picture: rows of both pictures along the epipolar lines, and the way back to the ground.

Tiles lie on a lattice of their own, anchored to row 0, column 0 of the left sensor image, so that what is matched never
depends on the block of a run that asks. Within a tile sensors are affine to a hundredth of a pixel (de Franchis et al.
2014, https://doi.org/10.5194/isprsannals-II-3-49-2014), so an affine fundamental matrix fitted to virtual matches
through both sensors at several heights rectifies it, and polynomials of third degree triangulate it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from geoml.cube.resize import opencv
from geoml.cube.stereo.pair import Pair
from geoml.errors import DataError, InputError
from geoml.io.rpc import Floats

CORE = 320
"""Pixels of the left picture along each side of a tile whose heights it gives."""
MARGIN = 48
"""Pixels around them that are matched too: what paths and windows look at. What lies further has no say."""
DEPTH = 512
"""Disparities of a tile at most, which bounds its memory: more means heights that are known too badly."""
LATTICE = 9
"""Places along each side of a tile where sensors are asked."""
LEVELS = 5
"""Heights at each of them."""
SMALLEST = 64
"""Pixels along each side that are matched at least, for a crop may have a few pixels of a tile only."""
EDGE = 8
"""Pixels around the left picture to which tiles reach: beyond it its RPC may be valid no more."""
BENT = 0.3
"""Pixels that a tile may deviate from affine across the epipolar lines."""
MISFIT = 0.02
"""Pixels, as their metres of height, and metres that the polynomials may miss what the sensors say; the larger one."""

ToPlane = Callable[[Floats, Floats], tuple[Floats, Floats]]
"""x, y (n,) in metres of the plane of a run of lon, lat (n,) in degrees."""


@dataclass(frozen=True)
class Polynomial:
    """Of third degree in three variables, each brought to -1..1 by ``middle`` and ``half`` (3,)."""

    middle: Floats
    half: Floats
    weights: Floats

    @classmethod
    def fitted(cls, places: Floats, values: Floats) -> tuple[Polynomial, float]:
        """Through ``values`` (m, n) at ``places`` (3, n), and by how much it misses one at most."""
        low, high = places.min(1), places.max(1)
        made = cls((low + high) / 2, np.maximum((high - low) / 2, 1e-9), np.zeros((len(values), 20)))
        weights = np.linalg.lstsq(made._terms(places).T, values.T, rcond=None)[0].T
        full = cls(made.middle, made.half, np.asarray(weights, np.float64))
        return full, float(np.abs(full(places) - values).max())

    def _terms(self, places: Floats) -> Floats:
        x, y, z = (places - self.middle[:, None]) / self.half[:, None]
        one = np.ones_like(x)
        return np.stack([
            one, x, y, z, x * x, x * y, x * z, y * y, y * z, z * z,
            x * x * x, x * x * y, x * x * z, x * y * y, x * y * z, x * z * z, y * y * y, y * y * z, y * z * z,
            z * z * z,
        ])  # fmt: skip

    def __call__(self, places: Floats) -> Floats:
        """(m, n) at ``places`` (3, n)."""
        # a plain sum in a fixed order: what a matrix product gives may depend on how many places are asked at once
        out = np.zeros((len(self.weights), places.shape[1]))
        for weight, term in zip(self.weights.T, self._terms(places), strict=True):
            out += weight[:, None] * term
        return out


@dataclass(frozen=True, eq=False)
class Tile:
    """The geometry of a tile, in its rectified frame of ``shape`` (rows, columns).

    ``to_left`` and ``to_right`` (2, 3) take (1, x, y) of the frame to (row, column) of a sensor image; a pixel of the
    left frame at x matches the right one at x minus its disparity, which is ``first`` to ``first + depth - 1`` and
    grows with height. ``solve`` takes (x, y, disparity) to height and ``place`` (x, y, height) to x, y of the plane.
    """

    row: int
    column: int
    shape: tuple[int, int]
    to_left: Floats
    to_right: Floats
    first: int
    depth: int
    solve: Polynomial
    place: Polynomial
    bounds: tuple[float, float, float, float]
    metres: float

    @property
    def core(self) -> tuple[int, int, int, int]:
        """First and last row (excluded), first and last column of the left sensor image whose heights it gives."""
        return self.row * CORE, (self.row + 1) * CORE, self.column * CORE, (self.column + 1) * CORE

    @cached_property
    def left_places(self) -> Floats:
        """(2, y, x) row and column of the left sensor image of each pixel of the frame."""
        y, x = np.meshgrid(np.arange(self.shape[0]), np.arange(self.shape[1]), indexing="ij")
        return np.stack([t[0] + t[1] * x + t[2] * y for t in self.to_left])

    def points(self, y: NDArray[np.integer], x: NDArray[np.integer], disparity: NDArray[np.floating]) -> Floats:
        """(3, n) x, y of the plane and metres above the ellipsoid of matched pixels (n,)."""
        there = np.stack([x, y, disparity]).astype(np.float64)
        h = self.solve(there)
        return np.concatenate([self.place(np.concatenate([there[:2], h])), h])


def tile(pair: Pair, row: int, column: int, to_plane: ToPlane) -> Tile | None:
    """The tile of that place on the lattice; None if heights are unknown or one of the pictures does not reach.

    Raises InputError for heights that need more than `DEPTH` disparities, DataError if the sensors are not affine
    over a tile or the places lie beyond their validity.
    """
    sides = []
    for start, first, size in zip((row * CORE, column * CORE), pair.left.first, pair.left.shape, strict=True):
        if start >= first + size or start + CORE <= first:
            return None
        begin, end = max(start - MARGIN, first - EDGE), min(start + CORE + MARGIN, first + size + EDGE)
        more = max(0, SMALLEST - (end - begin))
        sides.append(np.linspace(begin - more // 2, end + more - more // 2 - 1, LATTICE))
    rows, columns = (a.ravel() for a in np.meshgrid(*sides, indexing="ij"))
    h = pair.ground(rows, columns)[2]
    if not np.isfinite(h).any():
        return None
    h = np.where(np.isfinite(h), h, np.nanmean(h))
    levels = np.linspace(-pair.heights.below, pair.heights.above, LEVELS)
    seen = [pair.across(rows, columns, h + level) for level in levels]
    if not any(_reaches(pair, s) for s in seen):
        return None
    lefts = np.tile(np.stack([rows, columns]), LEVELS)
    rights = np.concatenate(seen, axis=1)
    frame = _Frame.fitted(lefts, rights, (rows, columns), pair.across(rows, columns, h))
    x, y = frame.left(lefts)
    bent = float(np.abs(y - frame.right(rights)[1]).max())
    if bent > BENT:
        raise DataError(f"stereo: {pair.left.name} and {pair.right.name} bend by {bent:.2f} pixels within a tile")
    disparity = x - frame.right(rights)[0]
    first, last = int(np.floor(disparity.min())) - 2, int(np.ceil(disparity.max())) + 2
    if last - first + 1 > DEPTH:
        raise InputError(
            f"stereo: the heights around {h.mean():.0f} m, {pair.heights.below:g} m below and {pair.heights.above:g} m"
            f" above, need {last - first + 1} disparities; at most {DEPTH}: give a DEM, a finer one or a smaller margin"
        )
    corner = np.floor(np.array([x.min(), y.min()]))
    shape = (int(np.ceil(y.max() - corner[1])) + 1, int(np.ceil(x.max() - corner[0])) + 1)
    # where heights are asked at the same places of the frame and at evenly spaced heights of the whole tile
    low, high = float(h.min() - pair.heights.below), float(h.max() + pair.heights.above)
    return _solved(pair, frame, (row, column), corner, shape, (first, last), (low, high), to_plane)


def _reaches(pair: Pair, places: Floats) -> bool:
    """Whether the box around (2, n) places meets the file of the right picture."""
    each = zip(places.min(1), places.max(1), pair.right.first, pair.right.shape, strict=True)
    return all(low < first + size and high >= first for low, high, first, size in each)


@dataclass(frozen=True, eq=False)
class _Frame:
    """Axes (2, 2) of the left sensor image with their origin (2,), and the affine map (2, 3) of the right one."""

    axes: Floats
    origin: Floats
    matrix: Floats

    @classmethod
    def fitted(cls, lefts: Floats, rights: Floats, base: tuple[Floats, Floats], on_surface: Floats) -> _Frame:
        """From virtual matches (2, n) at several heights, and those (2, m) on the coarse surface at ``base``."""
        origin, other = lefts.mean(1), rights.mean(1)
        both = np.concatenate([lefts - origin[:, None], rights - other[:, None]])
        normal = np.linalg.svd(both @ both.T)[0][:, -1]  # the affine epipolar constraint: normal . (left, right) = 0
        size = float(np.hypot(*normal[:2]))
        if size < 1e-6 or float(np.hypot(*normal[2:])) < 1e-6:
            raise DataError("stereo: the two views have no epipolar lines here")
        down = normal[:2] / size
        row_of = -normal[2:] / size
        along = np.array([-down[1], down[0]])
        start = np.stack(base) - origin[:, None]
        matched = on_surface - other[:, None]
        design = np.column_stack([np.ones(matched.shape[1]), matched.T])
        column_of = np.linalg.lstsq(design, along @ start, rcond=None)[0]
        matrix = np.array([column_of, [0.0, *row_of]])
        matrix[:, 0] -= matrix[:, 1:] @ other
        frame = cls(np.stack([along, down]), origin, matrix)
        x, far = frame.left(lefts)[0], frame.right(rights)[0]
        count = len(base[0])
        if (x - far)[-count:].mean() < (x - far)[:count].mean():  # disparities are to grow with height
            return cls(-frame.axes, origin, -frame.matrix)
        return frame

    def left(self, places: Floats) -> Floats:
        """(2, n) x, y of (2, n) row, column of the left sensor image."""
        return np.asarray(self.axes @ (places - self.origin[:, None]))

    def right(self, places: Floats) -> Floats:
        """(2, n) x, y of (2, n) row, column of the right sensor image."""
        return np.asarray(self.matrix[:, :1] + self.matrix[:, 1:] @ places)


def _solved(
    pair: Pair,
    frame: _Frame,
    which: tuple[int, int],
    corner: Floats,
    shape: tuple[int, int],
    disparities: tuple[int, int],
    heights: tuple[float, float],
    to_plane: ToPlane,
) -> Tile:
    back = np.linalg.inv(frame.axes)
    to_left = np.column_stack([frame.origin + back @ corner, back])
    forth = np.linalg.inv(frame.matrix[:, 1:])
    to_right = np.column_stack([forth @ (corner - frame.matrix[:, 0]), forth])
    x, y, h = (
        a.ravel()
        for a in np.meshgrid(
            np.linspace(0, shape[1] - 1, LATTICE), np.linspace(0, shape[0] - 1, LATTICE), np.linspace(*heights, LEVELS)
        )
    )
    row, column = to_left @ np.stack([np.ones_like(x), x, y])
    lon, lat = pair.left.sensor.inverse(row, column, h)
    far = frame.right(pair.right.sensor.forward(lon, lat, h))[0] - corner[0]
    plane = np.stack(to_plane(lon, lat))
    if not np.isfinite(plane).all():
        raise DataError(f"stereo: the plane of the run does not cover {pair.left.name}")
    solve, missed = Polynomial.fitted(np.stack([x, y, x - far]), h[None])
    place, beside = Polynomial.fitted(np.stack([x, y, h]), plane)
    metres = (heights[1] - heights[0]) / float(np.ptp((x - far).reshape(-1, LEVELS), axis=1).mean())
    if max(missed, beside) > MISFIT * max(1.0, metres):
        raise DataError(
            f"stereo: heights of a tile of {pair.left.name} are off by {max(missed, beside):.3f} m; expected sensors"
            f" that are smooth to {MISFIT * max(1.0, metres):.3f} m"
        )
    bounds = (float(plane[0].min()), float(plane[1].min()), float(plane[0].max()), float(plane[1].max()))
    first, last = disparities
    return Tile(*which, shape, to_left, to_right, first, last - first + 1, solve, place, bounds, metres)


@dataclass(frozen=True, eq=False)
class TileViews:
    """Both pictures in the frame of a tile: (y, x) float32 of left, and of right with ``depth - 1`` columns more.

    A pixel of the left view at column x and disparity index k is column ``x + depth - 1 - k`` of the right view.
    ``known`` are both with True where there was data; what is not known is 0.
    """

    left: NDArray[np.float32]
    right: NDArray[np.float32]
    left_known: NDArray[np.bool_]
    right_known: NDArray[np.bool_]


def views(pair: Pair, made: Tile) -> TileViews:
    """Both pictures resampled by bicubic interpolation. Raises what their readers raise, MissingExtra."""
    height, width = made.shape
    # the right view begins at the column that the first pixel matches at the last disparity
    start = -(made.first + made.depth - 1)
    moved = made.to_right.copy()
    moved[:, 0] += moved[:, 1] * start
    left = _resampled(pair.left.window, made.to_left, (height, width))
    right = _resampled(pair.right.window, moved, (height, width + made.depth - 1))
    return TileViews(left[0], right[0], left[1], right[1])


def _resampled(
    window: Callable[[int, int, int, int], NDArray[np.float32]], affine: Floats, shape: tuple[int, int]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    cv2 = opencv()
    corners = affine @ np.array([[1, 1, 1, 1], [0, shape[1] - 1, 0, shape[1] - 1], [0, 0, shape[0] - 1, shape[0] - 1]])
    (top, left), (bottom, right) = np.floor(corners.min(1)).astype(int) - 3, np.ceil(corners.max(1)).astype(int) + 4
    data = window(top, bottom, left, right)
    known = np.isfinite(data)
    # OpenCV has (x, y) of the source for (x, y) of the result
    matrix = np.array(
        [[affine[1, 1], affine[1, 2], affine[1, 0] - left], [affine[0, 1], affine[0, 2], affine[0, 0] - top]]
    )
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    size = (shape[1], shape[0])
    values = cv2.warpAffine(np.where(known, data, 0), matrix, size, flags=flags)
    full = cv2.erode(known.view(np.uint8), np.ones((5, 5), np.uint8), borderValue=0)  # all that a value is made of
    inside = cv2.warpAffine(full, matrix, size, flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP)
    return np.where(inside > 0, values, 0).astype(np.float32), np.asarray(inside > 0)
