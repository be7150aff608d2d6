"""Pixels of a window with all that is known of them, which travel as one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from geoml.cube.normalise import coefficients
from geoml.errors import InputError
from geoml.grid.lonlat import lonlat
from geoml.grid.plane import Plane, Window

if TYPE_CHECKING:
    import pystac

    from geoml.io.cards.map_card import MapCard


@dataclass(frozen=True, eq=False)
class Pixels:
    """Pixels of one window of a plane, as stored, and what is known of them.

    ``data`` is (channel, y, x), of several dates all bands of the first date first; physical = data * ``scale`` +
    ``offset``, one of each for every channel. ``count`` (y, x) uint16 holds valid observations, 0 where nothing is
    known. ``origin`` is the window, of ``plane`` where that is known. ``items`` are those that were read.

    Of a series ``looks`` (step, y, x) is True where a step has data, and ``months`` (0 to 11) are those of its steps.
    """

    data: NDArray[np.number]
    count: NDArray[np.uint16]
    scale: tuple[float, ...]
    offset: tuple[float, ...]
    origin: Window
    items: tuple[pystac.Item, ...] = ()
    plane: Plane | None = None
    looks: NDArray[np.bool_] | None = None
    months: tuple[int, ...] = ()

    @cached_property
    def valid(self) -> NDArray[np.bool_]:
        """(y, x) True where there is data."""
        return self.count > 0

    def crop(self, window: Window) -> Pixels:
        """The part that covers ``window``, which must lie in the origin; nothing is copied."""
        return replace(self._part(window.slices(self.origin)), origin=window)

    def thinned(self, step: int) -> Pixels:
        """Every so many pixels in y and x, for a picture; the origin stays that of all. Nothing is copied."""
        return self._part((slice(None, None, step),) * 2)

    def _part(self, part: tuple[slice, slice]) -> Pixels:
        looks = None if self.looks is None else self.looks[:, *part]
        return replace(self, data=self.data[:, *part], count=self.count[part], looks=looks)

    def only(self, mask: NDArray[np.bool_]) -> Pixels:
        """The same with nothing known outside of ``mask`` (y, x)."""
        looks = None if self.looks is None else self.looks & mask
        return replace(self, count=np.where(mask, self.count, np.uint16(0)), looks=looks)

    def physical(self) -> NDArray[np.float32]:
        """(channel, y, x) physical values; the offset where nothing is known."""
        scale, offset = (np.array(v, np.float32)[:, None, None] for v in (self.scale, self.offset))
        values: NDArray[np.float32] = np.multiply(self.data, scale, dtype=np.float32, casting="unsafe")
        values += offset
        return values

    def place(self) -> NDArray[np.float32]:
        """(2, y, x) longitude and latitude of the centres of pixels, degrees; the ``plane`` must be known."""
        if self.plane is None:
            raise InputError("plane: not known of these pixels; expected that of their window")
        return lonlat(self.plane, self.origin)

    def coefficients(self, card: MapCard) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(mul, add) that make of stored numbers what the model of ``card`` sees.

        Raises InputError as `geoml.cube.normalise.coefficients`.
        """
        return coefficients(card, self.scale, self.offset)
