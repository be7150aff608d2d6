"""Which pixels of a file are data: those that no source of validity excludes.

GDAL takes one source of validity and drops the others: the mask, else the nodata value, else alpha. Here each of them
counts, and so do the nodata values that an item or a catalog's YAML knows, and NaN. Prediction and training read here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import RasterioIOError
from rasterio.windows import Window

from geoml.errors import DataError
from geoml.io.cog import pam

EPSILON = float(np.finfo(np.float32).eps)


@dataclass(frozen=True)
class NoData:
    """All that says of bands of a file which pixels are no data."""

    tags: tuple[float | None, ...]
    """Of each band: the file's own nodata value, where its dtype holds it."""
    others: tuple[tuple[float, ...], ...]
    """Of each band: nodata values of item, catalog and ``NAME.aux.xml``, where its dtype holds them."""
    alpha: int | None = None
    """The band that is 0 where nothing is seen."""
    masked: bool = False
    """There is a mask of the whole dataset."""
    side: rasterio.DatasetReader | None = None
    """The file ``NAME.msk`` beside a local raster."""
    where: str = ""
    """How errors name the file."""

    def unknown_to_overviews(self) -> str:
        """What overviews were made without: GDAL averages with one source of validity. Empty if they know all."""
        pairs = zip(self.tags, self.others, strict=True)
        strange = [v for tag, others in pairs for v in others if math.isfinite(v) and v != tag]
        if strange:
            return f"nodata {strange[0]:g}, which the file itself does not say"
        own = {
            "its mask": self.masked or self.side is not None,
            "its nodata": any(t is not None and math.isfinite(t) for t in self.tags),
            "its alpha": self.alpha is not None,
        }
        present = [name for name, there in own.items() if there]
        return " and ".join(present[1:])


def nodata_of(
    dataset: rasterio.DatasetReader, indexes: Sequence[int], given: Sequence[Sequence[float]], where: str
) -> NoData:
    """What says no data in and beside ``dataset`` of the bands ``indexes``; ``given``: of item and catalog, by band."""
    dtypes = [np.dtype(dataset.dtypes[i - 1]) for i in indexes]
    tags = [dataset.nodatavals[i - 1] for i in indexes]
    flags = [dataset.mask_flag_enums[i - 1] for i in indexes]
    noted = pam.pam_bands(dataset, where)
    aux = [noted[i].nodata if i in noted else None for i in indexes]
    more = [[v for v in (*g, b) if v is not None] for g, b in zip(given, aux, strict=True)]
    return NoData(
        tuple(None if t is None else as_dtype(t, d, own=True) for t, d in zip(tags, dtypes, strict=True)),
        tuple(
            tuple(v for g in each if (v := as_dtype(g, d)) is not None) for each, d in zip(more, dtypes, strict=True)
        ),
        _alpha(dataset, indexes),
        any(MaskFlags.per_dataset in f and MaskFlags.alpha not in f for f in flags),
        where=where,
    )


def as_dtype(value: float, dtype: np.dtype, *, own: bool = False) -> float | None:
    """``value`` as ``dtype`` holds it; None if it cannot, and then it marks nothing.

    Of the file's ``own`` tag GDAL takes the whole part in a file of integers.
    """
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            stored = float(dtype.type(value))
        return stored if math.isfinite(stored) or not math.isfinite(value) else None
    if not math.isfinite(value) or not (own or float(value).is_integer()):
        return None
    limits = np.iinfo(dtype)
    return float(int(value)) if limits.min <= int(value) <= limits.max else None


def pixels(
    dataset: rasterio.DatasetReader, indexes: Sequence[int], window: Window | None, no_data: NoData
) -> tuple[NDArray[np.number], NDArray[np.bool_]]:
    """(band, y, x) values, zero where not valid, and (band, y, x) True where they are data.

    One call for all bands, so that each tile is decoded once. A side file has to be of the level of ``dataset``.
    """
    dtype = np.result_type(*(np.dtype(dataset.dtypes[i - 1]) for i in indexes))
    bands = [*indexes, no_data.alpha] if no_data.alpha else list(indexes)
    data = dataset.read(bands, window=window, out_dtype=dtype)
    data, opaque = (data[:-1], data[-1] > 0) if no_data.alpha else (data, None)
    valid = np.isfinite(data) if dtype.kind == "f" else np.ones(data.shape, bool)
    for k, (tag, more) in enumerate(zip(no_data.tags, no_data.others, strict=True)):
        for value in {tag, *more}:
            if value is not None and math.isfinite(value):
                hidden = equals(data[k], value)
                valid[k] &= np.logical_not(hidden, out=hidden)
    if opaque is not None:
        valid &= opaque
    _masked(valid, dataset, indexes, window, no_data)
    if not valid.all():
        data[~valid] = 0
    return data, valid


def known(
    dataset: rasterio.DatasetReader, indexes: Sequence[int], window: Window, no_data: NoData
) -> NDArray[np.bool_]:
    """The second of `pixels`. Only what decides it is decoded: no band of integers in which no value is no data."""
    values = [v for v in (*no_data.tags, *chain.from_iterable(no_data.others)) if v is not None and math.isfinite(v)]
    if values or any(np.dtype(dataset.dtypes[i - 1]).kind == "f" for i in indexes):
        return pixels(dataset, indexes, window, no_data)[1]
    valid = np.ones((len(indexes), int(window.height), int(window.width)), bool)
    if no_data.alpha:
        valid &= dataset.read(no_data.alpha, window=window) > 0
    _masked(valid, dataset, indexes, window, no_data)
    return valid


def _masked(
    valid: NDArray[np.bool_],
    dataset: rasterio.DatasetReader,
    indexes: Sequence[int],
    window: Window | None,
    no_data: NoData,
) -> None:
    """Takes out of ``valid`` what a mask in the file or beside it hides."""
    if no_data.masked:
        valid &= dataset.read_masks(indexes[0], window=window) > 0
    if no_data.side is not None:
        bands = list(indexes) if no_data.side.count >= dataset.count > 1 else [1]
        valid &= no_data.side.read(bands, window=window) > 0


def equals(band: NDArray[np.number], nodata: float) -> NDArray[np.bool_]:
    """Where ``band`` is ``nodata``, a finite number, as GDAL compares them: floats that were rounded as text are equal.

    ``ARE_REAL_EQUAL`` of gdal_priv.h, with the epsilon of float32 for float64 too.
    """
    dtype: np.dtype = band.dtype
    if dtype.kind != "f":
        same: NDArray[np.bool_] = band == dtype.type(int(nodata))
        return same
    none = dtype.type(nodata)
    most, around = float(np.finfo(dtype).max), 1e-6 * abs(float(none))
    low, high = max(float(none) - around, -most), min(float(none) + around, most)
    near: NDArray[np.bool_] = (band >= low) & (band <= high)
    if near.any():
        with np.errstate(over="ignore", under="ignore"):
            some = band[near]
            close = np.abs(some - none) < dtype.type(EPSILON) * np.abs(some + none) * dtype.type(2)
            near[near] = (some == none) | close
    return near


def _alpha(dataset: rasterio.DatasetReader, indexes: Sequence[int]) -> int | None:
    """The file's alpha band, unless it is asked for as data (near infrared is sometimes tagged so)."""
    kinds = zip(dataset.colorinterp, dataset.dtypes, strict=True)
    alphas = [i for i, (c, d) in enumerate(kinds, 1) if c == ColorInterp.alpha and np.dtype(d).kind == "u"]
    return alphas[0] if alphas and alphas[0] not in indexes else None


@contextmanager
def with_side_mask(dataset: rasterio.DatasetReader, no_data: NoData, overview: int | None = None) -> Iterator[NoData]:
    """``no_data`` with the mask ``NAME.msk`` beside a local raster, at the level of ``dataset``; as it is without one.

    Raises DataError for one that is not a mask of this raster: what it hides would pass for data.
    """
    place = Path(f"{dataset.name}.msk")
    if "://" in dataset.name or dataset.name.startswith("/vsi") or not place.is_file():
        yield no_data
        return
    extra = {} if overview is None else {"overview_level": overview}
    try:
        side = rasterio.open(place, driver="GTiff", sharing=False, **extra)
    except RasterioIOError as err:
        raise DataError(f"{no_data.where}: the mask {place.name} beside it cannot be read ({err})") from err
    with side:
        if side.shape != dataset.shape:
            size = f"{side.shape} pixels, not {dataset.shape}"
            raise DataError(f"{no_data.where}: the mask {place.name} beside it has {size}")
        yield replace(no_data, side=side)
