"""From items to a mosaic on a grid, as a lazy Dataset. No pixel is read before it is computed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Sequence
from datetime import UTC, datetime
from typing import Any, get_args

import dask.array as da
import numpy as np
import pystac
import xarray as xr
from dask.base import tokenize
from dask.delayed import delayed
from odc.geo.geobox import GeoBox
from odc.geo.xr import xr_coords

from geoml.cube.composite import FIRST, Composite, Mosaic, combine, first
from geoml.cube.footprint import footprint, touches
from geoml.cube.look import Source, looks
from geoml.cube.numbers import Numbers, choose
from geoml.errors import InputError, unknown
from geoml.io import units as units_of
from geoml.io.stac.bands import BandSpec, mask_spec, select
from geoml.io.stac.catalog import Catalog, Profile
from geoml.io.stac.times import time_of

log = logging.getLogger(__name__)

STACK_BYTES = 256 * 2**20
"""What a median may keep at once; its strips are as high as that allows."""


def load(
    items: Sequence[pystac.Item],
    bands: Sequence[str],
    geobox: GeoBox,
    *,
    profile: Profile,
    catalog: Catalog,
    mask: str = "auto",
    composite: str = "least_cloudy",
    rows: int | None = None,
    units: Sequence[str | None] = (),
) -> xr.Dataset:
    """A lazy mosaic of ``items`` on ``geobox``.

    Variables: ``data`` (band, y, x), zero where nothing is known, and ``valid_count`` (y, x) uint16: items whose pixel
    is valid in all bands and clear by the quality mask (``mask='auto'``; ``'none'`` trusts every pixel). Of the
    composites that take the first, bands are read where a pixel has no values yet; behind it the quality mask counts,
    see `geoml.cube.look.Look.first`.
    ``data.attrs['scale']`` and ``['offset']``, one for each band, give physical values. Where all items store numbers
    alike they stay as stored, else ``data`` is float32 and physical with scale 1 and offset 0. This is decided
    by all ``items`` given, whether they touch the geobox or not, so that all blocks of a run agree; where the files
    alone know scale and offset, the headers of a few are read for it.

    ``units`` of each band (see `geoml.io.units`) are those of the model: an item in another unit is resampled in its
    own and converted before it is composited, and what has no value in the model's unit is no data.

    Items count in one order for all blocks: cloud cover, date, id for ``least_cloudy``; newest first for ``first``.
    ``rows`` is the height of the chunks; by default the whole geobox is one, so that each tile of a file is decoded
    once, and a median has strips that fit ``STACK_BYTES``. ``attrs['items']`` lists the ids that are read.

    Raises InputError for an unknown composite or mask, for a band that an item lacks and for units that do not fit.
    Computing raises what :func:`geoml.io.cog.read.read` raises.
    """
    if composite not in get_args(Composite):
        raise unknown("composite", composite, get_args(Composite))
    if mask not in ("auto", "none"):
        raise unknown("mask", mask, ("auto", "none"))
    if not bands or (rows is not None and rows < 1):
        raise InputError(f"bands: {list(bands)}, rows: {rows}; expected a band name and a positive number of rows")
    ordered = sorted(items, key=_newest if composite == "first" else _clearest)
    specs = [tuple(select(item, bands, profile, catalog)) for item in ordered]
    numbers = in_units(choose(specs, len(bands)), specs, bands, units)
    outline = footprint(geobox)
    sources = tuple(
        Source(item.id, chosen, mask_spec(item, profile, catalog) if mask == "auto" else None)
        for item, chosen in zip(ordered, specs, strict=True)
        if touches(item, outline)
    )
    height = rows or _rows(composite, len(sources), len(bands), geobox, numbers)
    data, count = _lazy(sources, geobox, composite, numbers, height)
    coords: dict[Hashable, Any] = {"band": list(bands), **xr_coords(geobox, always_yx=True)}
    variables = {
        "data": (("band", "y", "x"), data, {"scale": numbers.scale, "offset": numbers.offset}),
        "valid_count": (("y", "x"), count, {}),
    }
    return xr.Dataset(variables, coords, attrs={"items": tuple(s.item for s in sources)})


def _clearest(item: pystac.Item) -> tuple[float, datetime, str]:
    cloud = item.properties.get("eo:cloud_cover")
    share = float(cloud) if isinstance(cloud, int | float) and 0 <= cloud <= 100 else 101.0  # unknown comes last
    return share, _when(item), item.id


def _newest(item: pystac.Item) -> tuple[float, str]:
    return -_when(item).timestamp(), item.id


def _when(item: pystac.Item) -> datetime:
    """The time of an item; year 1 when it has none."""
    return time_of(item) or datetime.min.replace(tzinfo=UTC)


def in_units(
    numbers: Numbers, specs: Sequence[tuple[BandSpec, ...]], bands: Sequence[str], wanted: Sequence[str | None]
) -> Numbers:
    """Physical values where an item has to be converted, else ``numbers``. Raises InputError where none can be."""
    columns = list(zip(*specs, strict=True)) or [() for _ in bands]
    for name, column, want in zip(bands, columns, wanted or [None] * len(bands), strict=True):
        if why := units_of.mismatch(name, {s.unit for s in column if s.unit}, want):
            raise InputError(f"units: {why}")
    if not wanted or not any(units_of.differ(s.unit, w) for c, w in zip(columns, wanted, strict=True) for s in c):
        return numbers
    count = len(bands)
    return Numbers("float32", (1.0,) * count, (0.0,) * count, physical=True, units=tuple(wanted))


def _rows(name: str, sources: int, bands: int, geobox: GeoBox, numbers: Numbers) -> int:
    """Rows of a chunk: all of them, or what a median may stack."""
    height, width = int(geobox.shape[0]), int(geobox.shape[1])
    if name != "median" or not sources:
        return height
    return max(1, min(height, STACK_BYTES // max(1, sources * bands * width * np.dtype(numbers.dtype).itemsize)))


def _lazy(
    sources: tuple[Source, ...], geobox: GeoBox, name: str, numbers: Numbers, rows: int
) -> tuple[da.Array, da.Array]:
    """(data, valid_count) as dask arrays with one task for each strip of ``rows``; equal arguments, equal keys."""
    height, width = geobox.shape
    bands = len(numbers.scale)
    array: Callable[..., da.Array] = da.from_delayed
    data, counts = [], []
    for start in range(0, height, rows):
        strip = geobox[start : min(start + rows, height)]
        key = f"geoml-mosaic-{tokenize(sources, strip, name, numbers)}"
        task = delayed(mosaic, nout=2)(sources, strip, name, numbers, dask_key_name=key)
        size = (strip.shape[0], width)
        data.append(array(task[0], (bands, *size), np.dtype(numbers.dtype)))
        counts.append(array(task[1], size, np.uint16))
    join: Callable[..., da.Array] = da.concatenate
    return join(data, axis=1), join(counts, axis=0)


def mosaic(sources: Sequence[Source], geobox: GeoBox, name: str, numbers: Numbers) -> Mosaic:
    """Reads and composites now: ((band, y, x) values, (y, x) uint16 count). Arguments as in :func:`load`."""
    shape, dtype = (len(numbers.scale), *geobox.shape), np.dtype(numbers.dtype)
    with looks(sources, geobox, numbers) as each:
        if name in FIRST:
            return first((look.first for look in each), shape, dtype)
        return combine(name, (found for look in each if (found := look.whole()) is not None), shape, dtype)
