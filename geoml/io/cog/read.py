"""Reading cloud-optimised GeoTIFFs onto a grid: every tile is decoded once, validity comes with the values.

When the file's pixels lie on the grid they are copied as they are. Otherwise the window is read once at the overview
that fits the resolution and resampled in memory (``geoml.io.cog.warp``).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.windows import Window as FileWindow

from geoml.errors import DataError, InputError
from geoml.grid.plane import Window
from geoml.io.cog import validity
from geoml.io.cog.directories import Bytes, mask_overviews
from geoml.io.cog.source import bounded, label, open_path, using, using_bytes
from geoml.io.cog.validity import NoData
from geoml.io.cog.warp import ratio, shift, warp, warp_valid, windows
from geoml.io.crs import aligned
from geoml.io.georef import placement_of, wrapped_copies
from geoml.io.stac.bands import BandSpec

log = logging.getLogger(__name__)

Pixels = tuple[NDArray[np.number], NDArray[np.bool_]]

MAX_SOURCE = 128 * 2**20
"""Bytes of source pixels held for one warp; a larger one (no overviews) is done in parts."""

KERNELS = {"nearest": 1, "bilinear": 1, "cubic": 2, "average": 1}
"""Known resampling methods and the radius of their kernels in pixels."""


@dataclass(frozen=True)
class Header:
    """What a file says of itself: ``res`` in units of the CRS, ``anchor`` 0.0 (edges on multiples) or 0.5 (centres)."""

    crs: str
    res: float
    anchor: float
    shape: tuple[int, int]
    dtype: str
    nodata: float | None
    geobox: GeoBox


def header(spec: BandSpec) -> Header:
    """Opens the file of ``spec`` and reads no pixel. Raises InputError, DataError and TransientError as `read` does."""

    def inspect(dataset: rasterio.DatasetReader) -> Header:
        box = placement_of(dataset, spec.projection).geobox
        res = math.hypot(box.affine.a, box.affine.d)
        phase = abs(box.affine.c / res - round(box.affine.c / res))
        nodata = dataset.nodatavals[spec.index - 1] if spec.nodata is None else spec.nodata
        dtype = str(dataset.dtypes[spec.index - 1])
        return Header(
            str(box.crs), res, 0.5 if phase > 0.25 else 0.0, (dataset.height, dataset.width), dtype, nodata, box
        )

    return using(spec, inspect)


def read(specs: Sequence[BandSpec], geobox: GeoBox, *, resampling: str = "bilinear") -> Pixels:
    """Bands of one asset on ``geobox``: (band, y, x) in the file's dtype and (band, y, x) bool, True where valid.

    Invalid are the nodata values of the file and of the spec, NaN and infinity, what a mask (internal, or the file
    NAME.msk beside a local one) or an alpha band hides, and everything outside the file; invalid values are zero.
    ``resampling`` is one of ``KERNELS`` and unused when the file's pixels lie on the grid. Overviews that were made
    without knowing all of that are not read. Pixels do not depend on how a plane is cut into geoboxes.

    Raises InputError (bands of several files, resampling or href not allowed), DataError (broken, hostile or
    unusable file; names item, asset and window) or TransientError (the server failed after all retries).
    """
    return _opened(specs, [geobox], resampling)[0]


def read_parts(specs: Sequence[BandSpec], parts: Sequence[GeoBox], *, resampling: str = "bilinear") -> list[Pixels]:
    """`read` on each of the ``parts`` of a grid; the file is opened once."""
    return _opened(specs, parts, resampling)


def valid_parts(
    specs: Sequence[BandSpec], parts: Sequence[GeoBox], *, resampling: str = "bilinear"
) -> list[NDArray[np.bool_]]:
    """The second of `read` in each of the ``parts``, for less: values are not resampled, and are decoded only where
    they may mean no data (nodata, NaN). Raises the errors of `read`.
    """
    return [valid for _, valid in _opened(specs, parts, resampling, bare=True)]


def _opened(specs: Sequence[BandSpec], parts: Sequence[GeoBox], resampling: str, *, bare: bool = False) -> list[Pixels]:
    if resampling not in KERNELS:
        raise InputError(f"resampling: {resampling!r}; expected one of {', '.join(KERNELS)}")
    if len({(s.href, s.item, s.asset) for s in specs}) != 1:
        raise InputError("specs: expected one or more bands of one asset of one item")
    at = list(parts)

    def action(dataset: rasterio.DatasetReader, file: Bytes) -> list[Pixels]:
        out = []
        for box in parts:
            at[:] = [box]
            out.append(_read(dataset, file, specs, box, resampling, bare=bare))
        return out

    try:
        return using_bytes(specs[0], action)
    except DataError as err:
        a, (height, width) = at[0].affine, at[0].shape
        raise DataError(f"{err}; window {width} x {height} at x {a.c:.10g}, y {a.f:.10g} of {at[0].crs}") from err


def _read(
    dataset: rasterio.DatasetReader,
    file: Bytes,
    specs: Sequence[BandSpec],
    target: GeoBox,
    resampling: str,
    *,
    bare: bool,
) -> Pixels:
    placed, where = placement_of(dataset, specs[0].projection), label(specs[0])
    no_data = validity.nodata_of(dataset, [s.index for s in specs], [s.nodata_values for s in specs], where)
    full = _Level(dataset, specs, no_data, bare)
    parts = (_turn(full, file, target, resampling, box, own=placed.own) for box in wrapped_copies(placed.geobox))
    data, valid = next(parts)
    for values, ok in parts:  # longitudes that go round
        np.copyto(data, values, where=ok & ~valid)
        valid |= ok
    return data, valid


@dataclass(frozen=True)
class _Level:
    """One resolution of an opened file, the bands of it that are read, and what says no data in them."""

    dataset: rasterio.DatasetReader
    specs: Sequence[BandSpec]
    no_data: NoData
    bare: bool = False
    """Only validity is wanted; values are zeros."""

    def empty(self, shape: tuple[int, int]) -> Pixels:
        """Zeros, none of them valid."""
        data = self.zeros((len(self.specs), *shape))
        return data, np.zeros(data.shape, bool)

    def zeros(self, shape: tuple[int, ...]) -> NDArray[np.number]:
        """(band, y, x)."""
        return np.zeros(shape, np.result_type(*(np.dtype(self.dataset.dtypes[s.index - 1]) for s in self.specs)))

    def pixels(self, window: Window) -> Pixels:
        """A window of the file, north up, with its validity."""
        flipped = placement_of(self.dataset, self.specs[0].projection).flipped
        top = self.dataset.height - window.y1 if flipped else window.y0
        area = FileWindow(window.x0, top, window.x1 - window.x0, window.y1 - window.y0)
        indexes = [s.index for s in self.specs]
        if self.bare:
            valid = validity.known(self.dataset, indexes, area, self.no_data)
            data = self.zeros(valid.shape)  # never touched, so the system gives no memory for them
        else:
            data, valid = validity.pixels(self.dataset, indexes, area, self.no_data)
        return (data[:, ::-1], valid[:, ::-1]) if flipped else (data, valid)


def _turn(full: _Level, file: Bytes, target: GeoBox, resampling: str, box: GeoBox, *, own: bool) -> Pixels:
    """The file as it lies on ``box``; ``own``: its overviews know their placement_of."""
    box, dataset = aligned(box, str(target.crs)), full.dataset
    with validity.with_side_mask(dataset, full.no_data) as no_data:
        level = replace(full, no_data=no_data)
        if (offset := shift(box, target)) is not None:
            return _aligned(level, target, offset)
        number = _overview(dataset, min(ratio(box, target)), nearest=resampling == "nearest") if own else None
        if number is None or not _know_all(level, file):
            return _placed(level, target, resampling, box)
    with (
        open_path(dataset.name, overview=number) as overview,
        validity.with_side_mask(overview, full.no_data, number) as no_data,
    ):
        bounded(overview, label(full.specs[0]))
        zoom = Affine.scale(dataset.width / overview.width, dataset.height / overview.height)
        source = GeoBox(overview.shape, box.affine @ zoom, box.crs)
        return _placed(replace(full, dataset=overview, no_data=no_data), target, resampling, source)


def _know_all(level: _Level, file: Bytes) -> bool:
    """Whether the overviews were made knowing all that hides pixels: else what is hidden was averaged into them."""
    no_data, count = level.no_data, len(level.dataset.overviews(1))
    missing = no_data.unknown_to_overviews()
    if no_data.side is not None and len(no_data.side.overviews(1)) < count:
        missing = f"{no_data.side.name}, which has none"
    elif no_data.masked and mask_overviews(file) < count:
        missing = "a mask, which has none"
    if missing:
        log.info("%s: read at full size, its overviews were made without %s", label(level.specs[0]), missing)
    return not missing


def _placed(level: _Level, target: GeoBox, resampling: str, source: GeoBox) -> Pixels:
    """One level of the file on the target: copied where it can be, else warped."""
    if (offset := shift(source, target)) is not None:
        return _aligned(level, target, offset)
    reach = math.ceil(KERNELS[resampling] * max(1.0, *ratio(source, target))) + 2
    needed = windows(source, target, reach)
    height, width = target.shape
    data, valid = level.empty((height, width))
    if max(height, width) > 1 and sum(math.prod(w.shape) for w in needed) * data.itemsize * len(data) > MAX_SOURCE:
        axis, half = (1, height // 2) if height >= width else (2, width // 2)
        halves = (target[:half], target[half:]) if axis == 1 else (target[:, :half], target[:, half:])
        done = [_placed(level, part, resampling, source) for part in halves]
        return np.concatenate([d for d, _ in done], axis), np.concatenate([v for _, v in done], axis)
    for window in needed:
        pixels = level.pixels(window)
        if not pixels[1].any():
            continue
        box = source[window.y0 : window.y1, window.x0 : window.x1]
        if level.bare and pixels[1].all():  # else a kernel may find nothing to weigh
            valid |= warp_valid(pixels[1], box, target)
            continue
        values, ok = warp(*pixels, box, target, resampling=resampling, scale=ratio(source, target))
        np.copyto(data, values, where=ok)
        valid |= ok
    return data, valid


def _aligned(level: _Level, target: GeoBox, offset: tuple[int, int]) -> Pixels:
    """The target's pixels as they are in the file; zero and invalid outside of it."""
    (row, col), (height, width) = offset, target.shape
    window = Window(row, col, row + height, col + width)
    inside = window.intersect(Window(0, 0, level.dataset.height, level.dataset.width))
    if inside == window:
        return level.pixels(window)
    data, valid = level.empty((height, width))
    if not inside.empty:
        part = (slice(None), *inside.slices(window))
        data[part], valid[part] = level.pixels(inside)
    return data, valid


def _overview(dataset: rasterio.DatasetReader, scale: float, *, nearest: bool) -> int | None:
    """Number of the coarsest overview that is not coarser than ``scale`` source pixels; None for full resolution.

    Classes and quality bits may have been averaged in overviews, so ``nearest`` prefers up to four times finer ones.
    """
    if dataset.driver == "VRT":  # those of its parts, which are not opened by its name
        return None
    limit = (scale / 4 if nearest else scale) * (1 + 1e-3)
    return max((k for k, factor in enumerate(dataset.overviews(1)) if factor <= limit), default=None)
