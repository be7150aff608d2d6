"""From items to a mosaic on a grid: read now, or as a lazy Dataset of which no pixel is read before it is computed."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, get_args
from weakref import WeakKeyDictionary

import numpy as np
import pystac
from odc.geo.geobox import GeoBox
from shapely.geometry import MultiPolygon

from geoml.cube.composite import FIRST, Composite, Mosaic, combine, first
from geoml.cube.footprint import area_of, footprint, reaches
from geoml.cube.look import Source, looks
from geoml.cube.numbers import Numbers, numbers_of
from geoml.cube.order import in_order
from geoml.errors import InputError, unknown
from geoml.io.stac.bands import mask_spec, select
from geoml.io.stac.catalog import Catalog, Profile
from geoml.logs import Threads

if TYPE_CHECKING:
    import dask.array as da
    import xarray as xr

log = logging.getLogger(__name__)

STACK_BYTES = 256 * 2**20
"""What a median may keep at once; its strips are as high as that allows."""


@dataclass(frozen=True)
class MosaicPlan:
    """What a mosaic on ``geobox`` is made of, best item first; it is made in strips of ``rows``."""

    sources: tuple[Source, ...]
    geobox: GeoBox
    composite: str
    numbers: Numbers
    rows: int

    @property
    def strips(self) -> list[GeoBox]:
        height = int(self.geobox.shape[0])
        return [self.geobox[y : min(y + self.rows, height)] for y in range(0, height, self.rows)]

    def read(self, threads: int) -> Mosaic:
        """(band, y, x) values and (y, x) uint16 count, by ``threads``. Raises what `geoml.io.cog.read.read` does."""

        def strip(box: GeoBox) -> Mosaic:
            return mosaic(self.sources, box, self.composite, self.numbers)

        strips = self.strips
        if len(strips) == 1:
            return strip(strips[0])
        with Threads(threads) as pool:
            data, counts = zip(*pool.map(strip, strips), strict=True)
        return np.concatenate(data, axis=1), np.concatenate(counts)


def plan_mosaic(
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
    numbers: Numbers | None = None,
) -> MosaicPlan:
    """What `load` makes of these arguments, which it describes; opens files only where they alone know a scale."""
    if composite not in get_args(Composite):
        raise unknown("composite", composite, get_args(Composite))
    if mask not in ("auto", "none"):
        raise unknown("mask", mask, ("auto", "none"))
    if not bands or (rows is not None and rows < 1):
        raise InputError(f"bands: {list(bands)}, rows: {rows}; expected a band name and a positive number of rows")
    outline, ordered, names = footprint(geobox), in_order(items, composite), tuple(bands)
    if numbers is None:
        numbers = numbers_of([(i, tuple(select(i, bands, profile, catalog))) for i in items], bands, composite, units)
        here = [item for item in ordered if reaches(area_of(item), outline)]
        sources = tuple(source_of(item, names, profile, catalog, mask)[0] for item in here)
    else:
        located = (known_source(item, names, profile, catalog, mask) for item in ordered)
        sources = tuple(source for source, area in located if reaches(area, outline))
    height = rows or _rows(composite, len(sources), len(bands), geobox, numbers)
    return MosaicPlan(sources, geobox, composite, numbers, height)


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
    numbers: Numbers | None = None,
) -> xr.Dataset:
    """A lazy mosaic of ``items`` on ``geobox``.

    Variables: ``data`` (band, y, x), zero where nothing is known, and ``valid_count`` (y, x) uint16: items whose pixel
    is valid in all bands and clear by the quality mask (``mask='auto'``; ``'none'`` trusts every pixel). Of the
    composites that take the first, bands are read where a pixel has no values yet; behind it the quality mask counts,
    see `geoml.cube.look.Look.first`.
    ``data.attrs['scale']`` and ``['offset']``, one for each band, give physical values. Where all items store numbers
    alike they stay as stored, else ``data`` is float32 and physical with scale 1 and offset 0. All blocks of a run have
    to agree on this: ``numbers`` say it, see `numbers_of`; without them all ``items`` given decide, whether they touch
    the geobox or not.

    ``units`` of each band (see `geoml.io.units`) are those of the model: an item in another unit is resampled in its
    own and converted before it is composited, and what has no value in the model's unit is no data.

    Items count in one order for all blocks: cloud cover, date, id for ``least_cloudy``; newest first for ``first``.
    ``rows`` is the height of the chunks; by default the whole geobox is one, so that each tile of a file is decoded
    once, and a median has strips that fit ``STACK_BYTES``. ``attrs['items']`` lists the ids that are read.

    Raises InputError for an unknown composite or mask, for a band that an item lacks and for units that do not fit.
    Computing raises what :func:`geoml.io.cog.read.read` raises.
    """
    import xarray as xr  # and dask, a second to import, which a run does without
    from odc.geo.xr import xr_coords

    made = plan_mosaic(
        items,
        bands,
        geobox,
        profile=profile,
        catalog=catalog,
        mask=mask,
        composite=composite,
        rows=rows,
        units=units,
        numbers=numbers,
    )
    data, count = _lazy(made)
    coords: dict[Hashable, Any] = {"band": list(bands), **xr_coords(geobox, always_yx=True)}
    variables = {
        "data": (("band", "y", "x"), data, {"scale": made.numbers.scale, "offset": made.numbers.offset}),
        "valid_count": (("y", "x"), count, {}),
    }
    return xr.Dataset(variables, coords, attrs={"items": tuple(s.item for s in made.sources)})


Located = tuple[Source, MultiPolygon | None]
"""What to read of an item, and where it is."""


def source_of(item: pystac.Item, bands: tuple[str, ...], profile: Profile, catalog: Catalog, mask: str) -> Located:
    """What to read of an item for `load`. Raises InputError for a band that it lacks."""
    specs = tuple(select(item, bands, profile, catalog))
    return Source(item.id, specs, mask_spec(item, profile, catalog) if mask == "auto" else None), area_of(item)


_sources: WeakKeyDictionary[pystac.Item, tuple[tuple[object, ...], Located]] = WeakKeyDictionary()


def known_source(item: pystac.Item, bands: tuple[str, ...], profile: Profile, catalog: Catalog, mask: str) -> Located:
    """`source_of` an item of a run, which does not change: found once, for many blocks read it."""
    asked = bands, profile, catalog, mask
    known = _sources.get(item)
    if known is None or known[0] != asked:
        known = _sources[item] = asked, source_of(item, bands, profile, catalog, mask)
    return known[1]


def _rows(name: str, sources: int, bands: int, geobox: GeoBox, numbers: Numbers) -> int:
    """Rows of a chunk: all of them, or what a median may stack."""
    height, width = int(geobox.shape[0]), int(geobox.shape[1])
    if name != "median" or not sources:
        return height
    return max(1, min(height, STACK_BYTES // max(1, sources * bands * width * np.dtype(numbers.dtype).itemsize)))


def _lazy(made: MosaicPlan) -> tuple[da.Array, da.Array]:
    """(data, valid_count) as dask arrays with one task for each strip; equal arguments, equal keys."""
    import dask.array as da
    from dask.delayed import delayed

    bands = len(made.numbers.scale)
    array: Callable[..., da.Array] = da.from_delayed
    data, counts = [], []
    for strip in made.strips:
        work = partial(mosaic, made.sources, strip, made.composite, made.numbers)
        key = f"geoml-mosaic-{hashlib.sha256(repr(work.args).encode()).hexdigest()}"
        task = delayed(work, name=key, nout=2, traverse=False)(dask_key_name=key)  # dask would look into every source
        data.append(array(task[0], (bands, *strip.shape), np.dtype(made.numbers.dtype)))
        counts.append(array(task[1], tuple(strip.shape), np.uint16))
    join: Callable[..., da.Array] = da.concatenate
    return join(data, axis=1), join(counts, axis=0)


def mosaic(sources: Sequence[Source], geobox: GeoBox, name: str, numbers: Numbers) -> Mosaic:
    """Reads and composites now: ((band, y, x) values, (y, x) uint16 count). Arguments as in :func:`load`."""
    shape, dtype = (len(numbers.scale), *geobox.shape), np.dtype(numbers.dtype)
    with looks(sources, geobox, numbers) as each:
        if name in FIRST:
            return first((look.first for look in each), shape, dtype)
        return combine(name, (found for look in each if (found := look.whole()) is not None), shape, dtype)
