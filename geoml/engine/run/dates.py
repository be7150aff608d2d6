"""The pixels of all dates of a plan on one grid: bands of the first date first, valid only where every date is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import dask
import numpy as np
import pystac

from geoml.cube.harmonise import Transform
from geoml.cube.load import load
from geoml.cube.register import Shift, corrected, shift
from geoml.engine.contract import Pixels
from geoml.engine.run.plan import Plan
from geoml.grid.plane import Plane, Window
from geoml.io.stac import search as stac
from geoml.settings import settings

Shifts = Sequence[tuple[float, float] | None]
"""(dy, dx) of each later date against the first, pixels; None where it is not known."""


def read_dates(plan: Plan, items: Sequence[pystac.Item], plane: Plane, window: Window) -> list[Pixels]:
    """Read and composite ``items``, those of the whole run, on a window of a plane, date by date. Raises as `load`."""
    geobox = plane.geobox(window)
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
        found.append(Pixels(data, count, attrs["scale"], attrs["offset"], window, used))
    return found


def margin(shifts: Shifts, limit: float) -> int:
    """Pixels around what is wanted that moving the dates takes."""
    return max((math.ceil(max(map(abs, s))) + 2 for s in shifts if s and math.hypot(*s) > limit), default=0)


def moved(dates: Sequence[Pixels], shifts: Shifts, limit: float = 0.0) -> list[Pixels]:
    """The later dates moved onto the first by every shift that is known and longer than ``limit`` pixels."""
    out = [dates[0]]
    for date, by in zip(dates[1:], shifts or [None] * (len(dates) - 1), strict=True):
        if by is None or math.hypot(*by) <= limit:
            out.append(date)
            continue
        data, known = corrected(date.data, date.valid, Shift(*by, quality=1.0, tiles=0))
        whole = Shift(round(by[0]), round(by[1]), quality=1.0, tiles=0)
        counts = corrected(date.count[None], date.valid, whole)[0][0]
        count = np.where(known, np.maximum(counts, 1), 0).astype(np.uint16)
        out.append(replace(date, data=data, count=count))
    return out


def between(first: Pixels, later: Pixels) -> Shift | None:
    """The shift of a later date against the first; None where it cannot be known."""
    valid = first.valid & later.valid
    if not valid.any():
        return None
    rows, columns = (np.flatnonzero(valid.any(axis=axis)) for axis in (1, 0))
    part = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)  # at the edge of a region it is small
    return shift(first.data[:, *part], later.data[:, *part], valid[part])


def harmonised(dates: Sequence[Pixels], transforms: Sequence[Transform | None]) -> list[Pixels]:
    """The later dates as physical values with the radiometry of the first."""
    out = [dates[0]]
    for date, how in zip(dates[1:], transforms or [None] * (len(dates) - 1), strict=True):
        if how is None:
            out.append(date)
            continue
        data = np.where(date.valid, how.apply(date.physical()), np.float32(0))
        out.append(replace(date, data=data, scale=(1.0,) * len(data), offset=(0.0,) * len(data)))
    return out


def together(dates: Sequence[Pixels]) -> Pixels:
    """All dates as channels of one mosaic; the count is that of the date with fewest observations."""
    if len(dates) == 1:
        return dates[0]
    return Pixels(
        np.concatenate([d.data for d in dates]),
        np.minimum.reduce([d.count for d in dates]),
        tuple(v for d in dates for v in d.scale),
        tuple(v for d in dates for v in d.offset),
        dates[0].origin,
        tuple(i for d in dates for i in d.items),
    )
