"""Masks of objects: which of 28 x 28 cells of its box an object covers (He et al.: Mask R-CNN. 2017,
https://arxiv.org/abs/1703.06870), and its outline by them.

A mask travels beside its box as a column `MASK` of numbers that hold 16 cells each, row by row, the first cell in the
lowest bit: small enough for every candidate, and no two processors see them differently.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from geoml.grid.plane import Window
from geoml.vector import boxes as upright
from geoml.vector.boxes import COLUMNS, ORIENTED, Boxes, edges

MASK = "mask"
SIDE = 28
"""Cells of a mask along each side of its box."""
BITS = 16
"""Cells in a number."""
WORDS = SIDE * SIDE // BITS
"""Numbers of a mask."""
_CHUNK = 2048
"""Masks that are traced at once."""


def packed(cells: NDArray[np.bool_]) -> NDArray[np.uint16]:
    """(n, `WORDS`) numbers of cells (n, `SIDE`, `SIDE`)."""
    bits = cells.reshape(-1, WORDS, BITS).astype(np.uint16) << np.arange(BITS, dtype=np.uint16)
    words: NDArray[np.uint16] = bits.sum(2, dtype=np.uint16)
    return words


def unpacked(words: NDArray[np.number]) -> NDArray[np.bool_]:
    """The inverse of `packed`."""
    bits = words.astype(np.int64)[:, :, None] >> np.arange(BITS) & 1
    return bits.reshape(-1, SIDE, SIDE).astype(np.bool_)


def columns_of(rows: NDArray[np.float64]) -> Boxes:
    """Boxes as columns of rows (n, 8) in the order of `COLUMNS`, (n, 9) of `ORIENTED`, or with a mask behind the
    former."""
    if rows.shape[1] <= len(ORIENTED):
        return dict(zip(ORIENTED, rows.T, strict=False))
    return {**dict(zip(COLUMNS, rows.T, strict=False)), MASK: rows[:, len(COLUMNS) :]}


def shapes(boxes: Boxes) -> NDArray[np.object_]:
    """(n,) polygons of boxes, x to the right and y down in pixels of the plane: outlines where they have masks."""
    return outlines(boxes[MASK], edges(boxes)) if MASK in boxes else upright.outlines(edges(boxes))


def outlines(words: NDArray[np.number], shape: NDArray[np.float64]) -> NDArray[np.object_]:
    """(n,) polygons of masks (n, `WORDS`) in boxes (n, 4) as `geoml.vector.boxes.edges` gives them.

    Along the edges of cells, with holes; of parts that touch at most in a corner the largest, of equal ones that of the
    highest, then leftmost cell. An empty mask leaves the box: its object was found, its form was not.
    """
    found = upright.outlines(shape)
    for first in range(0, len(shape), _CHUNK):
        part = slice(first, first + _CHUNK)
        owner, polygons = _traced(unpacked(words[part]), shape[part])
        found[first + owner] = polygons
    return found


def _traced(cells: NDArray[np.bool_], shape: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.object_]]:
    """Which masks are not empty, and the polygons of these."""
    from geoml.vector.polygonise import polygonise  # scipy, which a task that is only named does without

    step = SIDE + 1  # an empty row keeps masks apart
    stacked = np.zeros((len(cells), step, SIDE), np.uint8)
    stacked[:, :SIDE] = cells
    raster = stacked.reshape(-1, SIDE)
    parts = polygonise(raster, np.zeros_like(raster), 0, Window(0, 0, *raster.shape))
    owner = (parts.rings.bounds()[:, 1] // step).astype(np.int64)
    order = np.lexsort((-parts.pixels, owner))  # stable: equal parts stay in the order of their first cells
    mine, first = np.unique(owner[order], return_index=True)
    rings = parts.rings.take(order[first])
    at = np.repeat(mine[rings.polygon_of_ring()], np.diff(rings.ring_offsets))
    top, left, bottom, right = shape[at].T
    x, y = (rings.coords.T - [np.zeros(len(at)), at * step]) / SIDE
    return mine, rings.moved(np.column_stack([left + x * (right - left), top + y * (bottom - top)])).polygons()
