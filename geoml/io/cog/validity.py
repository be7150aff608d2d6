"""Which pixels of a file are data: those of which nobody says otherwise.

GDAL takes one source of validity and drops the others: the mask, else the nodata value, else alpha. Here each of them
counts, and so do the nodata values that an item or a catalog's YAML knows, and NaN. Prediction and training read here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

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
    """Who says of bands of a file that a pixel is no data."""

    tags: tuple[float | None, ...]
    """Of each band: the file's own nodata value, where its dtype holds it."""
    given: tuple[tuple[float, ...], ...]
    """Of each band: values that others say, where its dtype holds them."""
    alpha: int | None = None
    """The band that is 0 where nothing is seen."""
    masked: bool = False
    """There is a mask of the whole dataset."""
    side: rasterio.DatasetReader | None = None
    """The file ``NAME.msk`` beside a local raster."""
    where: str = ""
    """How errors name the file."""

    def unknown_to_overviews(self) -> str:
        """What overviews were made without: GDAL averages with one source of validity. Empty where they know all."""
        strange = [
            v for tag, more in zip(self.tags, self.given, strict=True) for v in more if math.isfinite(v) and v != tag
        ]
        if strange:
            return f"nodata {strange[0]:g}, which the file itself does not say"
        own = {
            "its mask": self.masked or self.side is not None,
            "its nodata": any(t is not None and math.isfinite(t) for t in self.tags),
            "its alpha": self.alpha is not None,
        }
        said = [name for name, there in own.items() if there]
        return " and ".join(said[1:]) if len(said) > 1 else ""


def of(dataset: rasterio.DatasetReader, indexes: Sequence[int], given: Sequence[Sequence[float]], where: str) -> NoData:
    """Who speaks in and beside ``dataset`` of the bands ``indexes``; ``given`` are nodata values that others say."""
    dtypes = [np.dtype(dataset.dtypes[i - 1]) for i in indexes]
    tags = [dataset.nodatavals[i - 1] for i in indexes]
    flags = [dataset.mask_flag_enums[i - 1] for i in indexes]
    noted = pam.beside(dataset, where)
    beside = [noted[i].nodata if i in noted else None for i in indexes]
    more = [[v for v in (*g, b) if v is not None] for g, b in zip(given, beside, strict=True)]
    return NoData(
        tuple(None if t is None else held(t, d, own=True) for t, d in zip(tags, dtypes, strict=True)),
        tuple(tuple(v for g in each if (v := held(g, d)) is not None) for each, d in zip(more, dtypes, strict=True)),
        _alpha(dataset, indexes),
        any(MaskFlags.per_dataset in f and MaskFlags.alpha not in f for f in flags),
        where=where,
    )


def held(value: float, dtype: np.dtype[Any], *, own: bool = False) -> float | None:
    """``value`` as ``dtype`` holds it; None where it cannot, and then it marks nothing.

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
    dataset: rasterio.DatasetReader, indexes: Sequence[int], window: Window | None, said: NoData
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """(band, y, x) values, zero where not valid, and (band, y, x) True where they are data.

    One call for all bands, so that each tile is decoded once. A side file has to be of the level of ``dataset``.
    """
    dtype = np.result_type(*(np.dtype(dataset.dtypes[i - 1]) for i in indexes))
    wanted = [*indexes, said.alpha] if said.alpha else list(indexes)
    data = dataset.read(wanted, window=window, out_dtype=dtype)
    data, opaque = (data[:-1], data[-1] > 0) if said.alpha else (data, None)
    valid = np.isfinite(data) if dtype.kind == "f" else np.ones(data.shape, bool)
    for k, (tag, more) in enumerate(zip(said.tags, said.given, strict=True)):
        for value in {tag, *more}:
            if value is not None and math.isfinite(value):
                valid[k] &= ~equals(data[k], value)
    if opaque is not None:
        valid &= opaque
    if said.masked:
        valid &= dataset.read_masks(indexes[0], window=window) > 0
    if said.side is not None:
        bands = list(indexes) if said.side.count >= dataset.count > 1 else [1]
        valid &= said.side.read(bands, window=window) > 0
    if not valid.all():
        data[~valid] = 0
    return data, valid


def equals(band: NDArray[Any], nodata: float) -> NDArray[np.bool_]:
    """Where ``band`` is ``nodata``, a finite number, as GDAL compares them: floats that were rounded as text are equal.

    ``ARE_REAL_EQUAL`` of gdal_priv.h, with the epsilon of float32 for float64 too.
    """
    if band.dtype.kind != "f":
        same: NDArray[np.bool_] = band == band.dtype.type(int(nodata))
        return same
    none = band.dtype.type(nodata)
    most, around = float(np.finfo(band.dtype).max), 1e-6 * abs(float(none))
    low, high = max(float(none) - around, -most), min(float(none) + around, most)
    near: NDArray[np.bool_] = (band >= low) & (band <= high)
    if near.any():
        with np.errstate(over="ignore", under="ignore"):
            some = band[near]
            close = np.abs(some - none) < band.dtype.type(EPSILON) * np.abs(some + none) * band.dtype.type(2)
            near[near] = (some == none) | close
    return near


def _alpha(dataset: rasterio.DatasetReader, indexes: Sequence[int]) -> int | None:
    """The file's alpha band, unless it is asked for as data (near infrared is sometimes tagged so)."""
    kinds = zip(dataset.colorinterp, dataset.dtypes, strict=True)
    found = [i for i, (c, d) in enumerate(kinds, 1) if c == ColorInterp.alpha and np.dtype(d).kind == "u"]
    return found[0] if found and found[0] not in indexes else None


@contextmanager
def beside(dataset: rasterio.DatasetReader, said: NoData, overview: int | None = None) -> Iterator[NoData]:
    """``said`` with the mask ``NAME.msk`` beside a local raster, at the level of ``dataset``; as it is without one.

    Raises DataError for one that is no mask of this raster: what it hides would pass for data.
    """
    place = Path(f"{dataset.name}.msk")
    if "://" in dataset.name or dataset.name.startswith("/vsi") or not place.is_file():
        yield said
        return
    extra = {} if overview is None else {"overview_level": overview}
    try:
        side = rasterio.open(place, driver="GTiff", sharing=False, **extra)
    except RasterioIOError as err:
        raise DataError(f"{said.where}: the mask {place.name} beside it cannot be read ({err})") from err
    with side:
        if side.shape != dataset.shape:
            size = f"{side.shape} pixels, not {dataset.shape}"
            raise DataError(f"{said.where}: the mask {place.name} beside it has {size}")
        yield replace(said, side=side)
