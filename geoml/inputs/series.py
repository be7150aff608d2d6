"""A series: many dates (steps), each with its own mask. A look without data still counts as a step.

Every ``datetime`` of the recipe is a step: a range with both ends, earlier ones first. A pixel is mapped where any step
has data, and the count of valid observations is that of its looks. A step without any item is one without looks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pystac

from geoml.engine.contract import BlockPixels
from geoml.engine.pixels import Pixels
from geoml.engine.run.plan import Plan
from geoml.errors import InputError
from geoml.grid.plane import Block, Plane, Window
from geoml.inputs._unfitted import Unfitted
from geoml.inputs.dated_pair import check_order
from geoml.inputs.mosaic import check_number, composite
from geoml.io.cards.map_card import MapCard
from geoml.io.stac import search as stac
from geoml.recipe import PredictRecipe
from geoml.texts import listed

TINY = {"dates": 12}
"""Arguments of `geoml.testing.card`, for the contract tests."""


def month_of(when: str) -> int:
    """The month, 0 to 11, in the middle of a range. Raises InputError for one with an open end."""
    start, end = stac.parse_datetime(when)
    if start is None or end is None:
        raise InputError(f"datetime: {when!r} is open; a step of a series has both ends, such as 2024-05")
    return (start + (end - start) / 2).month - 1


@dataclass(frozen=True)
class Input(Unfitted):
    """See `geoml.engine.contract.Input`."""

    card: MapCard
    recipe: PredictRecipe | None = None

    every: ClassVar[bool] = False

    def check(self, when: Sequence[str]) -> None:
        """Raise InputError unless there are as many steps as the model takes, in order, and with both ends."""
        check_number(self.card, when)
        for step in when:
            month_of(step)
        check_order(when)

    def reference(self, when: Sequence[str]) -> str | None:
        """Raises InputError: a day is not a series."""
        raise InputError(f"datetime: {self.card.name} takes a series of dates; monitoring needs one or two")

    def steps(self, plan: Plan, items: Sequence[pystac.Item], plane: Plane, window: Window) -> list[Pixels]:
        """Each step, empty if it has no item.

        Raises InputError for a band that an item lacks or units that do not fit, DataError for a broken file,
        TransientError if a server does not answer.
        """
        blank = self._blank(plane, window)
        known = plan.numbers or [None] * self.card.dates  # of a step that has items somewhere in the run
        steps = zip(plan.by_date(items), known, strict=True)
        return [
            composite(plan, those, plane, window, n) if those or numbers else blank
            for n, (those, numbers) in enumerate(steps)
        ]

    def _blank(self, plane: Plane, window: Window) -> Pixels:
        """Without looks, in the smallest dtype: it takes that of the other steps."""
        bands = len(self.card.bands)
        data, count = np.zeros((bands, *window.shape), np.uint8), np.zeros(window.shape, np.uint16)
        return Pixels(data, count, (1.0,) * bands, (0.0,) * bands, window, (), plane)

    def together(self, steps: Sequence[Pixels]) -> Pixels:
        """All steps as channels, 0 where a step has no look; the count is that of the looks."""
        looks = np.stack([s.valid for s in steps])
        return replace(
            steps[0],
            data=np.concatenate([s.data for s in steps]),
            count=looks.sum(axis=0, dtype=np.uint16),
            scale=tuple(v for s in steps for v in s.scale),
            offset=tuple(v for s in steps for v in s.offset),
            items=tuple(i for s in steps for i in s.items),
            looks=looks,
            months=tuple(map(month_of, self.recipe.query.datetime)) if self.recipe else (),
        )

    def read(self, plan: Plan, items: Sequence[pystac.Item], block: Block, window: Window) -> BlockPixels:
        """All steps.

        Raises InputError for a band that an item lacks or units that do not fit, DataError for a broken file,
        TransientError if a server does not answer.
        """
        steps = self.steps(plan, items, block.plane, window)
        return BlockPixels(self.together(steps), tuple(s.items for s in steps))

    def pictures(self, pixels: Pixels) -> Mapping[str, Pixels]:
        """The last look of each pixel, as physical values."""
        size = len(self.card.bands)
        physical = pixels.physical()
        last = np.zeros((size, *pixels.count.shape), np.float32)
        for n, look in enumerate(() if pixels.looks is None else pixels.looks):
            np.copyto(last, physical[n * size : (n + 1) * size], where=look)
        return {"preview": replace(pixels, data=last, scale=(1.0,) * size, offset=(0.0,) * size, looks=None)}

    def warnings(self, plan: Plan) -> list[str]:
        """The steps that no item was found for."""
        found = zip(plan.recipe.query.datetime, plan.dates, strict=False)  # of a single step the plan keeps no dates
        if not (empty := [when for when, those in found if not those]):
            return []
        return [f"{plan.card.name}: no item for {len(empty)} of {self.card.dates} steps: {listed(empty)}"]
