"""Boxes: what `geoml.nn.objects.centre_heat.render` makes of them, for scenes, chips and batches alike: (6, y, x)
float32, or (7, y, x) of oriented ones. With outlines (8, y, x): which object a pixel tells of, and whose outline holds
it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.features import rasterize

from geoml.data.target import DateMoves, Labels, d4
from geoml.data.targets.classes import ClassTarget
from geoml.errors import DataError
from geoml.grid.plane import Window
from geoml.io.cards.map_card import ClassInfo
from geoml.nn.metrics import IGNORE
from geoml.nn.objects.centre_heat import ANGLE, HEAT, INDEX, NUMBER, OUTLINE, SIDES, box_channels, render
from geoml.nn.objects.mask_shares import TrueOutlines
from geoml.vector.boxes import ANGLE as BOX_ANGLE
from geoml.vector.boxes import edges, outlines, smallest

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox
    from shapely.geometry.base import BaseGeometry

    from geoml.data.labels import VectorLabels
    from geoml.data.rotation import Rotation

VISIBLE = 0.4
"""Share of a box inside a crop from which on it is learnt; of one that shows less nothing is known."""
THIN = 4
"""Of the ground without boxes every so many-th row and column is a place to draw crops around."""


@dataclass(frozen=True)
class BoxTarget:
    """`geoml.data.target.Target` of boxes of ``classes``: each is the bounding box of a feature, or with ``oriented``
    the smallest box of any angle; with ``masks`` its outline goes along.

    Of two boxes whose centres share a pixel the smaller is kept, and of two outlines around one the smaller.
    """

    classes: tuple[ClassInfo, ...]
    oriented: bool = False
    rounded: float = 0.0
    """By this share of half the shorter side of an upright box the corners of what fills it are rounded, 0 to 1."""
    masks: bool = False

    @property
    def moves(self) -> DateMoves | None:
        return None

    @cached_property
    def _values(self) -> ClassTarget:
        """What values of a recipe mean."""
        return ClassTarget(self.classes)

    def label(self, field: str, value: float) -> float:
        """An index; as ``background`` any other value means that no object is there."""
        if field.endswith("background") and value not in self._values.index_of:
            return 0.0
        return self._values.label(field, value)

    def of_properties(self, spec: VectorLabels, column: Sequence[Any] | None, count: int) -> list[float]:
        return self._values.of_properties(spec, column, count)

    def unexplained(self, values: Mapping[object, str]) -> DataError:
        return self._values.unexplained(values)

    def of_features(
        self, features: Sequence[tuple[BaseGeometry, float]], geobox: GeoBox, elsewhere: float | None = None
    ) -> Labels:
        """Boxes of the features in pixels; ``elsewhere`` is ground where no object is, of whatever label."""
        there = [(g, v) for g, v in features if not g.is_empty]
        shapes = _pixels([g for g, _ in there], geobox)
        sides = smallest(shapes) if self.oriented else shapely.bounds(shapes).reshape(-1, 4)[:, [1, 0, 3, 2]]
        boxes = np.column_stack([np.array([v for _, v in there], np.float64), sides])
        size, rest = (geobox.shape[0], geobox.shape[1]), IGNORE if elsewhere is None else 0
        return np.concatenate([render(boxes, size, rest), *([_masks(boxes, shapes, size)] if self.masks else [])])

    # on their way through chips

    def labelled(self, target: Labels, shape: tuple[int, int]) -> NDArray[np.bool_]:
        return np.asarray(target[INDEX] != IGNORE)

    def filled(self, target: Labels, label: float) -> Labels:
        """With ground where no object is."""
        found = target.copy()
        found[:OUTLINE, found[INDEX] == IGNORE] = 0
        return found

    def only(self, target: Labels, mask: NDArray[np.bool_]) -> Labels:
        found = target.copy()
        found[INDEX][~mask] = IGNORE
        return found

    def cut(self, target: Labels, window: Window, within: Window) -> Labels:
        """As the protocol; unknown too is what belongs to a box of which less than `VISIBLE` lies inside."""
        found = np.zeros((len(target), *window.shape), np.float32)
        found[INDEX] = IGNORE
        part = window.intersect(within)
        if part.empty:
            return found
        inside = part.slices(window)
        found[:, *inside] = target[:, *part.slices(Window(0, 0, *target.shape[1:]))]
        return self._hidden(found, inside)

    def _hidden(self, found: NDArray[np.float32], inside: tuple[slice, slice]) -> NDArray[np.float32]:
        """A target, where unknown too is what belongs to a box of which less than `VISIBLE` lies ``inside``."""
        y, x = np.nonzero(found[HEAT] > 0)
        (top, bottom), (left, right) = ((s.start, s.stop) for s in inside)
        if self.oriented:
            shapes = outlines(_edges(found, y, x))
            seen, whole = (
                shapely.area(shapely.intersection(shapes, shapely.box(left, top, right, bottom))),
                shapely.area(shapes),
            )
        else:
            north, south, west, east = found[SIDES, y, x]
            height = np.minimum(y + 0.5 + south, bottom) - np.maximum(y + 0.5 - north, top)
            width = np.minimum(x + 0.5 + east, right) - np.maximum(x + 0.5 - west, left)
            seen, whole = height * width, (north + south) * (west + east)
        hidden = seen < VISIBLE * whole
        found[INDEX, y[hidden], x[hidden]] = IGNORE
        return found

    def turned(self, target: Labels, k: int, size: int) -> Labels:
        found = d4(target, k).copy()
        north, south, west, east = found[SIDES].copy()
        if self.oriented:  # its frame turns with the box; where that is mirrored, west is where east was
            found[ANGLE] -= np.float32(np.pi / 2 * (k % 4)) * (found[HEAT] > 0)
            if k >= 4:
                found[ANGLE] *= -1
                found[SIDES] = (north, south, east, west)
            return found
        for _ in range(k % 4):  # what was in the east is in the north
            north, south, west, east = east, west, north, south
        found[SIDES] = (north, south, east, west) if k >= 4 else (north, south, west, east)
        return found

    def rotated(self, target: Labels, rotation: Rotation) -> Labels:
        """Boxes as they are then, rendered again; ground of which nothing is known is that of the nearest pixel.

        An upright box becomes the one around the turned rectangle that filled it, its corners `rounded`.
        """
        y, x = np.nonzero(target[HEAT] > 0)
        boxes = _boxes_at(target, y, x)
        order = np.argsort(boxes[:, 1], kind="stable")  # what is known of a box in one of its pixels is known
        boxes, y, x = boxes[order], y[order], x[order]
        _, first = np.unique(boxes[:, 2:].round(2), axis=0, return_index=True)
        index, sides = boxes[first, 0], boxes[first, 2:]
        middle = rotation.points((sides[:, [1, 0]] + sides[:, [3, 2]]) / 2)[:, ::-1]
        half = self._reach((sides[:, 2:4] - sides[:, :2]) / 2 * rotation.scale, rotation.angle)
        angle = sides[:, 4:] + rotation.angle
        shape = (rotation.size, rotation.size)
        found = render(np.column_stack([index, middle - half, middle + half, angle]), shape)
        if self.masks:
            numbers = target[NUMBER, y[first], x[first]]
            told = render(np.column_stack([numbers, middle - half, middle + half]), shape)[INDEX]
            found = np.concatenate([found, np.stack([told, rotation.nearest(target[OUTLINE])])])
        found[INDEX][rotation.nearest(target[INDEX] == IGNORE)] = IGNORE
        return self._hidden(found, (slice(0, rotation.size), slice(0, rotation.size)))

    def _reach(self, half: NDArray[np.float64], angle: float) -> NDArray[np.float64]:
        """How far boxes that reach ``half`` (n, 2) from their middle, in rows and columns, do so when turned."""
        if self.oriented:
            return half
        radius = self.rounded * half.min(1, keepdims=True)
        inner = half - radius
        reach: NDArray[np.float64] = inner * abs(np.cos(angle)) + inner[:, ::-1] * abs(np.sin(angle)) + radius
        return reach

    def stacked(self, targets: Sequence[Labels]) -> Labels:
        return np.stack(targets)

    # for sampling and statistics

    def places(self, target: Labels) -> Mapping[int, NDArray[np.int64]]:
        """Centres by class, and ground without boxes behind them."""
        known = target[INDEX] != IGNORE
        found = {k: np.argwhere(known & (target[HEAT] == 1) & (target[INDEX] == k)) for k in range(len(self.classes))}
        found[len(self.classes)] = THIN * np.argwhere((known & (target[HEAT] == 0))[::THIN, ::THIN])
        return {k: yx for k, yx in found.items() if len(yx)}

    def counted(self, target: Labels) -> NDArray[np.int64]:
        """(K,) boxes of each class."""
        boxes = boxes_of(target)
        return np.bincount(boxes[boxes[:, 1] == 0, 0].astype(np.int64), minlength=len(self.classes))


def boxes_of(target: Labels) -> NDArray[np.float64]:
    """(n, 6) float64 of a target (6, y, x): index of the class, 1 where that is not known, top, left, bottom, right.

    Of oriented boxes, (7, y, x), with the angle behind: see `geoml.vector.boxes.edges`.
    """
    return _boxes_at(target, *_centres(target))


def outlines_of(target: Labels) -> TrueOutlines:
    """Those of a target (8, y, x), in the order of `boxes_of`."""
    numbers = target[OUTLINE].astype(np.int64)
    return TrueOutlines(numbers, target[NUMBER, *_centres(target)].astype(np.int64))


def _centres(target: Labels) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The pixel of the centre of each box; of several that hold it the first."""
    y, x = np.nonzero(target[HEAT] == 1)
    same = np.column_stack([target[INDEX, y, x], _edges(target, y, x)]).round(2)
    first = np.sort(np.unique(same, axis=0, return_index=True)[1])
    return y[first], x[first]


def _boxes_at(target: Labels, y: NDArray[np.intp], x: NDArray[np.intp]) -> NDArray[np.float64]:
    """As `boxes_of`, of each pixel the box that it belongs to."""
    index = target[INDEX, y, x]
    return np.column_stack([index, index == IGNORE, _edges(target, y, x)])


def _edges(target: Labels, y: NDArray[np.intp], x: NDArray[np.intp]) -> NDArray[np.float64]:
    """Of the boxes that pixels belong to, as `geoml.vector.boxes.edges` gives them."""
    told = target[box_channels(len(target)), y, x].astype(np.float64)
    found = dict(zip(("north", "south", "west", "east", BOX_ANGLE), told, strict=False))
    return edges({"y": y + 0.5, "x": x + 0.5, **found})


def _masks(boxes: NDArray[np.float64], shapes: NDArray[np.object_], size: tuple[int, int]) -> NDArray[np.float32]:
    """(2, y, x) of `NUMBER` and `OUTLINE`, for boxes (n, 5) and their shapes in pixels."""
    numbers = np.arange(1, len(boxes) + 1)
    told = render(np.column_stack([numbers, boxes[:, 1:]]), size)[INDEX]
    inside = np.zeros(size, np.float32)
    largest_first = np.argsort(-shapely.area(shapes), kind="stable")
    if len(shapes):
        rasterize(zip(shapes[largest_first], numbers[largest_first], strict=True), out=inside, all_touched=False)
    return np.stack([told, inside])


def _pixels(geometries: Sequence[BaseGeometry], geobox: GeoBox) -> NDArray[np.object_]:
    """Geometries in the CRS of a geobox in its pixels; whole numbers are edges of pixels."""
    a = ~geobox.affine

    def move(xy: NDArray[np.float64]) -> NDArray[np.float64]:
        x, y = xy.T
        return np.column_stack([a.a * x + a.b * y + a.c, a.d * x + a.e * y + a.f])

    moved: NDArray[np.object_] = shapely.transform(np.array(geometries, object), move)
    return moved
