"""Columns of polygons and of features, in pixel coordinates of a plane (x = column, y = row, downwards)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import Field, dataclass, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from geoml.grid.plane import Plane
from geoml.vector.rings import Rings

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
        return type(self)(**{k: _taken(v, index) for k, v in columns.items()})


def concatenated(parts: Sequence[T]) -> T:
    """Dataclasses of arrays as one, the rows of each after those before; what is not a column is that of the first."""
    columns = {f.name: [getattr(p, f.name) for p in parts] for f in fields(parts[0])}
    return replace(parts[0], **{name: _joined(column) for name, column in columns.items()})


def _joined(column: list[Any]) -> Any:
    if isinstance(column[0], Rings):
        return Rings.joined(column)
    return np.concatenate(column) if isinstance(column[0], np.ndarray) else column[0]


def _taken(column: Any, index: NDArray[np.intp] | NDArray[np.bool_]) -> Any:
    if isinstance(column, Rings):
        return column.take(index)
    return column[index] if isinstance(column, np.ndarray) else column


@dataclass(frozen=True, slots=True)
class Polygons(Columns):
    """What one block holds: outlines, their class (uint8), their pixels (int64) and the sum of the uint8
    confidence over these pixels (float64, exact integers), ordered by the top-left-most pixel.

    Regions lie on the right hand of their rings (y downwards). ``outside`` counts the pixels that are unlike the
    training data (float64; NaN where that is not known)."""

    rings: Rings
    value: NDArray[np.uint8]
    pixels: NDArray[np.int64]
    confidence_sum: NDArray[np.float64]
    outside: NDArray[np.float64]

    @property
    def geometry(self) -> NDArray[np.object_]:
        """The outlines as shapely polygons."""
        return self.rings.polygons()


@dataclass(frozen=True, slots=True)
class Features(Columns):
    """Whole polygons of one plane, with the vertices of their neighbours on their borders.

    Columns as of `Polygons`; ``row``, ``col`` (int64) are the top-left-most pixel (first row, then column); ``blocks``
    holds a sorted tuple of block ids for each feature.
    """

    plane: Plane
    rings: Rings
    value: NDArray[np.uint8]
    pixels: NDArray[np.int64]
    confidence_sum: NDArray[np.float64]
    outside: NDArray[np.float64]
    row: NDArray[np.int64]
    col: NDArray[np.int64]
    blocks: NDArray[np.object_]

    @property
    def geometry(self) -> NDArray[np.object_]:
        """The outlines as shapely polygons."""
        return self.rings.polygons()

    def ids(self) -> list[str]:
        """Names that stay the same for any block size: plane, class and top-left-most pixel say which feature it is."""
        code = self.plane.code
        rows = zip(self.value.tolist(), self.row.tolist(), self.col.tolist(), strict=True)
        return [f"{code}_c{value}_y{row}_x{col}" for value, row, col in rows]
