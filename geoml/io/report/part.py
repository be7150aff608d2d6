"""What an output adds to the report of a run: layers to draw, numbers to count, and captions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from affine import Affine
from markupsafe import Markup
from numpy.typing import DTypeLike, NDArray
from rasterio.enums import Resampling

from geoml.io.report.canvas import Canvas


@dataclass(frozen=True)
class ReportLayer:
    """A band of an asset of a block that is counted and drawn, and how it is made smaller; ``what`` is for messages."""

    asset: str
    what: str
    resampling: Resampling
    nodata: float
    dtype: DTypeLike = "uint8"
    band: int = 1


@dataclass(frozen=True)
class Drawing:
    """A map of the page: (y, x, 4) uint8 colours, clear where nothing is known, and what is written ``below`` it.

    What lies ``over`` the image shows it, paled, where it is clear.
    """

    title: str
    colours: NDArray[np.uint8]
    alt: str
    below: Markup
    over: bool = False


class PartCounter(Protocol):
    """Counts one block, whose rows pass from the top. What it counts never depends on how the rows were cut."""

    def add(self, row: int, layers: Mapping[str, NDArray[np.number]]) -> None:
        """Take (h, width) values as stored, by name of the layer, of the rows from ``row`` on."""
        ...

    def result(self) -> dict[str, Any]:
        """What was counted, as JSON: the same keys for every block, none of them empty."""
        ...


class CountTaker(Protocol):
    """Adds up what blocks counted."""

    def add(self, counted: Mapping[str, Any]) -> None:
        """Take what a `PartCounter` counted. Raises LookupError, TypeError or ValueError for other things."""
        ...


@runtime_checkable
class ReportPart(CountTaker, Protocol):
    """Adds up what blocks counted, and shows what they hold together."""

    layers: Mapping[str, ReportLayer]
    """By name. The first is the one that a block cannot lack; may be none."""
    change: bool
    """Shows the image of the first date as well."""

    def counter(self, shape: tuple[int, int], grid: Affine, crs: str) -> PartCounter:
        """Counts a block of (rows, columns) on a grid."""
        ...

    def known(self, valid: int) -> int:
        """Pixels that have an answer, of so many with a valid observation."""
        ...

    def facts(self) -> Sequence[tuple[str, str]]:
        """Labels and numbers at the top of the page."""
        ...

    def drawings(self, stored: Mapping[str, NDArray[np.number]], canvas: Canvas) -> Sequence[Drawing]:
        """The maps, of the layers (y, x) as stored on the canvas, or of what is drawn on it."""
        ...

    def section(self, scores: Mapping[str, object] | None) -> Markup:
        """HTML between the maps and the observations; ``scores`` are the held-out scores as the page has them."""
        ...
