"""Polygons of a class raster, traced with whole-array operations.

Regions are 4-connected. Each region becomes one valid polygon with corner vertices only: where a region meets itself
at a corner, the ring is cut there (a hole touches the outer ring in a point), as the OGC Simple Features rules ask.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from geoml.errors import InputError
from geoml.grid.plane import Window
from geoml.vector.polygons import Polygons
from geoml.vector.rings import Rings
from geoml.vector.walk import inverse, lowest, walk

Bytes = NDArray[np.uint8]
Index = NDArray[np.int64]
Mask = NDArray[np.bool_]

# Four kinds of sides, by the direction of travel with the region on the right hand: east along the top of a region,
# south along its right, west along its bottom, north along its left. Steps are (row, column).
FORWARD = np.array([[0, 1], [1, 0], [0, -1], [-1, 0]])
FORWARD_LEFT = np.array([[-1, 1], [1, 1], [1, -1], [-1, -1]])


def polygonise(classes: Bytes, confidence: Bytes, nodata: int, window: Window, outside: Mask | None = None) -> Polygons:
    """One polygon for every 4-connected region of equal class.

    Args:
        classes: (h, w) uint8; ``nodata`` belongs to no polygon.
        confidence: (h, w) uint8, summed over each polygon.
        nodata: 0..255.
        window: where the arrays lie on the plane; its shape is (h, w).
        outside: (h, w) True where a pixel is unlike the training data, counted over each polygon; None: not known.

    Raises InputError if the shapes or dtypes differ from that.
    """
    if classes.dtype != np.uint8 or confidence.dtype != np.uint8:
        raise InputError(f"classes, confidence: {classes.dtype}, {confidence.dtype}; expected uint8 for both")
    if not classes.shape == confidence.shape == window.shape:
        raise InputError(f"classes, confidence: {classes.shape}, {confidence.shape}; expected {window.shape}")
    valid = classes != nodata
    if not valid.any():
        return Polygons(
            Rings.of(np.empty(0, object)), np.empty(0, np.uint8), np.empty(0, np.int64), np.empty(0), np.empty(0)
        )
    across = np.ones((classes.shape[0], classes.shape[1] + 1), bool)  # a class changes across this vertical edge
    across[:, 1:-1] = classes[:, 1:] != classes[:, :-1]
    down = np.ones((classes.shape[0] + 1, classes.shape[1]), bool)  # … across this horizontal edge
    down[1:-1] = classes[1:] != classes[:-1]

    regions = _Regions(across[:, :-1], ~down[1:-1])
    sides = _sides(across, down, valid)
    following = _following(sides, _turns_left(sides, classes, regions), classes.shape[1] + 1)
    horizontal, following = _every_other(following, sides.sizes)
    # the topmost side of a region has the lowest number of its sides, and it belongs to the outer ring
    region, order, opens = walk(following, lambda side: regions.at(sides.pixel[horizontal[side]]))
    order = horizontal[order]
    value = classes.ravel()[regions.first]
    kept = np.flatnonzero(value != nodata)
    weights = np.add.reduceat(confidence.ravel(), regions.starts, dtype=np.int64)
    unlike = (
        np.full(len(regions.starts), np.nan)
        if outside is None
        else np.add.reduceat(outside.ravel(), regions.starts, dtype=np.int64)
    )
    lengths = np.diff(regions.starts, append=classes.size)
    corners = np.column_stack([sides.x0[order], sides.y0[order], sides.x1[order], sides.y1[order]]).reshape(-1, 2)
    corners += [window.x0, window.y0]
    return Polygons(
        rings=_assemble(corners, 2 * opens, np.searchsorted(region, np.append(kept, regions.count))),
        value=value[kept],
        pixels=np.bincount(regions.of_run, lengths, regions.count)[kept].astype(np.int64),
        confidence_sum=np.bincount(regions.of_run, weights, regions.count)[kept].astype(np.float64),
        outside=np.bincount(regions.of_run, unlike, regions.count)[kept].astype(np.float64),
    )


class _Regions:
    """4-connected regions, kept as runs of pixels along rows (a label image would cost four bytes a pixel)."""

    def __init__(self, begins: Mask, same_below: Mask) -> None:
        """``begins`` (h, w): a run starts here; ``same_below`` (h - 1, w): equal class in the next row."""
        width = begins.shape[1]
        self.starts: Index = np.flatnonzero(begins)
        # two runs of neighbouring rows overlap from the later of their starts on, so that pixel stands for the pair
        upper = np.flatnonzero(same_below & (begins[:-1] | begins[1:]))
        n = len(self.starts)
        pair = self._run(upper), self._run(upper + width)
        graph = coo_array((np.ones(len(upper), np.int8), pair), shape=(n, n))
        count, of_run = connected_components(graph, directed=False)
        # number the regions by their first pixel, whatever order the graph search took
        first = lowest(of_run, count)
        order = np.argsort(first)
        self.count: int = count
        self.of_run: Index = inverse(order)[of_run]
        self.first: Index = self.starts[first[order]]

    def _run(self, pixel: Index) -> Index:
        return np.searchsorted(self.starts, pixel, "right") - 1

    def at(self, pixel: Index) -> Index:
        """Region of flat pixel indices."""
        return self.of_run[self._run(pixel)]


@dataclass(frozen=True, slots=True)
class _Sides:
    """Longest straight pieces of boundaries, kind after kind: where they start and end, and their last pixel."""

    sizes: list[int]
    y0: Index
    x0: Index
    y1: Index
    x1: Index
    pixel: Index


def _sides(across: Mask, down: Mask, valid: Mask) -> _Sides:
    width = valid.shape[1]
    # a horizontal side goes on to the next column while the region does and the row beyond differs
    row, low, high = _along_rows(down[:-1] & valid, across[:, 1:-1])
    east = row, low, row, high, row * width + high - 1
    row, low, high = _along_rows(down[1:] & valid, across[:, 1:-1])
    west = row + 1, high, row + 1, low, row * width + low
    col, low, high = _along_columns(across[:, 1:] & valid, down[1:-1])
    south = low, col + 1, high, col + 1, (high - 1) * width + col
    col, low, high = _along_columns(across[:, :-1] & valid, down[1:-1])
    north = high, col, low, col, low * width + col
    kinds = east, south, west, north
    return _Sides([len(k[0]) for k in kinds], *(np.concatenate(c) for c in zip(*kinds, strict=True)))


def _along_rows(edge: Mask, breaks: Mask) -> tuple[Index, Index, Index]:
    """Runs of ``edge`` (n, m) along rows, also cut where ``breaks`` (n, m - 1): (row, first, one past the last)."""
    cut = ~(edge[:, :-1] & edge[:, 1:]) | breaks
    opens, closes = edge.copy(), edge
    opens[:, 1:] &= cut
    closes[:, :-1] &= cut
    row, low = np.divmod(np.flatnonzero(opens), edge.shape[1])
    return row, low, np.flatnonzero(closes) - row * edge.shape[1] + 1


def _along_columns(edge: Mask, breaks: Mask) -> tuple[Index, Index, Index]:
    """Runs of ``edge`` (n, m) along columns, cut where ``breaks`` (n - 1, m): (column, first, one past the last)."""
    height, width = edge.shape
    cut = ~(edge[:-1] & edge[1:]) | breaks
    opens, closes = edge.copy(), edge
    opens[1:] &= cut
    closes[:-1] &= cut
    # sorting the few ends by column is cheaper than turning the whole mask
    low, high = (np.sort(k % width * height + k // width) for k in map(np.flatnonzero, (opens, closes)))
    col = low // height
    return col, low - col * height, high - col * height + 1


def _turns_left(sides: _Sides, classes: Bytes, regions: _Regions) -> Mask:
    """Whether a side turns left at its end: when the pixel ahead on the left is of the same region.

    At a corner where only two diagonal pixels are of the region this keeps to the foreign pixel, so that no ring
    meets itself: the two foreign pixels belong to different rings, or the region would not be 4-connected.
    """
    height, width = classes.shape
    flat, left = classes.ravel(), np.zeros(len(sides.pixel), bool)
    first = 0
    for size, (dy, dx), (ly, lx) in zip(sides.sizes, FORWARD, FORWARD_LEFT, strict=True):
        own = sides.pixel[first : first + size]
        # a side that ends on the frame has no pixel ahead on the left
        y, x = sides.y1[first : first + size], sides.x1[first : first + size]
        inside = np.flatnonzero((y > 0) & (y < height) & (x > 0) & (x < width))
        own = own[inside]
        straight, diagonal = own + (dy * width + dx), own + (ly * width + lx)
        value = flat[own]
        same = flat[diagonal] == value
        # equal classes joined by the pixel straight ahead are one region; a diagonal pair has to be looked up
        pair = np.flatnonzero(same & (flat[straight] != value))
        same[pair] = regions.at(diagonal[pair]) == regions.at(own[pair])
        left[first + inside] = same
        first += size
    return left


def _following(sides: _Sides, left: Mask, stride: int) -> Index:
    """The side that starts where each side ends: a turn left or right is the kind before or after its own."""
    kind = np.repeat(np.arange(4, dtype=np.int8), sides.sizes)
    kind = (kind + np.where(left, np.int8(3), np.int8(1))) % 4
    start, end = sides.y0 * stride + sides.x0, sides.y1 * stride + sides.x1
    following = np.empty(len(start), np.int64)
    first = 0
    for k, size in enumerate(sides.sizes):
        # at most one side of a kind starts in a corner, and each of them follows one: pair them in corner order
        ends = np.flatnonzero(kind == k)
        following[ends[np.argsort(end[ends])]] = first + np.argsort(start[first : first + size])
        first += size
    return following


def _every_other(following: Index, sizes: list[int]) -> tuple[Index, Index]:
    """The horizontal sides, and for each the next horizontal one: half the steps to walk, with both ends known."""
    east, south, west, _ = sizes
    horizontal = np.concatenate([np.arange(east), np.arange(east + south, east + south + west)])
    after = following[following[horizontal]]
    return horizontal, np.where(after < east, after, after - south).astype(np.int32)


def _assemble(corners: Index, opens: Index, first_rings: Index) -> Rings:
    """Polygons from the corners of all rings, where each ring opens and where each polygon's rings do."""
    ends = np.append(opens[1:], len(corners))
    closed = np.insert(corners.astype(np.float64), ends, corners[opens], axis=0)  # a ring ends where it starts
    return Rings(closed, np.append(opens, len(corners)) + np.arange(len(opens) + 1), first_rings)
