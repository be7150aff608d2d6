"""One frame in memory, or why there is none; how a file becomes one. What it declares is bounded before it is decoded.

A file is opened by the one driver that its first bytes say (`geoml.data.rasters`): GeoTIFF, PNG, JPEG, BMP.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from geoml.data import rasters
from geoml.engine.pixels import Pixels
from geoml.engine.stream.recipe import ImageRecipe
from geoml.errors import DataError, GeomlError, InputError
from geoml.grid.plane import Window
from geoml.io.cards.map_card import Band
from geoml.texts import counted

SUFFIXES = frozenset({".tif", ".tiff", ".png", ".jpg", ".jpeg", ".bmp"})
"""Of the files of a folder that are frames."""
MAX_BYTES = 512 * 2**20
"""A frame that decodes to more is not read; nor is a larger file."""
MAX_PIXELS = 2 * 89_478_485
"""As of a picture (`geoml.geolocation.pictures.decode`)."""
COLOURS = ("red", "green", "blue")


class TakesBands(Protocol):
    """What frames are read for: a card, or anything else with a name and bands."""

    @property
    def name(self) -> str: ...

    @property
    def bands(self) -> Sequence[Band]: ...


@dataclass(frozen=True, eq=False, slots=True)
class Frame:
    """Pixels of one moment: ``data`` (band, y, x) as stored, the model's bands in its order; ``valid`` (y, x).

    ``index`` counts the frames of the source from 0, those that are not taken too. ``time`` are seconds from its first
    frame. ``name`` is the path, of a video with ``#index``. ``scale`` and ``offset`` make physical values, one of each
    for a band. ``geobox`` is None if the frame has no place on the Earth. ``read`` are the seconds it took.
    """

    index: int
    name: str
    time: float
    data: NDArray[np.number]
    valid: NDArray[np.bool_]
    scale: tuple[float, ...]
    offset: tuple[float, ...]
    geobox: GeoBox | None = None
    read: float = 0.0
    ready: float = 0.0
    """`time.perf_counter` when it was there."""

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width)."""
        return self.valid.shape[0], self.valid.shape[1]

    def pixels(self, window: Window) -> Pixels:
        """A window around the frame, whose upper left pixel is (0, 0); beyond it there is no data."""
        here = Window(0, 0, *self.shape)
        count = self.valid.astype(np.uint16)
        if window == here:
            return Pixels(self.data, count, self.scale, self.offset, here)
        part = here.slices(window)
        wide, seen = np.zeros((len(self.data), *window.shape), self.data.dtype), np.zeros(window.shape, np.uint16)
        wide[:, *part], seen[part] = self.data, count
        return Pixels(wide, seen, self.scale, self.offset, window)


@dataclass(frozen=True, eq=False, slots=True)
class Unread:
    """A frame that could not be read: the ``error`` names it."""

    index: int
    name: str
    time: float
    error: GeomlError


def chosen(card: TakesBands, recipe: ImageRecipe, count: int, said: Sequence[str | None], name: str) -> list[int]:
    """Positions (from 0) of the model's bands in a file with ``count`` bands that ``said`` their names.

    Raises InputError if the names are given and do not fit, DataError if this file's bands do not.
    """
    wanted = [b.name for b in card.bands]
    if recipe.bands:
        if lost := [b for b in wanted if b not in recipe.bands]:
            raise InputError(f"bands: {' '.join(lost)} of {card.name} not among {' '.join(recipe.bands)}")
        names: Sequence[str | None] = recipe.bands
        if len(names) > count:
            raise DataError(f"{name}: {count} bands; expected {len(names)} ({' '.join(recipe.bands)})")
    elif set(wanted) <= set(said):
        names = said
    elif count in (3, 4) and set(wanted) <= set(COLOURS):
        names = COLOURS
    elif count == len(wanted):
        names = wanted
    else:
        advice = ": name them with --bands" if count > len(wanted) else ""  # names make no bands of none
        raise DataError(
            f"{name}: {counted(count, 'band')}; {card.name} takes {len(wanted)} ({' '.join(wanted)}){advice}"
        )
    return [names.index(b) for b in wanted]


def scalings(recipe: ImageRecipe, said: Sequence[tuple[float, float]]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """(scale, offset) of each band: those of the recipe, else of the file."""
    scale = tuple(s if recipe.scale is None else recipe.scale for s, _ in said)
    offset = tuple(o if recipe.offset is None else recipe.offset for _, o in said)
    return scale, offset


def bounded(name: str, shape: tuple[int, int], bands: int, itemsize: int) -> None:
    """Raise DataError for a frame that declares more than is decoded."""
    height, width = shape
    if height < 1 or width < 1:
        raise DataError(f"{name}: {width} x {height} pixels; expected one or more")
    if height * width > MAX_PIXELS:
        raise DataError(f"{name}: declares {width} x {height} pixels; at most {MAX_PIXELS} are decoded")
    if (size := height * width * bands * itemsize) > MAX_BYTES:
        raise DataError(f"{name}: decodes to {size} bytes; at most {MAX_BYTES} are read")


def read(path: Path, index: int, at: float, card: TakesBands, recipe: ImageRecipe) -> Frame:
    """The frame of a file. Raises DataError for one that is damaged, too large or of other bands, InputError as
    `chosen` does."""
    start = time.perf_counter()
    regular(path)
    head = rasters.header(path)
    bounded(str(path), head.shape, head.count, max(head.itemsize, 1))
    where = chosen(card, recipe, head.count, head.names, str(path))
    data, valid, said = rasters.stored(path, [k + 1 for k in where])
    scale, offset = scalings(recipe, said)
    done = time.perf_counter()
    return Frame(index, str(path), at, data, valid, scale, offset, head.geobox, done - start, done)


def regular(path: Path) -> os.stat_result:
    """What the system says of a regular file of at most `MAX_BYTES`. Raises DataError for anything else: a pipe would
    wait for a writer forever."""
    try:
        about = path.stat()
    except (OSError, ValueError) as err:
        raise DataError(f"{path}: cannot be opened ({err})") from err
    if not stat.S_ISREG(about.st_mode):
        raise DataError(f"{path}: no regular file")
    if about.st_size > MAX_BYTES:
        raise DataError(f"{path}: {about.st_size} bytes; at most {MAX_BYTES} are read")
    return about
