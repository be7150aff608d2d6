"""The steps of a forecast: those up to the reference time, and the last one moved on in time.

Every ``datetime`` of the recipe is a step, an instant or a range about it, one step apart, and the last one is the
reference time: what comes after it is never read. Every step keeps its own mask. Where the model sees what was last
known, steps are read from the last one back, until every pixel is known. Motion is fitted once for a run, over
all of its region, and kept in the plan; a block reads as far around itself as anything comes from in the longest lead.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pystac
from numpy.typing import NDArray

from geoml.cube.latest import latest_known
from geoml.engine.contract import BlockPixels
from geoml.engine.pixels import Pixels
from geoml.engine.run.plan import Plan
from geoml.engine.run.planned import FITTED
from geoml.errors import InputError, ModelError, NothingFound
from geoml.grid.plane import Block, Plane, Window
from geoml.grid.region import project
from geoml.inputs._unfitted import Unfitted
from geoml.inputs.mosaic import composite
from geoml.io.cards.forecast import ForecastTerms, MotionTerms, spelled
from geoml.io.cards.map_card import MapCard
from geoml.io.stac.bands import BandSpec
from geoml.io.stac.query import middle
from geoml.io.stac.step_times import reference_of
from geoml.io.stac.times import rfc3339
from geoml.io.stores.store import sha256, within
from geoml.recipe import PredictRecipe, parse
from geoml.texts import listed

Weights = NDArray[np.float32] | None

TINY: dict[str, Any] = {
    "dates": 3,
    "made": {"variable": "rain", "unit": "mm/h", "step": "P30D", "history": 3, "leads": ["P30D"]},
}
"""Arguments of `geoml.testing.card`, for the contract tests."""

PIXELS = 4_000_000
"""Of a frame on which motion is fitted; of larger ones squares are averaged."""
STRIP = 1024
"""Rows that are read at once for it."""
PACE = 6
"""Pixels in a step: how far beyond the region motion is looked for, times the longest lead."""


@dataclass(frozen=True)
class Input(Unfitted):
    """See `geoml.engine.contract.Input`."""

    card: MapCard
    recipe: PredictRecipe | None = None

    every: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.card.dates != self.terms.channels:
            raise InputError(f"dates: {self.card.dates}; {self.card.name} sees {self.terms.channels} steps and leads")
        if (self.terms.advected or self.terms.latest) and len(self.card.bands) > 1:
            raise InputError(f"bands: {len(self.card.bands)}; what moves on, or was last known, is one variable")

    @cached_property
    def terms(self) -> ForecastTerms:
        return parse(ForecastTerms, dict(self.card.made), f"{self.card.name}: made")

    def check(self, when: Sequence[str]) -> None:
        """Raise InputError unless there are as many steps as the model takes, one step apart."""
        terms = self.terms
        if len(when) != terms.history:
            raise InputError(f"datetime: {len(when)} given; {self.card.name} takes {terms.history} steps")
        for one, two in pairwise(map(middle, when)):
            if abs(two - one - terms.step) > terms.step / 2:
                raise InputError(f"datetime: {one:%FT%TZ} and {two:%FT%TZ}; expected steps of {spelled(terms.step)}")

    def reference(self, when: Sequence[str]) -> str | None:
        """Raises InputError: a forecast has a reference time, not a day."""
        raise InputError(f"datetime: {self.card.name} forecasts from a reference time; expected geoml forecast")

    # what a plan measures

    def fitted(self, plan: Plan, items: Sequence[pystac.Item]) -> dict[str, Any]:
        """``made`` of the card, with the motion of the region where the model sees what has moved.

        Raises NothingFound if the step of the reference time is missing, since an older one is not the last, and
        for a motion without two neighbouring steps; InputError for a region on several planes, and what reading raises.
        """
        if plan.dates and not plan.dates[-1] and not self.terms.latest:
            when = plan.recipe.query.datetime
            latest = next((w for w, those in zip(when[::-1], plan.dates[::-1], strict=True) if those), "none")
            raise NothingFound(f"reference time: no data of {when[-1]}; the latest before it are of {latest}")
        if not self.terms.advected:
            return dict(self.card.made)
        from geoml.cube.motion import fit_motion  # OpenCV

        frames, window, factor = self._frames(plan, items)
        motion = fit_motion(frames, self.terms.faint)
        velocity = np.round(motion.velocity * factor, 4).tolist()
        middle = factor // 2  # of the square that a node stands for
        y0, x0 = window.y0 + middle, window.x0 + middle
        said = MotionTerms(velocity=velocity, y0=y0, x0=x0, every=motion.every * factor)
        return {**self.card.made, FITTED: said.model_dump(mode="json")}

    def _frames(self, plan: Plan, items: Sequence[pystac.Item]) -> tuple[NDArray[np.float32], Window, int]:
        """(step, y, x) physical values around the region, averaged over squares of so many pixels."""
        if len(plan.zones) != 1:
            raise InputError("crs: a forecast lies on one plane; expected --crs data or a code such as EPSG:3035")
        (zone,) = plan.zones
        window = zone.plane.window(*project(zone.geometry, zone.crs).bounds)
        window = window.expand(PACE * self.terms.numbers[-1])
        factor = math.ceil(math.sqrt(window.shape[0] * window.shape[1] / PIXELS))
        rows, columns = (-(-n // factor) for n in window.shape)
        window = Window(window.y0, window.x0, window.y0 + rows * factor, window.x0 + columns * factor)
        frames = np.full((self.terms.history, rows, columns), np.nan, np.float32)
        height = max(1, STRIP // factor)
        for n, those in enumerate(self._by_step(plan, items)):
            for row in range(0, rows if those else 0, height):
                last = min(row + height, rows)
                strip = Window(window.y0 + row * factor, window.x0, window.y0 + last * factor, window.x1)
                values = _physical(composite(plan, those, zone.plane, strip, n))[0]
                squares = values.reshape(last - row, factor, columns, factor)
                known = np.isfinite(squares).sum((1, 3))
                total = np.nansum(squares, (1, 3))
                frames[n, row:last] = np.where(known > 0, total / np.maximum(known, 1), np.nan)
        return frames, window, factor

    def _by_step(self, plan: Plan, items: Sequence[pystac.Item]) -> list[list[pystac.Item]]:
        return plan.by_date(items) if self.terms.history > 1 else [list(items)]

    # what a block reads

    def steps(self, plan: Plan, items: Sequence[pystac.Item], plane: Plane, window: Window) -> list[Pixels]:
        """Steps as the model sees them, then the last one as it is at each lead; empty if there is no item.

        Raises InputError for a band that an item lacks or units that do not fit, DataError for a broken file,
        TransientError if a server does not answer.
        """
        weights = self._weights(plan, plane, window)
        by_step = list(enumerate(self._by_step(plan, items)))
        if self.terms.latest:
            found = self._latest(plan, by_step, plane, window, weights)
        else:
            found = [self._step(plan, those, plane, window, n) for n, those in by_step]
            found += [
                self._usual(t, weights, plane, window) for t in self._seen_times(plan.recipe) if weights is not None
            ]
        found += [self._usual(t, weights, plane, window) for t in self._lead_times(plan.recipe) if weights is not None]
        return [*found, *self._advected(plan, items, plane, window)] if self.terms.advected else found

    def _latest(
        self, plan: Plan, by_step: list[tuple[int, list[pystac.Item]]], plane: Plane, window: Window, weights: Weights
    ) -> list[Pixels]:
        """The last known value of each pixel, its age, and what was usual then."""
        times = self._seen_times(plan.recipe)
        items: list[pystac.Item] = []

        def steps() -> Iterator[tuple[int, NDArray[np.float32], NDArray[np.float32]]]:
            for n, those in reversed(by_step):
                if those or (plan.numbers and plan.numbers[n]):
                    seen = self._step(plan, those, plane, window, n)
                    items.extend(seen.items)
                    usual = (
                        np.full(window.shape, np.nan, np.float32) if weights is None else self._field(times[n], weights)
                    )
                    yield len(times) - 1 - n, np.where(seen.valid, seen.data[0], np.float32(np.nan)), usual

        value, age, past = latest_known(steps(), window.shape)
        band = self.card.bands[0]
        parts = [value, age * np.float32(band.std) + np.float32(band.mean)]  # which the card's normalisation takes back
        parts += [] if weights is None else [past]
        return [self._channel(a, window, plane, tuple(items) if n == 0 else ()) for n, a in enumerate(parts)]

    def _weights(self, plan: Plan, plane: Plane, window: Window) -> Weights:
        """Of the climatology, (feature, y, x); None if the model has none."""
        from geoml.io.cog.read import read

        if (said := self.terms.background) is None:
            return None
        path = within(Path(plan.model_path), said.file)
        if sha256(path) != said.sha256:
            raise ModelError(f"{path}: not the climatology of the package; copy the package again")
        bands = [
            BandSpec("climatology", said.file, str(path), f"weight-{n}", index=n + 1, remote=False)
            for n in range(said.features)
        ]
        stored, valid = read(bands, plane.geobox(window), resampling="nearest")
        return np.where(valid, stored.astype(np.float32), np.float32(np.nan))

    def _field(self, time: dt.datetime, weights: NDArray[np.float32]) -> NDArray[np.float32]:
        """(y, x) of the climatology at a time."""
        from geoml.cube.harmonics import at_time

        said = self.terms.background
        assert said is not None
        return at_time(weights, int(time.timestamp()), said.annual, said.diurnal)

    def _usual(self, time: dt.datetime, weights: Weights, plane: Plane, window: Window) -> Pixels:
        assert weights is not None
        return self._channel(self._field(time, weights), window, plane)

    def _channel(
        self, values: NDArray[np.float32], window: Window, plane: Plane, items: tuple[pystac.Item, ...] = ()
    ) -> Pixels:
        """(y, x) as the model sees it, NaN where nothing is known."""
        known = np.isfinite(values)
        filled = np.where(known, values, np.float32(0))[None]
        return Pixels(filled, known.astype(np.uint16), *self._as_is(1), window, items, plane)

    def _step(self, plan: Plan, those: Sequence[pystac.Item], plane: Plane, window: Window, n: int) -> Pixels:
        if those or (plan.numbers and plan.numbers[n]):
            pixels = composite(plan, those, plane, window, n)
            return self._seen(_physical(pixels), plane, window, pixels.items)
        return self._seen(self._nothing(window), plane, window)

    def _seen_times(self, recipe: PredictRecipe) -> list[dt.datetime]:
        reference = reference_of(self.terms, recipe.query.datetime[-1])
        return [reference - n * self.terms.step for n in range(self.terms.history - 1, -1, -1)]

    def _lead_times(self, recipe: PredictRecipe) -> list[dt.datetime]:
        reference = reference_of(self.terms, recipe.query.datetime[-1])
        return [reference + lead for lead in self.terms.leads]

    def _months(self) -> tuple[int, ...]:
        """Of every step and lead among the channels, 0 to 11; none where no run asks."""
        if self.recipe is None:
            return ()
        seen, ahead = self._seen_times(self.recipe), self._lead_times(self.recipe)
        now = seen[-1:] if self.terms.latest else seen
        usual = [*now, *ahead] if self.terms.background is not None else []
        aged = now * self.terms.latest
        return tuple(t.month - 1 for t in [*now, *aged, *usual, *(ahead if self.terms.advected else [])])

    def _nothing(self, window: Window) -> NDArray[np.float32]:
        return np.full((len(self.card.bands), *window.shape), np.nan, np.float32)

    def _advected(self, plan: Plan, items: Sequence[pystac.Item], plane: Plane, window: Window) -> list[Pixels]:
        from geoml.cube.motion import MotionField, moved, paths

        said = self.terms.fitted
        if said is None:
            raise InputError(f"{self.card.name}: the plan does not know the motion; plan the run again")
        motion = MotionField(np.array(said.velocity, np.float64), said.y0, said.x0, said.every)
        numbers = self.terms.numbers
        around = window.expand(math.ceil(motion.fastest * numbers[-1]) + 2)
        last, those = self.terms.history - 1, self._by_step(plan, items)[-1]
        frame = (
            _physical(composite(plan, those, plane, around, last))
            if those or (plan.numbers and plan.numbers[last])
            else self._nothing(around)
        )[0]
        found = []
        for n, back in enumerate(paths(motion, window, numbers[-1]), 1):
            if n in numbers:
                found.append(self._seen(moved(frame, around, back, window)[None], plane, window))
        return found

    def _seen(
        self, values: NDArray[np.float32], plane: Plane, window: Window, items: tuple[pystac.Item, ...] = ()
    ) -> Pixels:
        """(band, y, x) physical values, NaN where nothing is known, as the model sees them."""
        known = np.isfinite(values).all(0)
        values = np.where(known, values, np.float32(0))
        if self.terms.transform == "log":
            values = np.log2(1 + np.maximum(values, 0) / np.float32(self.terms.faint))
        return Pixels(values, np.asarray(known, np.uint16), *self._as_is(1), window, items, plane)

    def _as_is(self, steps: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Scale and offset of so many steps."""
        channels = steps * len(self.card.bands)
        return (1.0,) * channels, (0.0,) * channels

    def together(self, steps: Sequence[Pixels]) -> Pixels:
        """All of them as channels, 0 where one has no data. The count is that of the steps with data; it is one where
        only what has moved there is known."""
        looks = np.stack([s.valid for s in steps])
        seen = looks[: self.terms.seen].sum(axis=0, dtype=np.uint16)
        scale, offset = self._as_is(len(steps))
        return replace(
            steps[0],
            data=np.concatenate([s.data for s in steps]),
            count=np.maximum(seen, looks.any(axis=0).astype(np.uint16)),
            scale=scale,
            offset=offset,
            items=tuple(i for s in steps for i in s.items),
            looks=looks,
            months=self._months(),
        )

    def read(self, plan: Plan, items: Sequence[pystac.Item], block: Block, window: Window) -> BlockPixels:
        """All of them.

        Raises InputError for a band that an item lacks or units that do not fit, DataError for a broken file,
        TransientError if a server does not answer.
        """
        steps = self.steps(plan, items, block.plane, window)
        pixels, dates = self.together(steps), tuple(s.items for s in steps[: self.terms.seen])
        reference = reference_of(self.terms, plan.recipe.query.datetime[-1])
        about = {
            "forecast:reference_datetime": rfc3339(reference),
            "forecast:variable": self.terms.standard_name or self.terms.variable,
        }
        ahead = reference + self.terms.written[0], reference + self.terms.written[-1]
        return BlockPixels(pixels, dates, about, ahead)

    def pictures(self, pixels: Pixels) -> Mapping[str, Pixels]:
        """The step of the reference time, as the model sees it."""
        last, bands = self.terms.seen - 1, len(self.card.bands)
        count = pixels.count if pixels.looks is None else pixels.looks[last].astype(np.uint16)
        data = pixels.data[last * bands : (last + 1) * bands]
        scale, offset = self._as_is(1)
        return {"preview": replace(pixels, data=data, count=count, scale=scale, offset=offset, looks=None)}

    def warnings(self, plan: Plan) -> list[str]:
        """The steps that no item was found for."""
        found = zip(plan.recipe.query.datetime, plan.dates, strict=False)
        if not (empty := [when for when, those in found if not those]) or self.terms.latest:
            return []
        return [f"{plan.card.name}: no item for {len(empty)} of {self.terms.history} steps: {listed(empty)}"]


def _physical(pixels: Pixels) -> NDArray[np.float32]:
    """(band, y, x), NaN where nothing is known."""
    return np.where(pixels.valid, pixels.physical(), np.float32(np.nan))
