"""Boxes as a detector learns them: a Gaussian around the pixels of each centre, and in each pixel of it the distances
to the four sides, as in TTFNet (Liu et al. 2020, https://arxiv.org/abs/1909.00700). Of oriented boxes the distances are
those of a frame that is turned with the box, and the angle stands beside them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

HEAT, INDEX, SIDES = 0, 1, slice(2, 6)
"""Channels of what is rendered: heat from 0 to 1, and 1 only in the pixels of a centre; index of the class, `IGNORE`
where nothing is known; pixels to north, south, west, east."""
CHANNELS = 6
ANGLE = 6
"""One channel more, of oriented boxes: radians from east towards south."""
NUMBER, OUTLINE = 6, 7
"""Two channels more, of objects with outlines, which count from 1 in a scene: which of them the sides in this pixel are
of, and which one's outline holds the middle of this pixel; 0 where there is none."""
SPREAD = 0.54
"""Share of a box that its Gaussian covers, three standard deviations to each side."""
NEAR = 1e-4
"""Pixels; what is nearer is at the same place."""


def box_channels(channels: int) -> slice:
    """Those that tell of a box, of so many: its sides, and the angle of an oriented one."""
    return slice(SIDES.start, SIDES.stop + (channels == ANGLE + 1))


_Part = tuple[slice, slice, NDArray[np.float32], tuple[NDArray[np.float64], ...]]
"""Rows and columns around a box, its heat there, and how far its four sides are."""


def render(boxes: NDArray[np.float64], shape: tuple[int, int], elsewhere: int = 0) -> NDArray[np.float32]:
    """(6, y, x) float32 of boxes (n, 5): index of the class, top, left, bottom, right in pixels.

    With an angle, boxes (n, 6) that are turned by it about their middle, it is (7, y, x).

    A pixel is of the box whose Gaussian is highest there. Of two boxes whose centres share a pixel the smaller is kept.
    A box whose centre lies outside leaves what of its Gaussian lies inside. ``elsewhere`` is the index where no box is.
    """
    oriented = boxes.shape[1] == CHANNELS
    out = np.zeros((CHANNELS + oriented, *shape), np.float32)
    out[INDEX] = elsewhere
    sizes = (boxes[:, 3] - boxes[:, 1]) * (boxes[:, 4] - boxes[:, 2])
    largest_first: list[list[float]] = boxes[np.argsort(-sizes, kind="stable")].tolist()
    for index, *box in largest_first:
        rows, cols, heat, sides = _oriented(box, shape) if oriented else _upright(box, shape)
        part = out[:, rows, cols]
        mine = (heat >= part[HEAT]) & (heat > 0)
        values: list[NDArray[np.floating]] = [
            heat,
            np.full_like(heat, index),
            *sides,
            *(np.full_like(heat, a) for a in box[4:]),
        ]
        for channel, value in zip(part, values, strict=True):
            channel[mine] = value[mine]
    return out


def _upright(box: Sequence[float], shape: tuple[int, int]) -> _Part:
    top, left, bottom, right = box
    rows, dy = _axis(top, bottom, shape[0])
    cols, dx = _axis(left, right, shape[1])
    y, x = np.mgrid[rows, cols] + 0.5
    return rows, cols, (dy[:, None] * dx[None]).astype(np.float32), (y - top, bottom - y, x - left, right - x)


def _oriented(box: Sequence[float], shape: tuple[int, int]) -> _Part:
    top, left, bottom, right, angle = box
    row, col, tall, wide = (top + bottom) / 2, (left + right) / 2, (bottom - top) / 2, (right - left) / 2
    cos, sin = np.cos(angle), np.sin(angle)
    reach = abs(tall * cos) + abs(wide * sin), abs(wide * cos) + abs(tall * sin)
    rows, dy = _axis(row - reach[0], row + reach[0], shape[0])
    cols, dx = _axis(col - reach[1], col + reach[1], shape[1])
    y, x = np.mgrid[rows, cols] + 0.5
    right_of, below = (x - col) * cos + (y - row) * sin, (y - row) * cos - (x - col) * sin
    heat = np.exp(-((right_of / _sigma(wide)) ** 2 + (below / _sigma(tall)) ** 2) / 2).astype(np.float32)
    heat[(np.abs(right_of) > max(SPREAD * wide, 0.5)) | (np.abs(below) > max(SPREAD * tall, 0.5))] = 0
    heat[np.ix_(dy == 1, dx == 1)] = 1  # the pixels that hold the centre
    others = heat == 1
    others[np.ix_(dy == 1, dx == 1)] = False
    heat[others] = np.nextafter(np.float32(1), np.float32(0))
    return rows, cols, heat, (tall + below, tall - below, wide + right_of, wide - right_of)


def _sigma(half: float) -> float:
    """Of the Gaussian of a box that reaches so far to each side."""
    return max(SPREAD * half / 3, 1 / 3)


def _axis(low: float, high: float, length: int) -> tuple[slice, NDArray[np.float64]]:
    """Pixels of the Gaussian along an axis, inside the box, and its values there.

    1 in the pixels that hold the centre: of an even number of pixels two, so that a turned box has turned centres.
    """
    centre, half = (low + high) / 2, SPREAD * (high - low) / 2
    first = int(np.ceil(centre - max(half, 0.5) - 0.5 - NEAR))
    last = int(np.floor(centre + max(half, 0.5) - 0.5 + NEAR))
    at = slice(*np.clip([first, last + 1], 0, length).tolist())
    off = np.abs(np.arange(at.start, at.stop) + 0.5 - centre) - 0.5
    return at, np.exp(-((np.where(off < NEAR, 0, off) / max(half / 3, 1 / 3)) ** 2) / 2)
