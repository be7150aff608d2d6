"""Boxes: what `geoml.nn.centre_heat.render` makes of them, (6, y, x) float32, for scenes, chips and batches alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely
from numpy.typing import NDArray

from geoml.data.target import DateMoves, Labels, d4
from geoml.data.targets.classes import ClassTarget
from geoml.errors import DataError
from geoml.grid.plane import Window
from geoml.io.cards.map_card import ClassInfo
from geoml.nn.centre_heat import CHANNELS, HEAT, INDEX, SIDES, render
from geoml.nn.metrics import IGNORE

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox
    from shapely.geometry.base import BaseGeometry

    from geoml.data.labels import VectorLabels

VISIBLE = 0.4
"""Share of a box inside a crop from which on it is learnt; of one that shows less nothing is known."""
THIN = 4
"""Of the ground without boxes every so many-th row and column is a place to draw crops around."""


@dataclass(frozen=True)
class BoxTarget:
    """`geoml.data.target.Target` of boxes of ``classes``: each is the bounding box of a feature.

    Of two boxes whose centres share a pixel the smaller is kept.
    """

    classes: tuple[ClassInfo, ...]

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
        left, top, right, bottom = shapely.bounds(_pixels([g for g, _ in there], geobox)).reshape(-1, 4).T
        boxes = np.column_stack([np.array([v for _, v in there], np.float64), top, left, bottom, right])
        return render(boxes, (geobox.shape[0], geobox.shape[1]), IGNORE if elsewhere is None else 0)

    # on their way through chips

    def labelled(self, target: Labels, shape: tuple[int, int]) -> NDArray[np.bool_]:
        return np.asarray(target[INDEX] != IGNORE)

    def filled(self, target: Labels, label: float) -> Labels:
        """With ground where no object is."""
        found = target.copy()
        found[:, found[INDEX] == IGNORE] = 0
        return found

    def only(self, target: Labels, mask: NDArray[np.bool_]) -> Labels:
        found = target.copy()
        found[INDEX][~mask] = IGNORE
        return found

    def cut(self, target: Labels, window: Window, within: Window) -> Labels:
        """As the protocol; unknown too is what belongs to a box of which less than `VISIBLE` lies inside."""
        found = np.zeros((CHANNELS, *window.shape), np.float32)
        found[INDEX] = IGNORE
        part = window.intersect(within)
        if part.empty:
            return found
        inside = part.slices(window)
        found[:, *inside] = target[:, *part.slices(Window(0, 0, *target.shape[1:]))]
        y, x = np.nonzero(found[HEAT] > 0)
        north, south, west, east = found[SIDES, y, x]
        height = np.minimum(y + 0.5 + south, inside[0].stop) - np.maximum(y + 0.5 - north, inside[0].start)
        width = np.minimum(x + 0.5 + east, inside[1].stop) - np.maximum(x + 0.5 - west, inside[1].start)
        hidden = height * width < VISIBLE * (north + south) * (west + east)
        found[INDEX, y[hidden], x[hidden]] = IGNORE
        return found

    def turned(self, target: Labels, k: int, size: int) -> Labels:
        found = d4(target, k).copy()
        north, south, west, east = found[SIDES].copy()
        for _ in range(k % 4):  # what was in the east is in the north
            north, south, west, east = east, west, north, south
        found[SIDES] = (north, south, east, west) if k >= 4 else (north, south, west, east)
        return found

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
    """(n, 6) float64 of a target (6, y, x): index of the class, 1 where that is not known, top, left, bottom, right."""
    y, x = np.nonzero(target[HEAT] == 1)
    north, south, west, east = target[SIDES, y, x].astype(np.float64)
    index = target[INDEX, y, x]
    row, col = y + 0.5, x + 0.5
    sides = np.column_stack([row - north, col - west, row + south, col + east])
    every = np.column_stack([index, index == IGNORE, sides])
    _, first = np.unique(np.column_stack([index, sides]).round(2), axis=0, return_index=True)
    return every[np.sort(first)]  # a centre may lie in several pixels


def _pixels(geometries: Sequence[BaseGeometry], geobox: GeoBox) -> NDArray[np.object_]:
    """Geometries in the CRS of a geobox in its pixels; whole numbers are edges of pixels."""
    a = ~geobox.affine

    def move(xy: NDArray[np.float64]) -> NDArray[np.float64]:
        x, y = xy.T
        return np.column_stack([a.a * x + a.b * y + a.c, a.d * x + a.e * y + a.f])

    moved: NDArray[np.object_] = shapely.transform(np.array(geometries, object), move)
    return moved
