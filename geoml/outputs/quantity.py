"""A quantity: every pixel gets a value, and the standard deviation that the model expects of its error.

Raw output is (B, 2, y, x): the value in standard deviations of the training data, and its spread before softplus. What
``made`` of a card says: `Config`. As int16 both are stored in steps, as float32 in the unit itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from geoml.engine.contract import BlockPart, BlockRun, FinishedRun, Layer, Rows
from geoml.engine.stored import BROKEN, LARGEST, NODATA, stored
from geoml.errors import InputError
from geoml.io.cards.map_card import MapCard
from geoml.recipe import Frozen, PredictRecipe, parse

if TYPE_CHECKING:
    from torch import Tensor

    from geoml.outputs._quantity_report import QuantityReport

TINY: Final[Mapping[str, object]] = {
    "task": "regression",
    "channels": 2,
    "made": {"name": "height", "unit": "m", "step": 0.1, "mean": 3.0, "std": 2.0},
}
"""Arguments of `geoml.testing.card`, for the contract tests."""


class Config(Frozen):
    """What ``made`` of a card says of a quantity."""

    name: str
    unit: str | None = None
    step: float = Field(default=0.1, gt=0, description="what is told apart, in the unit")
    dtype: Literal["int16", "float32"] = "int16"
    mean: float = Field(default=0.0, description="of the training data, as the next")
    std: float = Field(default=1.0, gt=0)


@dataclass(frozen=True)
class Output:
    """The COGs ``value`` and ``spread``."""

    card: MapCard
    recipe: PredictRecipe | None = None

    joiner: ClassVar[Literal["pixels"]] = "pixels"
    changes: ClassVar[bool] = False
    raw: ClassVar[int] = 2
    channels: ClassVar[int] = 2
    tables: ClassVar[Mapping[str, str]] = {}

    def __post_init__(self) -> None:
        _ = self.config

    @cached_property
    def config(self) -> Config:
        return parse(Config, dict(self.card.made), f"{self.card.name}: made")

    @property
    def about(self) -> str:
        return f"{self.config.name} and its spread"

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        name = self.config.name
        return self._layer("value", name), self._layer("spread", f"standard deviation expected of the {name}")

    def _layer(self, key: str, title: str) -> Layer:
        how = self.config
        scale = how.step if how.dtype == "int16" else 1.0
        return Layer(
            key=key,
            title=title,
            dtype=how.dtype,
            nodata=NODATA[how.dtype],
            scale=scale,
            unit=how.unit,
            description=title,
        )

    # on the device

    def average(self, raw: Tensor) -> Tensor:
        """(B, 2, y, x) float32 value and spread in the unit."""
        import torch

        from geoml.nn.quantity_losses import spread

        how = self.config
        return torch.stack([raw[:, 0].float() * how.std + how.mean, spread(raw) * how.std], dim=1)

    def encode(self, averaged: Tensor) -> list[Tensor]:
        """Value and spread, (B, 1, y, x) each."""
        import torch

        if self.config.dtype == "float32":
            return [averaged[:, :1], averaged[:, 1:]]
        steps = (averaged / self.config.step).round().clamp(-LARGEST, LARGEST)
        steps = torch.where(torch.isfinite(averaged), steps, float(BROKEN)).to(torch.int16)
        return [steps[:, :1], steps[:, 1:]]

    def encode_raw(self, raw: Tensor) -> list[Tensor]:
        """As `encode`."""
        return self.encode(self.average(raw))

    # on the host

    def stored(self, encoded: Sequence[NDArray[np.number]], known: NDArray[np.bool_]) -> dict[str, NDArray[np.number]]:
        """As `geoml.engine.contract.PixelOutput.stored`."""
        return stored(self.layers, encoded, known)

    def answer(self, rows: Rows) -> tuple[NDArray[np.number], ...]:
        """Value and spread in the unit, (y, x) float32 each; NaN where nothing is known."""
        found = []
        for layer in self.layers:
            a = rows[layer.key][0]
            unknown = a == np.asarray(layer.nodata, a.dtype)
            found.append(np.where(unknown, np.float32(np.nan), (a * layer.scale).astype(np.float32)))
        return tuple(found)

    # the run

    def part(self, run: BlockRun) -> BlockPart:
        """None is asked for, since there are no tables."""
        raise InputError(f"{self.card.name}: a quantity has no part of a block")

    def collect(self, run: FinishedRun) -> None:
        """Nothing is left to be put together."""

    def follower(self) -> None:
        """Nothing keeps its id."""

    def report(self, out: Path) -> QuantityReport:
        """Map and spread, and what they are on the whole."""
        from geoml.outputs._quantity_report import QuantityReport

        return QuantityReport(self.config.name, self.config.unit or "", self.layers, self.card.scores)
