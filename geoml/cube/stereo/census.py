"""Matching cost of two pixels: bits of their census that differ (Zabih and Woodfill 1994,
https://doi.org/10.1007/BFb0028345), which know neither gain nor offset, as a mean over 3 x 3 pixels: that halves the
error on planes and costs a tenth of the time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from geoml.cube.resize import opencv
from geoml.cube.stereo.sgm import MAX_COST
from geoml.cube.stereo.tile import TileViews

RADIUS = 2
"""Pixels around the one in the middle: 24 comparisons."""

SUPPORT = (3, 3)
"""Pixels over which costs are averaged, along the disparity that is asked."""

Bytes = NDArray[np.uint8]
Costs = Callable[[TileViews, int], Bytes]
"""(y, disparity, x) uint8 of 0 to `MAX_COST` of two views and a number of disparities; see `TileViews`."""


def census(picture: NDArray[np.float32]) -> NDArray[np.uint32]:
    """(y, x) of (y, x): a bit for each of the 24 neighbours that is darker than the pixel, repeated at the edges."""
    height, width = picture.shape
    wide = np.pad(picture, RADIUS, mode="edge")
    out = np.zeros(picture.shape, np.uint32)
    for dy in range(2 * RADIUS + 1):
        for dx in range(2 * RADIUS + 1):
            if (dy, dx) != (RADIUS, RADIUS):
                out <<= 1
                out |= wide[dy : dy + height, dx : dx + width] < picture
    return out


def census_costs(views: TileViews, depth: int) -> Bytes:
    """See `Costs`: the number of bits that differ. Raises MissingExtra."""
    cv2 = opencv()
    left, right = census(views.left), census(views.right)
    height, width = left.shape
    out = np.empty((height, depth, width), np.uint8)
    for k in range(depth):
        start = depth - 1 - k
        out[:, k] = cv2.blur(np.bitwise_count(left ^ right[:, start : start + width]), SUPPORT)
    return blinded(out, views)


def blinded(costs: Bytes, views: TileViews) -> Bytes:
    """The same costs, changed in place, where one of both is not known: the largest where it is the right one, and
    equal ones where it is the left one, so that what is around decides."""
    _, depth, width = costs.shape
    if not views.right_known.all():
        for k in range(depth):
            start = depth - 1 - k
            costs[:, k][~views.right_known[:, start : start + width]] = MAX_COST
    if not views.left_known.all():
        np.copyto(costs, MAX_COST // 2, where=~views.left_known[:, None, :])
    return costs
