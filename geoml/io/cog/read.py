"""Reading cloud-optimised GeoTIFFs onto a grid: every tile is decoded once, validity comes with the values.

When the file's pixels lie on the grid they are copied as they are. Otherwise the window is read once at the overview
that fits the resolution and resampled in memory (``geoml.io.cog.warp``).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass

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
from geoml.io.cog.warp import ratio, shift, warp, windows
from geoml.io.crs import adopted
from geoml.io.georef import place, rounds
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
        box = place(dataset, spec.projection).geobox
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
    if resampling not in KERNELS:
        raise InputError(f"resampling: {resampling!r}; expected one of {', '.join(KERNELS)}")
    if len({(s.href, s.item, s.asset) for s in specs}) != 1:
        raise InputError("specs: expected one or more bands of one asset of one item")
    spec = specs[0]
    try:
        return using_bytes(spec, lambda dataset, file: _read(dataset, file, specs, geobox, resampling))
    except DataError as err:
        a, (height, width) = geobox.affine, geobox.shape
        raise DataError(f"{err}; window {width} x {height} at x {a.c:.10g}, y {a.f:.10g} of {geobox.crs}") from err


def _read(
    dataset: rasterio.DatasetReader, file: Bytes, specs: Sequence[BandSpec], target: GeoBox, resampling: str
) -> Pixels:
    placed, where = place(dataset, specs[0].projection), label(specs[0])
    no_data = validity.nodata_of(dataset, [s.index for s in specs], [s.no_data for s in specs], where)
    turns = rounds(placed.geobox)
    parts = (_turn(dataset, file, specs, target, resampling, box, no_data, own=placed.own) for box in turns)
    data, valid = next(parts)
    for values, ok in parts:  # longitudes that go round
        np.copyto(data, values, where=ok & ~valid)
        valid |= ok
    return data, valid


def _turn(
    dataset: rasterio.DatasetReader,
    file: Bytes,
    specs: Sequence[BandSpec],
    target: GeoBox,
    resampling: str,
    full: GeoBox,
    no_data: NoData,
    *,
    own: bool,
) -> Pixels:
    """The file as it lies on ``full``; ``own``: its overviews know their place."""
    full, where = adopted(full, str(target.crs)), label(specs[0])
    offset = shift(full, target)
    with validity.with_side_mask(dataset, no_data) as here:
        if offset is not None:
            return _aligned(dataset, specs, target, offset, here)
        level = _level(dataset, min(ratio(full, target)), nearest=resampling == "nearest") if own else None
        if level is None or not _know_all(dataset, file, specs[0], here):
            return _placed(dataset, specs, target, resampling, full, here)
    with open_path(dataset.name, overview=level) as overview, validity.with_side_mask(overview, no_data, level) as here:
        bounded(overview, where)
        zoom = Affine.scale(dataset.width / overview.width, dataset.height / overview.height)
        source = GeoBox(overview.shape, full.affine @ zoom, full.crs)
        return _placed(overview, specs, target, resampling, source, here)


def _know_all(dataset: rasterio.DatasetReader, file: Bytes, spec: BandSpec, no_data: NoData) -> bool:
    """Whether the overviews were made knowing all that hides pixels: else what is hidden was averaged into them."""
    levels = len(dataset.overviews(1))
    missing = no_data.unknown_to_overviews()
    if no_data.side is not None and len(no_data.side.overviews(1)) < levels:
        missing = f"{no_data.side.name}, which has none"
    elif no_data.masked and mask_overviews(file) < levels:
        missing = "a mask, which has none"
    if missing:
        log.info("%s: read at full size, its overviews were made without %s", label(spec), missing)
    return not missing


def _placed(
    dataset: rasterio.DatasetReader,
    specs: Sequence[BandSpec],
    target: GeoBox,
    resampling: str,
    source: GeoBox,
    no_data: NoData,
) -> Pixels:
    """One level of the file on the target: copied where it can be, else warped."""
    if (offset := shift(source, target)) is not None:
        return _aligned(dataset, specs, target, offset, no_data)
    reach = math.ceil(KERNELS[resampling] * max(1.0, *ratio(source, target))) + 2
    needed = windows(source, target, reach)
    itemsize = np.dtype(_dtype(dataset, specs)).itemsize
    height, width = target.shape
    if max(height, width) > 1 and sum(math.prod(w.shape) for w in needed) * itemsize * len(specs) > MAX_SOURCE:
        axis, half = (1, height // 2) if height >= width else (2, width // 2)
        parts = (target[:half], target[half:]) if axis == 1 else (target[:, :half], target[:, half:])
        done = [_placed(dataset, specs, part, resampling, source, no_data) for part in parts]
        return np.concatenate([d for d, _ in done], axis), np.concatenate([v for _, v in done], axis)
    data = np.zeros((len(specs), height, width), _dtype(dataset, specs))
    valid = np.zeros(data.shape, bool)
    for window in needed:
        pixels = _pixels(dataset, specs, window, no_data)
        if not pixels[1].any():
            continue
        box = source[window.y0 : window.y1, window.x0 : window.x1]
        values, ok = warp(*pixels, box, target, resampling=resampling, scale=ratio(source, target))
        np.copyto(data, values, where=ok)
        valid |= ok
    return data, valid


def _aligned(
    dataset: rasterio.DatasetReader, specs: Sequence[BandSpec], target: GeoBox, offset: tuple[int, int], no_data: NoData
) -> Pixels:
    """The target's pixels as they are in the file; zero and invalid outside of it."""
    row, col = offset
    height, width = target.shape
    window = Window(row, col, row + height, col + width)
    inside = window.intersect(Window(0, 0, dataset.height, dataset.width))
    if inside == window:
        return _pixels(dataset, specs, window, no_data)
    data = np.zeros((len(specs), height, width), _dtype(dataset, specs))
    valid = np.zeros(data.shape, bool)
    if not inside.empty:
        part = (slice(None), *inside.slices(window))
        data[part], valid[part] = _pixels(dataset, specs, inside, no_data)
    return data, valid


def _pixels(dataset: rasterio.DatasetReader, specs: Sequence[BandSpec], window: Window, no_data: NoData) -> Pixels:
    """A window of the file, north up, with its validity."""
    flipped = place(dataset, specs[0].projection).flipped
    top = dataset.height - window.y1 if flipped else window.y0
    area = FileWindow(window.x0, top, window.x1 - window.x0, window.y1 - window.y0)
    data, valid = validity.pixels(dataset, [s.index for s in specs], area, no_data)
    return (data[:, ::-1], valid[:, ::-1]) if flipped else (data, valid)


def _dtype(dataset: rasterio.DatasetReader, specs: Sequence[BandSpec]) -> np.dtype:
    return np.result_type(*(np.dtype(dataset.dtypes[s.index - 1]) for s in specs))


def _level(dataset: rasterio.DatasetReader, scale: float, *, nearest: bool) -> int | None:
    """Number of the coarsest overview that is not coarser than ``scale`` source pixels; None for full resolution.

    Classes and quality bits may have been averaged in overviews, so ``nearest`` prefers up to four times finer ones.
    """
    limit = (scale / 4 if nearest else scale) * (1 + 1e-3)
    fitting = [k for k, factor in enumerate(dataset.overviews(1)) if factor <= limit]
    return fitting[-1] if fitting else None
