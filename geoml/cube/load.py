"""From items to a mosaic on a grid, as a lazy Dataset. No pixel is read before it is computed."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, get_args
from weakref import WeakKeyDictionary

import dask.array as da
import numpy as np
import pystac
import xarray as xr
from dask.delayed import delayed
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from odc.geo.xr import xr_coords
from shapely.geometry import MultiPolygon

from geoml.cube.composite import Composite, Mosaic, Observation, combine
from geoml.cube.footprint import area_of, footprint, reaches
from geoml.cube.mask import clear
from geoml.cube.numbers import Numbers, choose, same, stored
from geoml.errors import InputError, unknown
from geoml.io import units as units_of
from geoml.io.cog import read as cog
from geoml.io.cog.scaling import with_file_scaling
from geoml.io.stac.bands import BandSpec, MaskSpec, mask_spec, select
from geoml.io.stac.catalog import Catalog, Profile
from geoml.io.stac.times import time_of
from geoml.logs import Threads, about

log = logging.getLogger(__name__)

STACK_BYTES = 256 * 2**20
"""What a median may keep at once; its strips are as high as that allows."""

READERS = 4
"""Assets of one item that are read at the same time."""


@dataclass(frozen=True, slots=True)
class Source:
    """What to read of one item."""

    item: str
    bands: tuple[BandSpec, ...]
    mask: MaskSpec | None


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
    is valid in all bands and clear by the quality mask (``mask='auto'``; ``'none'`` trusts every pixel).
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
    data, count = _lazy(sources, geobox, composite, numbers, height)
    coords: dict[Hashable, Any] = {"band": list(bands), **xr_coords(geobox, always_yx=True)}
    variables = {
        "data": (("band", "y", "x"), data, {"scale": numbers.scale, "offset": numbers.offset}),
        "valid_count": (("y", "x"), count, {}),
    }
    return xr.Dataset(variables, coords, attrs={"items": tuple(s.item for s in sources)})


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


def in_order(items: Iterable[pystac.Item], composite: str) -> list[pystac.Item]:
    """Items as a mosaic counts them."""
    return sorted(items, key=_newest if composite == "first" else _clearest)


def numbers_of(
    items: Sequence[tuple[pystac.Item, tuple[BandSpec, ...]]],
    bands: Sequence[str],
    composite: str,
    units: Sequence[str | None] = (),
) -> Numbers:
    """How a mosaic of ``items`` with their ``bands`` stores values, whatever part of it is read.

    Where the files alone know scale and offset, the headers of a few are read. Raises InputError for units that do not
    fit and TransientError when such a file does not answer.
    """
    known = {item.id: specs for item, specs in items}
    specs = [known[item.id] for item in in_order((item for item, _ in items), composite)]
    return in_units(choose(specs, len(bands)), specs, bands, units)


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


def converted(data: NDArray[np.number], have: Sequence[str | None], want: Sequence[str | None]) -> NDArray[np.bool_]:
    """Converts ``data`` (band, y, x), physical, in place; (y, x) True where every band has a value in its new unit."""
    for k, (ours, theirs) in enumerate(zip(have, want, strict=True)):
        if units_of.differ(ours, theirs):
            data[k] = units_of.convert(data[k], ours, theirs)
    known: NDArray[np.bool_] = np.isfinite(data).all(axis=0)
    data[:, ~known] = 0
    return known


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
        work = partial(mosaic, sources, strip, name, numbers)
        key = f"geoml-mosaic-{hashlib.sha256(repr(work.args).encode()).hexdigest()}"
        task = delayed(work, name=key, nout=2, traverse=False)(dask_key_name=key)  # dask would look into every source
        size = (strip.shape[0], width)
        data.append(array(task[0], (bands, *size), np.dtype(numbers.dtype)))
        counts.append(array(task[1], size, np.uint16))
    join: Callable[..., da.Array] = da.concatenate
    return join(data, axis=1), join(counts, axis=0)


def mosaic(sources: Sequence[Source], geobox: GeoBox, name: str, numbers: Numbers) -> Mosaic:
    """Reads and composites now: ((band, y, x) values, (y, x) uint16 count). Arguments as in :func:`load`."""
    shape = (len(numbers.scale), *geobox.shape)
    return combine(name, _observations(sources, geobox, numbers), shape, np.dtype(numbers.dtype))


def _observations(sources: Sequence[Source], geobox: GeoBox, numbers: Numbers) -> Iterator[Observation]:
    """One item after the other; bands are not read where the quality mask leaves nothing."""
    with Threads(READERS) as pool:
        for source in sources:
            with about(item=source.item):
                found = _observation(source, geobox, numbers, pool)
            if found is not None:
                yield found


def _observation(source: Source, geobox: GeoBox, numbers: Numbers, pool: Threads) -> Observation | None:
    log.info("reading %d bands", len(source.bands))
    ok = None
    if source.mask is not None:
        values, known = cog.read([source.mask.band], geobox, resampling="nearest")
        ok = clear(values[0], known[0], source.mask)
        if not ok.any():
            return None
    assets: dict[str, list[int]] = {}
    for k, spec in enumerate(source.bands):
        assets.setdefault(spec.asset, []).append(k)
    groups = list(assets.values())
    found = list(pool.map(lambda group: _pixels([source.bands[k] for k in group], geobox), groups))
    data = _stored(source, groups, [f[0] for f in found], [f[1] for f in found], numbers)
    valid = np.logical_and.reduce([f[2].all(axis=0) for f in found])
    if numbers.units:
        valid &= converted(data, [s.unit for s in source.bands], numbers.units)
    return data, valid if ok is None else valid & ok


def _pixels(
    specs: Sequence[BandSpec], geobox: GeoBox
) -> tuple[tuple[BandSpec, ...], NDArray[np.number], NDArray[np.bool_]]:
    """Bands of one asset with their scale and offset known, values and validity."""
    chosen = with_file_scaling(specs)
    return chosen, *cog.read(chosen, geobox)


def _stored(
    source: Source,
    groups: list[list[int]],
    specs: Sequence[Sequence[BandSpec]],
    arrays: Sequence[NDArray[np.number]],
    numbers: Numbers,
) -> NDArray[np.number]:
    """(band, y, x) in the order and the numbers of the mosaic.

    Raises DataError for values beyond the declared dtype and for a file that says another scale.
    """
    if groups == [list(range(len(source.bands)))] and same(specs[0], arrays[0].dtype, numbers):
        return arrays[0]
    known, values = list(source.bands), [arrays[0][0]] * len(source.bands)
    for group, row, data in zip(groups, specs, arrays, strict=True):
        for k, spec, band in zip(group, row, data, strict=True):
            known[k], values[k] = spec, band
    return stored(known, values, numbers)
