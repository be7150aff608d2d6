"""Boxes as a detector learns them: a Gaussian around the pixels of each centre, and in each pixel of it the distances
to the four sides, as in TTFNet (Liu et al. 2020, https://arxiv.org/abs/1909.00700).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

HEAT, INDEX, SIDES = 0, 1, slice(2, 6)
"""Channels of what is rendered: heat from 0 to 1, and 1 only in the pixels of a centre; index of the class, `IGNORE`
where nothing is known; pixels to north, south, west, east."""
CHANNELS = 6
SPREAD = 0.54
"""Share of a box that its Gaussian covers, three standard deviations to each side."""
NEAR = 1e-4
"""Pixels; what is nearer is at the same place."""


def render(boxes: NDArray[np.float64], shape: tuple[int, int], elsewhere: int = 0) -> NDArray[np.float32]:
    """(6, y, x) float32 of boxes (n, 5): index of the class, top, left, bottom, right in pixels.

    A pixel is of the box whose Gaussian is highest there. Of two boxes whose centres share a pixel the smaller is kept.
    A box whose centre lies outside leaves what of its Gaussian lies inside. ``elsewhere`` is the index where no box is.
    """
    out = np.zeros((CHANNELS, *shape), np.float32)
    out[INDEX] = elsewhere
    sizes = (boxes[:, 3] - boxes[:, 1]) * (boxes[:, 4] - boxes[:, 2])
    for index, top, left, bottom, right in boxes[np.argsort(-sizes, kind="stable")]:
        rows, dy = _axis(top, bottom, shape[0])
        cols, dx = _axis(left, right, shape[1])
        heat = (dy[:, None] * dx[None]).astype(np.float32)
        part = out[:, rows, cols]
        mine = (heat >= part[HEAT]) & (heat > 0)
        y, x = np.mgrid[rows, cols] + 0.5
        values = heat, np.full_like(heat, index), y - top, bottom - y, x - left, right - x
        for channel, value in zip(part, values, strict=True):
            channel[mine] = value[mine]
    return out


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
