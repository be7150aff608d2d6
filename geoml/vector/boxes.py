"""Boxes with scores: how much two overlap, and non-maximum suppression over a plane of any size.

Suppression is greedy: from the best box down, each is kept unless a kept one overlaps it by more than a threshold. Ties
are broken by place and class, never by arrival. A box is a row of columns by name, see `COLUMNS`; more of them may
travel along. With a column `ANGLE` boxes are oriented: their sides are measured in a frame that is turned about ``y``,
``x`` by so many radians, from east towards south. With a column `LEVEL` boxes were found in pixels of several sizes:
then of two of one class and different levels one is also dropped where the smaller lies in the larger by more than the
threshold, since a part of a thing is not another one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import shapely
from numpy.typing import NDArray

from geoml.errors import InputError

Boxes = Mapping[str, NDArray[np.number]]
"""(n,) or (n, …) each, by name."""
COLUMNS = ("y", "x", "north", "south", "west", "east", "score", "class")
"""The place that tells of a box, in pixels of a plane, how far the box reaches from it, and what was found how surely;
float64, uint8. A box need not be as wide to both sides of that place, so that its middle is another one."""
ANGLE, LEVEL = "angle", "level"
ORIENTED = (*COLUMNS, ANGLE)
EDGES = ("top", "left", "bottom", "right")


def count(boxes: Boxes) -> int:
    """How many there are."""
    return len(boxes["y"])


def take(boxes: Boxes, rows: NDArray[np.intp | np.bool_]) -> dict[str, NDArray[np.number]]:
    """The rows of an index or a mask, in its order."""
    return {name: column[rows] for name, column in boxes.items()}


def together(parts: Sequence[Boxes]) -> dict[str, NDArray[np.number]]:
    """The rows of all parts, which have the same columns; one part at least."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def edges(boxes: Boxes) -> NDArray[np.float64]:
    """(n, 4) float64 top, left, bottom, right in pixels of the plane.

    Of oriented boxes (n, 5): what they are when they are turned back about their middle, and the angle.
    """
    y, x = boxes["y"], boxes["x"]
    north, south, west, east = (boxes[side] for side in ("north", "south", "west", "east"))
    if ANGLE not in boxes:
        return np.stack([y - north, x - west, y + south, x + east], 1)
    angle, down, right = boxes[ANGLE], (south - north) / 2, (east - west) / 2
    row = y + right * np.sin(angle) + down * np.cos(angle)
    col = x + right * np.cos(angle) - down * np.sin(angle)
    tall, wide = (south + north) / 2, (east + west) / 2
    return np.stack([row - tall, col - wide, row + tall, col + wide, angle], 1)


def outlines(shape: NDArray[np.float64]) -> NDArray[np.object_]:
    """(n,) polygons, x to the right and y down, of (n, 4) or (n, 5) as `edges` gives them."""
    found: NDArray[np.object_] = shapely.box(shape[:, 1], shape[:, 0], shape[:, 3], shape[:, 2])
    if shape.shape[1] == len(EDGES):
        return found
    corners = shapely.get_coordinates(found).reshape(-1, 5, 2)
    middle = corners[:, :4].mean(1, keepdims=True)
    cos, sin = np.cos(shape[:, 4, None]), np.sin(shape[:, 4, None])
    x, y = np.moveaxis(corners - middle, 2, 0)
    turned = np.stack([x * cos - y * sin, x * sin + y * cos], 2) + middle
    turned[:, 4] = turned[:, 0]
    return np.asarray(shapely.polygons(turned), object).reshape(-1)


def smallest(shapes: NDArray[np.object_]) -> NDArray[np.float64]:
    """(n, 5) of the smallest boxes of any angle around geometries, as `edges` has them: the longer side is from left
    to right."""
    found = np.zeros((len(shapes), 5))
    for k, shape in enumerate(shapely.oriented_envelope(shapes)):
        if shape.geom_type != "Polygon":  # a line or a point has no sides
            left, top, right, bottom = shape.bounds
            found[k] = top, left, bottom, right, 0
            continue
        a, b, c = shapely.get_coordinates(shape)[:3]
        long, short = (b - a, c - b) if np.hypot(*(b - a)) >= np.hypot(*(c - b)) else (c - b, b - a)
        (col, row), half = (a + c) / 2, np.array([np.hypot(*short), np.hypot(*long)]) / 2
        angle = np.arctan2(long[1], long[0])
        found[k] = row - half[0], col - half[1], row + half[0], col + half[1], (angle + np.pi / 2) % np.pi - np.pi / 2
    return found


def iou(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n,) intersection over union of pairs of boxes as `edges` gives them; 0 where both are empty."""
    if a.shape[1] > len(EDGES):
        both = shapely.area(shapely.intersection(outlines(a), outlines(b)))
        return _share(both, _area(a) + _area(b) - both)
    height = np.minimum(a[:, 2], b[:, 2]) - np.maximum(a[:, 0], b[:, 0])
    width = np.minimum(a[:, 3], b[:, 3]) - np.maximum(a[:, 1], b[:, 1])
    both = np.maximum(height, 0) * np.maximum(width, 0)
    return _share(both, _area(a) + _area(b) - both)


def overlapping(
    a: NDArray[np.float64], b: NDArray[np.float64], least: float
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
    """Rows of ``a``, rows of ``b`` and the overlap of all pairs whose intersection over union is above ``least``.

    By a spatial index: the cost is that of the boxes and of the pairs that touch.
    """
    i, j = shapely.STRtree(outlines(b)).query(outlines(a))
    share = iou(a[i], b[j])
    mine = share > least
    return i[mine], j[mine], share[mine]


def best_first(boxes: Boxes) -> NDArray[np.intp]:
    """The order of suppression: by score, then the coarser level, row, column, class and size of the box."""
    sizes = (boxes[side] for side in ("east", "west", "south", "north"))
    turned = (boxes[ANGLE],) if ANGLE in boxes else ()
    level = (-boxes[LEVEL],) if LEVEL in boxes else ()
    return np.lexsort((*turned, *sizes, boxes["class"], boxes["x"], boxes["y"], *level, -boxes["score"]))


def suppress(boxes: Boxes, threshold: float) -> dict[str, NDArray[np.number]]:
    """The boxes that are kept, best first."""
    return Suppression(threshold, np.inf).add(boxes, np.inf) if count(boxes) else dict(boxes)


class Suppression:
    """Takes boxes strip by strip from the top and gives those that are kept as soon as that is certain.

    All strips together give what `suppress` gives of all boxes at once. Only boxes whose fate hangs on what is still to
    come are held: those near the lower edge of the last strip, and chains of overlaps that lead there.

    Args:
        threshold: of the intersection over union; what overlaps a kept box by more is dropped.
        reach: pixels that no box goes beyond from the place that tells of it.
    """

    def __init__(self, threshold: float, reach: float) -> None:
        self.threshold, self.reach = threshold, reach
        self.held: dict[str, NDArray[np.number]] | None = None
        self._frontier = -np.inf

    def add(self, boxes: Boxes, frontier: float) -> dict[str, NDArray[np.number]]:
        """The boxes of which it is now certain that they are kept, best first, each once.

        ``boxes`` are all whose ``y`` lies above the row ``frontier`` and that were not added before; with infinity
        nothing is held back. Raises InputError for a box that came too late or reaches too far.
        """
        if count(boxes) and (boxes["y"] < self._frontier).any():
            raise InputError(f"boxes: one from above row {self._frontier}, after those rows were done")
        if any((boxes[side] > self.reach).any() for side in ("north", "south", "west", "east")):
            raise InputError(f"boxes: one goes more than {self.reach} pixels beyond its y or x")
        self._frontier = frontier
        known = together([self.held, boxes]) if self.held is not None else dict(boxes)
        known = take(known, best_first(known))
        shape = edges(known)
        reach, lowest = self.reach, shape[:, 2]
        if ANGLE in known:  # it is a corner that reaches farthest
            reach, lowest = reach * 2**0.5, shapely.bounds(outlines(shape)).reshape(-1, 4)[:, 3]
        final = np.isinf(frontier) | (lowest <= frontier - reach)  # nothing that is to come can overlap it
        fate = _fates(known, shape, final, self.threshold)
        self.held = take(known, fate == _OPEN)
        return take(known, fate == _KEPT)

    def end(self) -> dict[str, NDArray[np.number]]:
        """What is kept of the boxes that are held, when none is to come; after at least one `add`."""
        assert self.held is not None
        return self.add(take(self.held, np.zeros(0, np.intp)), np.inf)


_OPEN, _KEPT, _GONE = 0, 1, 2
_CHUNK = 256
"""Boxes whose neighbours are looked up at once: they hold memory until all of these have their fate."""


def _fates(boxes: Boxes, shape: NDArray[np.float64], final: NDArray[np.bool_], threshold: float) -> NDArray[np.int8]:
    """Of boxes, best first: kept, gone, or open where that hangs on boxes that are not here yet.

    What is gone is not looked at any more, so of many boxes in one place nearly all cost nothing.
    """
    fate, blocked = np.full(len(shape), _OPEN, np.int8), np.zeros(len(shape), np.bool_)
    polygons = outlines(shape)
    tree = shapely.STRtree(polygons)
    for first in range(0, len(shape), _CHUNK):
        rows = first + np.flatnonzero(fate[first : first + _CHUNK] != _GONE)
        at, worse = tree.query(polygons[rows])
        left = (worse > rows[at]) & (fate[worse] != _GONE)
        at, worse = at[left], worse[left]
        mine = _one_thing(boxes, shape, rows[at], worse, threshold)
        at, worse = at[mine], worse[mine]
        order = np.argsort(at, kind="stable")
        ends = np.searchsorted(at[order], np.arange(len(rows) + 1))
        for k, row in enumerate(rows.tolist()):
            below = worse[order[ends[k] : ends[k + 1]]]
            if fate[row] == _GONE:
                continue
            if final[row] and not blocked[row]:
                fate[row], fate[below] = _KEPT, _GONE
            else:
                blocked[below] = True
    return fate


def _one_thing(
    boxes: Boxes, shape: NDArray[np.float64], a: NDArray[np.intp], b: NDArray[np.intp], threshold: float
) -> NDArray[np.bool_]:
    """(n,) True where boxes of the rows ``a`` and ``b`` are taken for one thing."""
    share = iou(shape[a], shape[b])
    same = share > threshold
    if LEVEL in boxes:
        one, other = _area(shape[a]), _area(shape[b])
        both = share * (one + other) / (1 + share)
        inside = _share(both, np.minimum(one, other)) > threshold
        same |= inside & (boxes[LEVEL][a] != boxes[LEVEL][b]) & (boxes["class"][a] == boxes["class"][b])
    return same


def _area(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    size: NDArray[np.float64] = np.maximum(boxes[:, 2] - boxes[:, 0], 0) * np.maximum(boxes[:, 3] - boxes[:, 1], 0)
    return size


def _share(both: NDArray[np.float64], either: NDArray[np.float64]) -> NDArray[np.float64]:
    share: NDArray[np.float64] = np.divide(both, either, out=np.zeros(len(both)), where=either > 0)
    return share
