"""Heights: a COG for each surface, as float32 metres with NaN where nothing is known, and buildings as polygons.

=============  ======================================================================================================
``dtm``        terrain: the ground without what stands on it
``dsm``        surface: the highest that was seen first
``height``     surface over terrain
``count``      measured points of the cell, or matched pixels; nodata where nothing is known
``spread``     standard deviation of the heights in the cell, or the error that is expected of a match, metres
``distance``   from centre to centre of the nearest cell with a measured point of the ground, metres, at most 30
``building``   1 where the cell belongs to a building
=============  ======================================================================================================

The files of heights have a compound CRS: that of the plane, and that of the heights, where that is known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final, Literal

import numpy as np
from numpy.typing import NDArray

from geoml.engine.contract import BlockPart, BlockRun, FinishedRun, Layer, Rows
from geoml.errors import InputError, ModelError
from geoml.io.cards.elevation import VOID, HeightTerms, LayerName
from geoml.io.cards.map_card import MapCard
from geoml.recipe import PredictRecipe, parse

if TYPE_CHECKING:
    from torch import Tensor

    from geoml.outputs._elevation.report import ElevationReport

TINY: Final[Mapping[str, object]] = {
    "task": "elevation",
    "dates": 7,
    "classes": ("other", "building"),
    "made": {"vertical": "EPSG:5773"},
}
"""Arguments of `geoml.testing.card`, for the contract tests."""

MOST: Final = 32_767
NONE: Final = -1
"""nodata of counts."""
OUTSIDE: Final = 255
"""nodata of the layer ``building``."""
TITLES: Final[Mapping[LayerName, str]] = {
    "dtm": "terrain",
    "dsm": "surface",
    "height": "height of the surface over the terrain",
    "count": "measured points",
    "spread": "spread of the heights in a cell",
    "distance": "distance to the nearest point of the ground",
    "building": "buildings",
}
ABOVE_DATUM: Final = ("dtm", "dsm")
BUILDINGS: Final = "buildings.parquet"


@dataclass(frozen=True)
class Output:
    """The COGs of the terms of the card."""

    card: MapCard
    recipe: PredictRecipe | None = None

    joiner: ClassVar[Literal["pixels"]] = "pixels"
    changes: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.card.dates != len(self.terms.layers):
            raise InputError(f"dates: {self.card.dates}; {self.card.name} makes {len(self.terms.layers)} layers")

    @cached_property
    def terms(self) -> HeightTerms:
        return parse(HeightTerms, dict(self.card.made), f"{self.card.name}: made")

    @property
    def raw(self) -> int:
        return len(self.terms.layers)

    @property
    def channels(self) -> int:
        return self.raw

    @property
    def about(self) -> str:
        return ", ".join(self.terms.layers)

    @property
    def tables(self) -> Mapping[str, str]:
        return {BUILDINGS: "buildings with their heights"} if "building" in self.terms.layers else {}

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        return tuple(self._layer(name) for name in self.terms.layers)

    def _layer(self, name: LayerName) -> Layer:
        title = TITLES[name]
        if name == "building":
            return Layer(key=name, title=title, nodata=OUTSIDE, description=title, overview="mode", predictor=False)
        if name == "count":
            if self.terms.kind == "stereo":
                title = "matched pixels"
            return Layer(key=name, title=title, dtype="int16", nodata=NONE, description=title)
        datum = f", metres above {self.terms.vertical_name}" if name in ABOVE_DATUM else ""
        return Layer(
            key=name,
            title=f"{title}{datum}",
            dtype="float32",
            nodata=float("nan"),
            unit="m",
            description=f"{title}{datum}",
            vertical=self.terms.vertical if name in ABOVE_DATUM else None,
        )

    # on the device

    def average(self, raw: Tensor) -> Tensor:
        """(B, layer, y, x) float32, as it is."""
        return raw.float()

    def encode(self, averaged: Tensor) -> list[Tensor]:
        """Each layer, (B, 1, y, x) in its dtype; ``VOID`` stays in those of metres."""
        return [self._encoded(name, averaged[:, n : n + 1]) for n, name in enumerate(self.terms.layers)]

    def _encoded(self, name: LayerName, values: Tensor) -> Tensor:
        import torch

        if name == "building":
            return (values > 0.5).to(torch.uint8)
        if name == "count":
            return values.round().clamp(0, MOST).to(torch.int16)
        return values

    def encode_raw(self, raw: Tensor) -> list[Tensor]:
        """As `encode`."""
        return self.encode(self.average(raw))

    # on the host

    def stored(self, encoded: Sequence[NDArray[np.number]], known: NDArray[np.bool_]) -> dict[str, NDArray[np.number]]:
        """As `geoml.engine.contract.PixelOutput.stored`; a layer of metres has NaN where it is ``VOID`` too."""
        wrong = np.logical_or.reduce([~np.isfinite(a[0]) for a in encoded if a.dtype == np.float32])
        if bad := int((wrong & known).sum()):
            raise ModelError(f"heights are not finite in {bad} pixels; a void has a value of its own")
        found: dict[str, NDArray[np.number]] = {}
        for layer, a in zip(self.layers, encoded, strict=True):
            there = known & (a > VOID / 2) if a.dtype == np.float32 else known
            found[layer.key] = np.where(there, a, np.asarray(layer.nodata, a.dtype))
        return found

    def answer(self, rows: Rows) -> tuple[NDArray[np.number], ...]:
        """Of each layer (y, x) float32, NaN where nothing is known."""
        found = []
        for layer in self.layers:
            a = rows[layer.key][0]
            found.append(a if a.dtype == np.float32 else np.where(a == layer.nodata, np.float32(np.nan), a))
        return tuple(found)

    # the run

    def part(self, run: BlockRun) -> BlockPart:
        """The outlines of the buildings of a block."""
        from geoml.outputs._class_features import ClassPart

        return ClassPart(run.block, "building", nodata=OUTSIDE, quiet=0, of="building")

    def collect(self, run: FinishedRun) -> None:
        """Whole buildings, with the heights of the layers inside them. Raises DataError."""
        from geoml.outputs._elevation.buildings import write_buildings

        if self.tables:
            write_buildings(run, run.out / BUILDINGS)

    def follower(self) -> None:
        """Nothing keeps its id."""

    def report(self, out: Path) -> ElevationReport:
        """The surfaces as shaded relief, and their numbers."""
        from geoml.outputs._elevation.report import ElevationReport

        return ElevationReport(self.terms, self.layers, out)
