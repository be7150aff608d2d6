"""Two dates or more that are compared: brought onto one grid and to one radiometry, valid only where every date is.

How far the later dates are shifted and how their colours differ is fitted once for a run on a sample of its region, so
that every block is corrected alike; each block then says how far off its dates are left.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import ClassVar

import numpy as np
import pystac
from numpy.typing import NDArray

from geoml.cube.harmonise import Transform, fit
from geoml.cube.register import Shift, corrected, shift
from geoml.engine.contract import BlockPixels, SampleFit
from geoml.engine.pixels import Pixels
from geoml.engine.run.plan import Plan, SelfChange
from geoml.errors import DataError, InputError
from geoml.grid.plane import Block, Plane, Window
from geoml.inputs.mosaic import check_number, composite
from geoml.io.cards.map_card import MapCard
from geoml.io.stac import search as stac
from geoml.recipe import PredictRecipe
from geoml.settings import settings

log = logging.getLogger(__name__)

TINY = {"dates": 2}
"""Arguments of `geoml.testing.card`, for the contract tests."""
AGREE = 0.5
"""Pixels from the median within which a square agrees on the shift, which more than half of them must."""

Shifts = Sequence[tuple[float, float] | None]
"""(dy, dx) of each later date against the first, pixels; None if it is not known."""


def check_order(when: Sequence[str]) -> None:
    """Raise InputError unless each range ends before the next one begins."""
    spans = [stac.parse_datetime(w) for w in when]
    for n, ((_, end), (start, _)) in enumerate(pairwise(spans)):
        if end is None or start is None or end >= start:
            raise InputError(
                f"datetime: {when[n]!r} does not end before {when[n + 1]!r} begins; expected the earlier date first, "
                "and ranges that do not overlap"
            )


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
    """The shift of a later date against the first; None if it cannot be known."""
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


@dataclass(frozen=True)
class Input:
    """See `geoml.engine.contract.Input`."""

    card: MapCard
    recipe: PredictRecipe | None = None

    every: ClassVar[bool] = True
    rasters: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.card.dates < 2:
            raise InputError(f"dates: {self.card.name} takes one; a task that compares dates has two or more")

    @property
    def fits(self) -> bool:
        """True where dates are registered or harmonised."""
        return self.recipe is not None and (self.recipe.max_shift > 0 or self.recipe.harmonise != "none")

    @property
    def around(self) -> int:
        """None."""
        return 0

    def check(self, when: Sequence[str]) -> None:
        """Raise InputError unless there are as many as the model takes, the earlier first and none in another."""
        check_number(self.card, when)
        check_order(when)

    def reference(self, when: Sequence[str]) -> str:
        """The earlier of two dates. Raises InputError for another number of them."""
        if self.card.dates > 2 or len(when) != self.card.dates:
            takes = "monitoring needs one or two"
            if self.card.dates == 2:
                takes = "expected the earlier date to compare each day with"
            raise InputError(f"datetime: {self.card.name} takes {self.card.dates} dates; {takes}")
        return when[0]

    def steps(self, plan: Plan, items: Sequence[pystac.Item], plane: Plane, window: Window) -> list[Pixels]:
        """Each date, with the radiometry of the first.

        Raises InputError for a band that an item lacks or units that do not fit, DataError for a broken file,
        TransientError if a server does not answer.
        """
        return harmonised(self._stored(plan, items, plane, window), plan.sample.transforms if plan.sample else ())

    def _stored(self, plan: Plan, items: Sequence[pystac.Item], plane: Plane, window: Window) -> list[Pixels]:
        return [composite(plan, those, plane, window, n) for n, those in enumerate(plan.by_date(items))]

    def together(self, steps: Sequence[Pixels]) -> Pixels:
        """All dates as channels of one mosaic; the count is that of the date with fewest observations."""
        return replace(
            steps[0],
            data=np.concatenate([d.data for d in steps]),
            count=np.minimum.reduce([d.count for d in steps]),
            scale=tuple(v for d in steps for v in d.scale),
            offset=tuple(v for d in steps for v in d.offset),
            items=tuple(i for d in steps for i in d.items),
        )

    def fit(self, plan: Plan, squares: list[list[Pixels]]) -> SampleFit:
        """Shifts, and of what is moved by them the transforms of values. Raises DataError for too large a shift."""
        later, how = range(1, self.card.dates), plan.recipe.harmonise
        shifts = tuple(_agreed(plan, squares, n) for n in later)
        squares = [moved(s, shifts) for s in squares]
        if how == "none":
            return SampleFit(squares, shifts)
        from geoml.engine.run.sample import pixels_of  # torch, which a plan does without

        pixels = pixels_of(squares)
        transforms = tuple(fit(pixels[:, 0], pixels[:, n], how) for n in later)
        return SampleFit([harmonised(s, transforms) for s in squares], shifts, transforms)

    def trial(
        self, plan: Plan, squares: Sequence[Sequence[Pixels]], pixels: NDArray[np.float32]
    ) -> tuple[SelfChange | None, str]:
        """One date instead of all: what is called changed all the same."""
        from geoml.inputs._equal_dates import doubt, self_change

        found = self_change(plan, squares, pixels, self.together)
        return found, doubt(found, plan.recipe.query.datetime)

    def read(self, plan: Plan, items: Sequence[pystac.Item], block: Block, window: Window) -> BlockPixels:
        """The dates moved onto each other and harmonised; the shift that is left is a property ``geoml:shift``.

        Raises DataError if that is above the recipe's largest or a file is broken, InputError for a band that an
        item lacks or units that do not fit, TransientError if a server does not answer.
        """
        limit, sample = plan.recipe.shift_limit, plan.sample
        shifts = sample.shifts if sample else ()
        more = margin(shifts, limit)
        dates = moved(self._stored(plan, items, block.plane, window.expand(more)), shifts, limit)
        dates = [d.crop(window) for d in dates] if more else dates
        residual = [_told(s) for s in _residual(plan, [d.crop(block.window) for d in dates])]
        pixels = self.together(harmonised(dates, sample.transforms if sample else ()))
        return BlockPixels(pixels, tuple(d.items for d in dates), {"geoml:shift": residual})

    def pictures(self, pixels: Pixels) -> Mapping[str, Pixels]:
        """Each date; the last one is the thumbnail."""
        size = len(self.card.bands)
        names = [*(f"before{n or ''}" for n in range(self.card.dates - 1)), "preview"]
        parts = (slice(n * size, (n + 1) * size) for n in range(self.card.dates))
        return {
            name: replace(pixels, data=pixels.data[p], scale=pixels.scale[p], offset=pixels.offset[p])
            for name, p in zip(names, parts, strict=True)
        }

    def warnings(self, plan: Plan) -> list[str]:
        """None."""
        return []


def _agreed(plan: Plan, squares: Sequence[Sequence[Pixels]], date: int) -> tuple[float, float] | None:
    """The shift of a later date that most squares agree on; None if they do not, or show too little."""
    recipe = plan.recipe
    if not recipe.max_shift:
        return None
    with ThreadPoolExecutor(settings().threads) as pool:
        found = list(pool.map(lambda s: between(s[0], s[date]), squares))
    votes = np.array([(v.dy, v.dx) for v in found if v is not None])
    if not len(votes):
        log.warning("the dates could not be checked for a shift: too little texture, or too much has changed")
        return None
    near = np.hypot(*(votes - np.median(votes, axis=0)).T) <= AGREE
    if near.mean() <= 0.5:
        log.warning("the dates are shifted by different amounts in different places, %s", np.round(votes, 1).tolist())
        return None
    dy, dx = (round(float(v), 2) for v in votes[near].mean(axis=0))
    if math.hypot(dy, dx) > recipe.max_shift:
        raise DataError(
            f"datetime: {recipe.query.datetime[date]} is shifted by {dy:g}, {dx:g} pixels (y, x) against "
            f"{recipe.query.datetime[0]}; more than max_shift = {recipe.max_shift:g}"
        )
    return dy, dx


def _residual(plan: Plan, dates: Sequence[Pixels]) -> list[Shift | None]:
    """The shift of each later date that is left. Raises DataError if it is above the recipe's largest."""
    most = plan.recipe.max_shift
    first, *later = dates
    if not most:
        return [None for _ in later]
    found = [between(first, d) for d in later]
    if far := max((f.length for f in found if f), default=0.0):
        if far > most:
            raise DataError(f"the dates are shifted by {far:.1f} pixels here; more than max_shift = {most:g}")
        if far > plan.recipe.shift_limit:
            log.warning("the dates are shifted by %.1f pixels here, unlike in most of the region", far)
    return found


def _told(found: Shift | None) -> dict[str, float] | None:
    """As the item tells it: pixels that are left between two dates, None if that is not known."""
    if found is None:
        return None
    return {"dy": round(found.dy, 2), "dx": round(found.dx, 2), "quality": round(found.quality, 2)}
