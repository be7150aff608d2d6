"""Semi-global matching along eight paths (Hirschmueller 2008, https://doi.org/10.1109/TPAMI.2007.1166), in numpy.

All costs are bytes. What a path carries is at most the largest cost plus ``P2`` once its least value is taken away, so
that three paths fit into one byte: thirty-two pixel-disparities are one instruction, and a volume of W x H x D takes
4 W H D bytes in all. Rows are planes (disparity, column) in one piece of memory: the neighbours of a cell are the same
plane a few bytes further, and each step is one pass over it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geoml.cube.resize import opencv
from geoml.errors import InputError

MAX_COST = 24
"""Of one pixel at one disparity: the bits of a census of 5 x 5."""
P1 = 6
"""Added where the disparity changes by one pixel from one pixel of a path to the next."""
P2 = 48
"""Added where it changes by more."""
BEYOND = 160
"""Stands for 'no such cell': more than any path carries, and less than 256 with P1 added."""
UNKNOWN = np.iinfo(np.uint16).max

Bytes = NDArray[np.uint8]

assert 3 * (MAX_COST + P2) <= 255
assert MAX_COST + P2 < BEYOND <= 255 - P1


@dataclass(frozen=True, eq=False)
class Disparities:
    """Of each pixel (y, x) of the left picture, as an index into the volume.

    ``index`` int32 has the least total; ``position`` float32 is that with its fraction; ``other`` int32 is what the
    right picture says where the pixel matches; ``total`` and ``bend`` float32 are the least total and by how much its
    two neighbours lie above it, together.
    """

    index: NDArray[np.int32]
    position: NDArray[np.float32]
    other: NDArray[np.int32]
    total: NDArray[np.float32]
    bend: NDArray[np.float32]

    @property
    def agree(self) -> NDArray[np.bool_]:
        """Where left and right say the same to one pixel, and the least total is inside of the volume."""
        return np.asarray((np.abs(self.index - self.other) <= 1) & np.isfinite(self.position))


class _Paths:
    """Paths that come from the row before, at ``steps`` columns beside (-1, 0 or 1), over planes (disparity, column).

    Columns have one beside each end that belongs to no pixel.
    """

    def __init__(self, depth: int, width: int, steps: tuple[int, ...]) -> None:
        self.shape, self.steps, self.n = (depth, width), steps, depth * width
        # one plane of disparities above and below, one cell before and behind
        self.before = [np.full((depth + 2) * width + 2, BEYOND, np.uint8) for _ in steps]
        self.cells = [b[1 + width : 1 + width + self.n] for b in self.before]
        for cells in self.cells:
            cells[:] = 0
            self._close(cells)
        self.now = np.empty(self.n, np.uint8)
        self.least = np.empty(width, np.uint8)
        self.most = np.full(self.n, P2, np.uint8)  # numpy's minimum with a scalar is ten times slower than with this

    def _close(self, cells: Bytes) -> None:
        plane = cells.reshape(self.shape)
        plane[:, 0] = 0  # a path that begins here pays what the pixel costs, as in the first row
        plane[:, -1] = 0

    def row(self, costs: Bytes, out: Bytes) -> None:
        """Go on to the next row with ``costs``; ``out`` becomes the sum over the paths. Both flat."""
        depth, width = self.shape
        n, now = self.n, self.now
        for k, step in enumerate(self.steps):
            before, start = self.before[k], 1 + width + step
            np.minimum(before[start - width : start - width + n], before[start + width : start + width + n], out=now)
            np.add(now, np.uint8(P1), out=now)
            np.minimum(now, before[start : start + n], out=now)
            np.minimum(now, self.most, out=now)
            np.add(now, costs, out=now)
            if k:
                np.add(out, now, out=out)
            else:
                out[:] = now
            plane = now.reshape(self.shape)
            np.minimum.reduce(plane, axis=0, out=self.least)
            np.subtract(plane, self.least, out=self.cells[k].reshape(depth, width))
            if step:
                self._close(self.cells[k])


def aggregate(costs: Bytes) -> Disparities:
    """Disparities of costs (y, disparity, x) uint8 of at most ``MAX_COST``.

    The right picture's pixel of column x at disparity index k is x - k, plus a constant: so its own best match is found
    in the same volume. Memory is four times that of ``costs``. Raises InputError for other arrays, MissingExtra.
    """
    if costs.dtype != np.uint8 or costs.ndim != 3 or costs.shape[1] < 3:
        raise InputError(f"costs: {costs.shape} {costs.dtype}; expected (y, disparity, x) uint8 of three or more")
    height, depth, columns = costs.shape
    width = columns + 2
    along = _along_rows(costs, width)
    wide = np.zeros((height, depth, width), np.uint8)
    wide[:, :, 1:-1] = costs
    down = np.empty_like(wide)
    paths = _Paths(depth, width, (0, -1, 1))
    for y in range(height):
        paths.row(wide[y].reshape(-1), down[y].reshape(-1))
    paths = _Paths(depth, width, (0, -1, 1))
    up = np.empty(depth * width, np.uint8)
    chosen = _Chosen(height, depth, width)
    for y in range(height - 1, -1, -1):
        paths.row(wide[y].reshape(-1), up)
        chosen.row(y, along[y], down[y], up.reshape(depth, width))
    return chosen.done()


def _along_rows(costs: Bytes, width: int) -> Bytes:
    """(y, disparity, width) sum of the two paths along rows: those along columns of the volume turned over."""
    cv2 = opencv()
    height, depth, columns = costs.shape
    turned = np.zeros((columns, depth, height), np.uint8)
    for k in range(depth):
        turned[:, k] = cv2.transpose(costs[:, k])
    there, back = np.empty(depth * height, np.uint8), np.empty_like(turned)
    paths = _Paths(depth, height, (0,))
    for x in range(columns):
        paths.row(turned[x].reshape(-1), back[x].reshape(-1))
    paths = _Paths(depth, height, (0,))
    for x in range(columns - 1, -1, -1):
        paths.row(turned[x].reshape(-1), there)
        np.add(back[x].reshape(-1), there, out=back[x].reshape(-1))
    del turned
    out = np.zeros((height, depth, width), np.uint8)
    for k in range(depth):
        out[:, k, 1:-1] = cv2.transpose(back[:, k])
    return out


class _Chosen:
    """The least total of each pixel of either picture, row by row."""

    def __init__(self, height: int, depth: int, width: int) -> None:
        self.columns, self.depth = width - 2, depth
        shape = (height, self.columns)
        self.index, self.other = np.empty(shape, np.int32), np.empty(shape, np.int32)
        self.around = np.empty((3, *shape), np.uint16)
        self.spare = depth - 1
        self.sums = np.full((depth, self.columns + 2 * self.spare), UNKNOWN, np.uint16)
        self.inner = self.sums[:, self.spare : self.spare + self.columns]
        one = self.sums.itemsize
        across = self.sums.shape[1] * one
        # row k of it is shifted by k columns: columns of it are pixels of the right picture
        self.right = np.lib.stride_tricks.as_strided(
            self.sums, (depth, self.columns + self.spare), (across + one, one), writeable=False
        )
        kind = np.uint8 if depth <= 255 else np.uint16
        self.names = np.arange(depth, dtype=kind)[:, None]
        self.beside = np.empty(self.right.shape, kind)
        self.at = np.arange(self.columns)
        self.flat = self.sums.reshape(-1)

    def row(self, y: int, *parts: Bytes) -> None:
        np.add(parts[0][:, 1:-1], parts[1][:, 1:-1], out=self.inner, dtype=np.uint16)
        np.add(self.inner, parts[2][:, 1:-1], out=self.inner)
        best, theirs = self._first_least(self.inner), self._first_least(self.right)
        self.index[y] = best
        # pixel x at index k is column x - k of the right picture, which is column x - k + spare of `right`
        self.other[y] = theirs[self.at - best + self.spare]
        line = self.sums.shape[1]
        place = np.minimum(np.maximum(best, 1), self.depth - 2) * line + self.at + self.spare
        for k, step in enumerate((-line, 0, line)):
            self.flat.take(place + step, out=self.around[k, y], mode="clip")

    def _first_least(self, totals: NDArray[np.uint16]) -> NDArray[np.int32]:
        """Of each column the row of its least number, the first of equal ones; many times faster than ``argmin``."""
        beside = self.beside[:, : totals.shape[1]]
        least = np.minimum.reduce(totals, axis=0)
        if beside.itemsize == 1:  # no need to turn truth into bytes
            np.not_equal(totals, least, out=beside.view(np.bool_))
        else:
            np.not_equal(totals, least, out=beside, casting="unsafe")
        np.negative(beside, out=beside)  # all bits where it is not the least
        np.bitwise_or(beside, self.names, out=beside)
        return np.asarray(np.minimum.reduce(beside, axis=0), np.int32)

    def done(self) -> Disparities:
        low, mid, high = self.around.astype(np.float32)
        inside = (self.index > 0) & (self.index < self.depth - 1)
        position = np.where(inside, self.index + _fraction(low, mid, high), np.nan).astype(np.float32)
        return Disparities(self.index, position, self.other, mid, low + high - 2 * mid)


def _fraction(low: NDArray[np.float32], mid: NDArray[np.float32], high: NDArray[np.float32]) -> NDArray[np.float32]:
    """Where between its neighbours the least of three equally spaced values lies, -0.5 to 0.5: two lines of one slope,
    which fit costs that count bits better than a parabola does (Shimizu and Okutomi 2001)."""
    steep = np.maximum(low, high) - mid
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(steep > 0, (low - high) / (2 * steep), np.float32(0)).astype(np.float32)
