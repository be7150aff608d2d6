"""What a task learns from: how labels are made from a source, and follow the image through chips.

The target of one scene is a plain array whose meaning only its `Target` knows: class indices, metres, boxes. Sources,
chips and the training loop only call what is defined here, and never look into a target.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from rasterio.features import rasterize

from geoml.errors import DataError, InputError
from geoml.grid.plane import Window

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox
    from shapely.geometry.base import BaseGeometry

    from geoml.data.labels import VectorLabels
    from geoml.data.recipe import RasterRecipe
    from geoml.data.rotation import Rotation

T = TypeVar("T", bound=np.generic)
LISTED = 20
"""Values that a message names at most."""
Labels = NDArray[np.number]
"""The target of a scene or a chip: what is in it is the business of its `Target`."""


class DateMoves(Protocol):
    """How labels change if dates are reversed or shown twice."""

    def reversed(self, target: Labels) -> Labels:
        """Labels with the last date first."""
        ...

    def unchanged(self, valid: NDArray[np.bool_]) -> Labels:
        """Labels of a chip that shows one date twice; unknown where not ``valid`` (y, x)."""
        ...


class Target(Protocol):
    """What scenes are labelled with. Coordinates are pixels of the image, ``shape`` is (y, x)."""

    @property
    def moves(self) -> DateMoves | None:
        """None if labels do not depend on several dates."""
        ...

    # made by sources

    def label(self, field: str, value: float) -> float:
        """The label of a value that a recipe names. Raises InputError, naming the ``field``, for an invalid one."""
        ...

    def of_properties(self, spec: VectorLabels, column: Sequence[Any] | None, count: int) -> list[float]:
        """The label of each of ``count`` features, by a property (a ``column`` of its values) or one for all.

        Raises InputError for values that the recipe does not explain.
        """
        ...

    def of_features(
        self, features: Sequence[tuple[BaseGeometry, float]], geobox: GeoBox, elsewhere: float | None = None
    ) -> Labels:
        """Labels on the pixels of ``geobox``, whose CRS the geometries have, and the label of what no feature covers.

        None: that is not known.
        """
        ...

    def unexplained(self, values: Mapping[object, str]) -> DataError:
        """The error for values (each with a file that holds it) that the recipe does not explain."""
        ...

    # on their way through chips

    def labelled(self, target: Labels, shape: tuple[int, int]) -> NDArray[np.bool_]:
        """(y, x) True where something is known."""
        ...

    def filled(self, target: Labels, label: float) -> Labels:
        """With a label instead of unknown."""
        ...

    def only(self, target: Labels, mask: NDArray[np.bool_]) -> Labels:
        """Unknown outside ``mask`` (y, x)."""
        ...

    def cut(self, target: Labels, window: Window, within: Window) -> Labels:
        """The part in ``window``; unknown outside ``within``."""
        ...

    def turned(self, target: Labels, k: int, size: int) -> Labels:
        """The target of a square chip of ``size`` pixels, moved as `d4` moves its image."""
        ...

    def rotated(self, target: Labels, rotation: Rotation) -> Labels:
        """The target of the chip that ``rotation`` cuts from a larger one, whose target is ``target``."""
        ...

    def stacked(self, targets: Sequence[Labels]) -> Labels:
        """Chips of a batch as one array for the loss of the task; the shape is the same for any chip."""
        ...

    # for sampling and statistics

    def places(self, target: Labels) -> Mapping[int, NDArray[np.int64]]:
        """Pixels (n, 2) of y and x that crops may be drawn around, by stratum; empty if nothing is known."""
        ...

    def counted(self, target: Labels) -> NDArray[np.number]:
        """Counts of a target, of fixed length: their sum over all pieces is that of the training data."""
        ...


def pixels(recipe: RasterRecipe) -> PixelTarget:
    """What a recipe learns, for a source that labels pixels. Raises InputError if it learns anything else."""
    kind = recipe.target
    if not isinstance(kind, PixelTarget):
        raise InputError(f"source: {recipe.source.kind} labels pixels, from which {recipe.task} cannot learn")
    return kind


def d4(array: NDArray[T], k: int) -> NDArray[T]:
    """Element ``k`` (0..7) of the symmetries of the square, on the last two axes: k % 4 quarter turns, then a flip."""
    turned = np.rot90(array, k % 4, axes=(-2, -1))
    return turned[..., ::-1] if k >= 4 else turned


@dataclass(frozen=True)
class PixelTarget(Target, ABC):
    """A `Target` of one number for each pixel, (y, x)."""

    dtype: ClassVar[type[np.generic]]
    """Of a scene."""
    learnt: ClassVar[type[np.generic]]
    """Of a batch."""
    unknown: ClassVar[float]

    @property
    def moves(self) -> DateMoves | None:
        return None

    def full(self, shape: tuple[int, int], label: float | None = None) -> Labels:
        """(y, x) of one label; None: not known."""
        return np.full(shape, self.unknown if label is None else label, self.dtype)

    @abstractmethod
    def of_raster(
        self,
        values: NDArray[np.number],
        known: NDArray[np.bool_],
        where: str,
        mapped: Mapping[int, int],
        ignore: Sequence[int],
    ) -> Labels:
        """Labels of a raster's values (y, x), by ``mapped`` where they differ; unknown where not ``known``.

        Raises DataError, naming the file ``where``, for a value that is neither a label nor to be ignored.
        """

    @abstractmethod
    def known(self, target: Labels) -> NDArray[np.bool_]:
        """True where a pixel has a label."""

    def of_features(
        self, features: Sequence[tuple[BaseGeometry, float]], geobox: GeoBox, elsewhere: float | None = None
    ) -> Labels:
        """The label of the last feature that holds the centre of the pixel."""
        height, width = geobox.shape
        target = self.full((height, width), elsewhere)
        if there := [(g, v) for g, v in features if not g.is_empty]:
            rasterize(there, out=target, transform=geobox.affine, all_touched=False)
        return target

    def labelled(self, target: Labels, shape: tuple[int, int]) -> NDArray[np.bool_]:
        return self.known(target)

    def filled(self, target: Labels, label: float) -> Labels:
        found = target.copy()
        found[~self.known(target)] = label
        return found

    def only(self, target: Labels, mask: NDArray[np.bool_]) -> Labels:
        found = target.astype(self.dtype)
        found[~mask] = self.unknown
        return found

    def cut(self, target: Labels, window: Window, within: Window) -> Labels:
        found = self.full(window.shape)
        part = window.intersect(within)
        if not part.empty:
            found[part.slices(window)] = target[part.slices(Window(0, 0, *target.shape))]
        return found

    def turned(self, target: Labels, k: int, size: int) -> Labels:
        return d4(target, k)

    def rotated(self, target: Labels, rotation: Rotation) -> Labels:
        """Of the nearest pixel: labels are not mixed."""
        return rotation.nearest(target)

    def stacked(self, targets: Sequence[Labels]) -> Labels:
        return np.stack(targets).astype(self.learnt)
