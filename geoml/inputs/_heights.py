"""What inputs whose blocks are heights have in common: layers as channels, and a picture of the surface."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

import numpy as np
import pystac
from numpy.typing import NDArray

from geoml.engine.contract import BlockPixels
from geoml.engine.pixels import Pixels
from geoml.engine.run.plan import Plan
from geoml.errors import InputError
from geoml.grid.plane import Block, Plane, Window
from geoml.grid.relief import relief
from geoml.inputs._unfitted import Unfitted
from geoml.io.cards.elevation import VOID, HeightTerms
from geoml.io.cards.map_card import MapCard
from geoml.recipe import PredictRecipe, parse


@dataclass(frozen=True)
class HeightInput(Unfitted):
    """Most of an `geoml.engine.contract.Input`; what it reads is in `layers`."""

    card: MapCard
    recipe: PredictRecipe | None = None

    rasters: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.card.dates != len(self.terms.layers):
            raise InputError(f"dates: {self.card.dates}; {self.card.name} has {len(self.terms.layers)} layers")

    @cached_property
    def terms(self) -> HeightTerms:
        return parse(HeightTerms, dict(self.card.made), f"{self.card.name}: made")

    @abstractmethod
    def layers(
        self, plan: Plan, items: Sequence[pystac.Item], plane: Plane, window: Window
    ) -> Mapping[str, NDArray[np.float32]]:
        """(y, x) of the window by name, NaN where nothing is known; ``terms.layers`` of them count."""

    def check(self, when: Sequence[str]) -> None:
        """Raise InputError unless there is one time range."""
        if len(when) != 1:
            raise InputError(f"datetime: {len(when)} given; {self.card.name} takes one range of all files")

    def reference(self, when: Sequence[str]) -> str | None:
        """Raises InputError: heights are not looked at day by day."""
        raise InputError(f"datetime: {self.card.name} makes heights; expected geoml elevation")

    def steps(self, plan: Plan, items: Sequence[pystac.Item], plane: Plane, window: Window) -> list[Pixels]:
        """One for each layer. Raises what `read` does."""
        pixels = self._pixels(plan, items, plane, window)
        return [replace(pixels, data=layer[None], scale=(1.0,), offset=(0.0,)) for layer in pixels.data]

    def together(self, steps: Sequence[Pixels]) -> Pixels:
        """All layers as channels."""
        ones, zeros = (1.0,) * len(steps), (0.0,) * len(steps)
        return replace(steps[0], data=np.concatenate([s.data for s in steps]), scale=ones, offset=zeros)

    def read(self, plan: Plan, items: Sequence[pystac.Item], block: Block, window: Window) -> BlockPixels:
        """The layers of the window, VOID where one has no value.

        Raises DataError for a broken file, InputError for files that do not fit each other, ModelError for a package
        that is not that of the plan, TransientError if a server does not answer.
        """
        return BlockPixels(self._pixels(plan, items, block.plane, window), (tuple(items),))

    def _pixels(self, plan: Plan, items: Sequence[pystac.Item], plane: Plane, window: Window) -> Pixels:
        found = self.layers(plan, items, plane, window)
        known = np.logical_or.reduce([np.isfinite(found[name]) for name in ("dsm", "dtm") if name in found])
        layers = np.stack([found[name] for name in self.terms.layers]).astype(np.float32)
        data = np.where(np.isfinite(layers), layers, np.float32(VOID))
        ones, zeros = (1.0,) * len(layers), (0.0,) * len(layers)
        return Pixels(data, known.astype(np.uint16), ones, zeros, window, tuple(items), plane)

    def pictures(self, pixels: Pixels) -> Mapping[str, Pixels]:
        """The surface as shaded relief."""
        dsm = pixels.data[self.terms.layers.index("dsm")]
        light = relief(np.where(dsm > VOID / 2, dsm, np.nan), self.card.gsd)
        shown = np.nan_to_num(4 * light - 2).astype(np.float32)  # a picture shows two deviations around the mean
        count = np.where(np.isfinite(light), pixels.count, 0).astype(np.uint16)
        return {"preview": replace(pixels, data=shown[None], count=count, scale=(1.0,), offset=(0.0,))}
