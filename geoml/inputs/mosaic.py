"""One date: the items of one ``datetime``, composited to one image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import pystac

from geoml.engine.contract import BlockPixels
from geoml.engine.pixels import Pixels
from geoml.engine.run.plan import Plan
from geoml.errors import InputError
from geoml.grid.plane import Block, Plane, Window
from geoml.inputs._unfitted import Unfitted
from geoml.io.cards.map_card import MapCard
from geoml.io.stac.catalog import known_catalog
from geoml.recipe import PredictRecipe
from geoml.settings import settings

TINY = {"dates": 1}
"""Arguments of `geoml.testing.card`, for the contract tests."""


def composite(plan: Plan, items: Sequence[pystac.Item], plane: Plane, window: Window, date: int = 0) -> Pixels:
    """Read and composite those items of a date of a run whose pixels may reach the window; more of them do no harm.

    The plan says how numbers are stored, so that all blocks agree; one of an older geoml does not, and needs all items.

    Raises InputError for a band that an item lacks or units that do not fit, DataError for a broken file,
    TransientError if a server does not answer.
    """
    from geoml.cube.load import plan_mosaic  # GDAL, which an input that is only checked does without

    catalog = known_catalog(plan.recipe.query.catalog)
    made = plan_mosaic(
        items,
        [b.asked for b in plan.card.bands],
        plane.geobox(window),
        profile=catalog.profile(plan.collection),
        catalog=catalog,
        mask=plan.recipe.mask,
        composite=plan.recipe.composite,
        units=[b.unit for b in plan.card.bands],
        numbers=plan.numbers[date] if plan.numbers else None,
    )
    data, count = made.read(settings().threads)
    by_id = {i.id: i for i in items}
    used = tuple(by_id[source.item] for source in made.sources)
    return Pixels(data, count, made.numbers.scale, made.numbers.offset, window, used, plane)


def check_number(card: MapCard, when: Sequence[str]) -> None:
    """Raise InputError unless there are as many dates as the card takes."""
    if len(when) != card.dates:
        raise InputError(f"datetime: {len(when)} given; {card.name} takes {card.dates}, one --datetime each")


@dataclass(frozen=True)
class Input(Unfitted):
    """See `geoml.engine.contract.Input`."""

    card: MapCard
    recipe: PredictRecipe | None = None

    every: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.card.dates != 1:
            raise InputError(f"dates: {self.card.name} takes {self.card.dates}; a task that reads a mosaic has one")

    def check(self, when: Sequence[str]) -> None:
        """Raise InputError unless there is one."""
        check_number(self.card, when)

    def reference(self, when: Sequence[str]) -> None:
        """None: each day stands alone. Raises InputError as `check`."""
        if len(when) != 1:
            raise InputError(f"datetime: {self.card.name} takes 1 dates; monitoring needs one or two")

    def steps(self, plan: Plan, items: Sequence[pystac.Item], plane: Plane, window: Window) -> list[Pixels]:
        """The only one.

        Raises InputError for a band that an item lacks or units that do not fit, DataError for a broken file,
        TransientError if a server does not answer.
        """
        return [composite(plan, items, plane, window)]

    def together(self, steps: Sequence[Pixels]) -> Pixels:
        """The only one."""
        (only,) = steps
        return only

    def read(self, plan: Plan, items: Sequence[pystac.Item], block: Block, window: Window) -> BlockPixels:
        """The mosaic.

        Raises InputError for a band that an item lacks or units that do not fit, DataError for a broken file,
        TransientError if a server does not answer.
        """
        pixels = composite(plan, items, block.plane, window)
        return BlockPixels(pixels, (pixels.items,))

    def pictures(self, pixels: Pixels) -> Mapping[str, Pixels]:
        """The mosaic."""
        return {"preview": pixels}

    def warnings(self, plan: Plan) -> list[str]:
        """None."""
        return []
