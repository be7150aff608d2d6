"""The mosaics of all dates of a plan on one grid: bands of the first date first, valid only where every date is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import dask
import numpy as np
import pystac
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from geoml.cube.harmonise import Transform
from geoml.cube.load import load
from geoml.cube.register import Shift, corrected, shift
from geoml.engine.run.plan import Plan
from geoml.grid.plane import Window
from geoml.io.stac import search as stac
from geoml.settings import settings

Shifts = Sequence[tuple[float, float] | None]
"""(dy, dx) of each later date against the first, pixels; None where it is not known."""


@dataclass(frozen=True)
class Mosaic:
    """One date: ``data`` (band, y, x), physical = data * ``scale`` + ``offset`` by band; ``count`` (y, x) of valid
    observations, 0 where nothing is known."""

    data: NDArray[np.generic]
    count: NDArray[np.uint16]
    scale: tuple[float, ...]
    offset: tuple[float, ...]
    items: tuple[pystac.Item, ...]


def read_dates(plan: Plan, items: Sequence[pystac.Item], geobox: GeoBox) -> list[Mosaic]:
    """Read and composite ``items``, those of the whole run, on ``geobox``, date by date. Raises as `load`."""
    catalog = stac.open_catalog(plan.recipe.query.catalog)
    names = [b.name for b in plan.card.bands]
    found = []
    for those in plan.by_date(items):
        cube = load(  # of all items, so that all blocks agree on how numbers are stored
            those,
            names,
            geobox,
            profile=catalog.profile(plan.collection),
            catalog=catalog,
            mask=plan.recipe.mask,
            composite=plan.recipe.composite,
            units=[b.unit for b in plan.card.bands],
        )
        data, count = dask.compute(  # type: ignore[attr-defined, no-untyped-call]
            cube.data_vars["data"].data,
            cube.data_vars["valid_count"].data,
            scheduler="threads",
            num_workers=settings().threads,
        )
        attrs, by_id = cube.data_vars["data"].attrs, {i.id: i for i in those}
        used = tuple(by_id[key] for key in cube.attrs["items"])
        found.append(Mosaic(data, count, attrs["scale"], attrs["offset"], used))
    return found


def margin(shifts: Shifts, limit: float) -> int:
    """Pixels around what is wanted that moving the dates takes."""
    return max((math.ceil(max(map(abs, s))) + 2 for s in shifts if s and math.hypot(*s) > limit), default=0)


def moved(dates: Sequence[Mosaic], shifts: Shifts, limit: float = 0.0) -> list[Mosaic]:
    """The later dates moved onto the first by every shift that is known and longer than ``limit`` pixels."""
    out = [dates[0]]
    for date, by in zip(dates[1:], shifts or [None] * (len(dates) - 1), strict=True):
        if by is None or math.hypot(*by) <= limit:
            out.append(date)
            continue
        data, known = corrected(date.data, date.count > 0, Shift(*by, quality=1.0, tiles=0))
        whole = Shift(round(by[0]), round(by[1]), quality=1.0, tiles=0)
        counts = corrected(date.count[None], date.count > 0, whole)[0][0]
        count = np.where(known, np.maximum(counts, 1), 0).astype(np.uint16)
        out.append(replace(date, data=data, count=count))
    return out


def between(first: Mosaic, later: Mosaic) -> Shift | None:
    """The shift of a later date against the first; None where it cannot be known."""
    valid = (first.count > 0) & (later.count > 0)
    if not valid.any():
        return None
    rows, columns = (np.flatnonzero(valid.any(axis=axis)) for axis in (1, 0))
    part = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)  # at the edge of a region it is small
    return shift(first.data[:, *part], later.data[:, *part], valid[part])


def cropped(date: Mosaic, seen: Window, wanted: Window) -> Mosaic:
    """The part ``wanted`` of a date that covers ``seen``."""
    rows, columns = wanted.slices(seen)
    return replace(date, data=date.data[:, rows, columns], count=date.count[rows, columns])


def harmonised(dates: Sequence[Mosaic], transforms: Sequence[Transform | None]) -> list[Mosaic]:
    """The later dates as physical values with the radiometry of the first."""
    out = [dates[0]]
    for date, how in zip(dates[1:], transforms or [None] * (len(dates) - 1), strict=True):
        if how is None:
            out.append(date)
            continue
        data = np.where(date.count > 0, how.apply(physical(date)), np.float32(0))
        out.append(replace(date, data=data, scale=(1.0,) * len(data), offset=(0.0,) * len(data)))
    return out


def physical(date: Mosaic) -> NDArray[np.float32]:
    """(band, y, x) physical values; the offset where nothing is known."""
    scale, offset = (np.array(v, np.float32)[:, None, None] for v in (date.scale, date.offset))
    values: NDArray[np.float32] = np.multiply(date.data, scale, dtype=np.float32, casting="unsafe")
    values += offset
    return values


def together(dates: Sequence[Mosaic]) -> Mosaic:
    """All dates as channels of one mosaic; the count is that of the date with fewest observations."""
    if len(dates) == 1:
        return dates[0]
    return Mosaic(
        np.concatenate([d.data for d in dates]),
        np.minimum.reduce([d.count for d in dates]),
        tuple(v for d in dates for v in d.scale),
        tuple(v for d in dates for v in d.offset),
        tuple(i for d in dates for i in d.items),
    )
