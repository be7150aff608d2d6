"""Columns of polygons and of features, in pixel coordinates of a plane (x = column, y = row, downwards)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import Field, dataclass, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from geoml.grid.plane import Plane

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")


class Columns:
    """The base of dataclasses of arrays of equal length, one row for each polygon."""

    __slots__ = ()
    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]
    value: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.value)

    def take(self, index: NDArray[np.intp] | NDArray[np.bool_]) -> Self:
        """The rows of an index or a mask, in its order."""
        columns = {f.name: getattr(self, f.name) for f in fields(self)}
        return type(self)(**{k: v[index] if isinstance(v, np.ndarray) else v for k, v in columns.items()})


def concatenated(parts: Sequence[T]) -> T:
    """Dataclasses of arrays as one, the rows of each after those before."""
    names = [f.name for f in fields(parts[0])]
    return replace(parts[0], **{n: np.concatenate([getattr(p, n) for p in parts]) for n in names})


@dataclass(frozen=True, slots=True)
class Polygons(Columns):
    """What one block holds: shapely polygons, their class (uint8), their pixels (int64) and the sum of the uint8
    confidence over these pixels (float64, exact integers), ordered by the top-left-most pixel.

    ``outside`` counts the pixels that are unlike the training data (float64; NaN where that is not known)."""

    geometry: NDArray[np.object_]
    value: NDArray[np.uint8]
    pixels: NDArray[np.int64]
    confidence_sum: NDArray[np.float64]
    outside: NDArray[np.float64]

    def with_geometry(self, geometry: NDArray[np.object_]) -> Polygons:
        """The same with other outlines."""
        return replace(self, geometry=geometry)


@dataclass(frozen=True, slots=True)
class Features(Columns):
    """Whole polygons of one plane, with the vertices of their neighbours on their borders.

    Columns as of `Polygons`; ``row``, ``col`` (int64) are the top-left-most pixel (first row, then column); ``blocks``
    holds a sorted tuple of block ids for each feature.
    """

    plane: Plane
    geometry: NDArray[np.object_]
    value: NDArray[np.uint8]
    pixels: NDArray[np.int64]
    confidence_sum: NDArray[np.float64]
    outside: NDArray[np.float64]
    row: NDArray[np.int64]
    col: NDArray[np.int64]
    blocks: NDArray[np.object_]

    def ids(self) -> list[str]:
        """Names that stay the same for any block size: plane, class and top-left-most pixel say which feature it is."""
        code = self.plane.code
        rows = zip(self.value.tolist(), self.row.tolist(), self.col.tolist(), strict=True)
        return [f"{code}_c{value}_y{row}_x{col}" for value, row, col in rows]
