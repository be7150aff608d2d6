"""Embeddings: every pixel gets a vector as int8, and every chip of 32 x 32 pixels the mean of its vectors as a row.

Raw output is (B, width, y, x). Stored are deviations from the mean, four standard deviations to 127, by the mean and
the deviation of each band on a sample of the region: scale and offset of the COG, the same in all blocks, so there is
no seam. Cosines of what is stored are those of standardised embeddings. Beside it the first three principal components
as colours, to look at. What ``made`` of a card says: `Config`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from geoml.engine.contract import BlockRun, FinishedRun, Layer, Rows
from geoml.errors import ModelError
from geoml.io.cards.map_card import MapCard
from geoml.outputs._embedding_coding import COMPONENTS, LARGEST, NODATA
from geoml.recipe import Frozen, PredictRecipe, parse

if TYPE_CHECKING:
    from torch import Tensor

    from geoml.outputs._embedding_chips import ChipSums
    from geoml.outputs._embedding_report import EmbeddingReport

CHIPS: Final = "embeddings.parquet"
TILE: Final = 128
"""Pixels of a side of a tile, which holds all bands, so that one pixel is read with few others."""
TINY: Final[Mapping[str, object]] = {
    "task": "embedding",
    "channels": 4,
    "made": {
        "scale": (0.04, 0.05, 0.06, 0.07),
        "offset": (0.5, -0.5, 0.0, 1.0),
        "axes": ((127, 0, 5, 9), (0, 127, -9, 0), (0, 20, 127, -30)),
        "middle": (0.0, 100.0, -50.0),
        "gain": (0.02, 0.02, 0.01),
        "explained": (0.5, 0.3, 0.1),
    },
}
"""Arguments of `geoml.testing.card`, for the contract tests."""


class Config(Frozen):
    """What ``made`` of a card says of embeddings: ``physical = stored * scale + offset`` of each band.

    A colour is 128 and ``gain`` times what the product of ``axes`` with what is stored has above ``middle``. Axes are
    whole numbers, so that the product is exact in any order.
    """

    scale: tuple[float, ...]
    offset: tuple[float, ...]
    axes: tuple[tuple[int, ...], ...] = Field(min_length=3, max_length=3)
    middle: tuple[float, float, float]
    gain: tuple[float, float, float]
    explained: tuple[float, float, float] = Field(description="share of the variance of the sample by component")


@dataclass(frozen=True)
class Output:
    """The COGs ``embedding`` and ``colours``, and the table of chips."""

    card: MapCard
    recipe: PredictRecipe | None = None

    joiner: ClassVar[Literal["pixels"]] = "pixels"
    changes: ClassVar[bool] = False
    tables: ClassVar[Mapping[str, str]] = {CHIPS: "GeoParquet 1.1: the mean embedding of each chip of 32 x 32 pixels"}
    about: ClassVar[str] = "embedding of each pixel, its first three principal components as colours"

    @cached_property
    def config(self) -> Config:
        """Raises InputError for the card of a package, of which no region is known yet."""
        return parse(Config, dict(self.card.made), f"{self.card.name}: made")

    @property
    def raw(self) -> int:
        return self.card.channels or 0

    @property
    def channels(self) -> int:
        return self.raw

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        how = self.config
        return (
            Layer(
                key="embedding",
                title="embedding of each pixel",
                dtype="int8",
                nodata=NODATA,
                bands=tuple(f"e{k:03d}" for k in range(self.raw)),
                scale=how.scale,
                offset=how.offset,
                tile=TILE,
            ),
            Layer(
                key="colours",
                title="first three principal components of the embeddings, as colours",
                nodata=0,
                bands=COMPONENTS,
            ),
        )

    @staticmethod
    def fitted(vectors: NDArray[np.float32]) -> dict[str, Any]:
        """`Config` of (N, width) embeddings of a sample."""
        from geoml.outputs._embedding_fit import fitted

        return fitted(vectors)

    # on the device

    def average(self, raw: Tensor) -> Tensor:
        """(B, width, y, x) float32, as they are."""
        return raw.float()

    def encode(self, averaged: Tensor) -> list[Tensor]:
        """(B, width, y, x) int8 and (B, 3, y, x) uint8."""
        import torch

        how = self.config
        scale, offset, axes, middle, gain = (
            torch.tensor(v, dtype=torch.float32, device=averaged.device)
            for v in (how.scale, how.offset, how.axes, how.middle, how.gain)
        )
        steps = ((averaged - offset[:, None, None]) / scale[:, None, None]).round_().clamp_(-LARGEST, LARGEST)
        along = torch.einsum("kc,bcyx->bkyx", axes, steps)
        colours = ((along - middle[:, None, None]) * gain[:, None, None] + 128).round_().clamp_(1, 255)
        return [steps.nan_to_num_(nan=NODATA).to(torch.int8), colours.nan_to_num_(nan=0).to(torch.uint8)]

    def encode_raw(self, raw: Tensor) -> list[Tensor]:
        """As `encode`."""
        return self.encode(self.average(raw))

    # on the host

    def stored(self, encoded: Sequence[NDArray[np.number]], known: NDArray[np.bool_]) -> dict[str, NDArray[np.number]]:
        """As `geoml.engine.contract.PixelOutput.stored`."""
        steps, colours = encoded
        if bad := int(((steps == NODATA).any(axis=0) & known).sum()):
            raise ModelError(f"the output of the model is not finite in {bad} pixels; check weights and normalisation")
        return {
            "embedding": np.where(known, steps, np.int8(NODATA)),
            "colours": np.where(known, colours, np.uint8(0)),
        }

    def answer(self, rows: Rows) -> tuple[NDArray[np.number], ...]:
        """The numbers of embeddings, (y, x) float32 each; NaN where nothing is known."""
        how, stored = self.config, rows["embedding"]
        return tuple(
            np.where(band == NODATA, np.float32(np.nan), band * np.float32(scale) + np.float32(offset))
            for band, scale, offset in zip(stored, how.scale, how.offset, strict=True)
        )

    # the run

    def part(self, run: BlockRun) -> ChipSums:
        """Sums of the chips of a block."""
        from geoml.outputs._embedding_chips import ChipSums

        return ChipSums(run.block, self.raw)

    def collect(self, run: FinishedRun) -> None:
        """The table of chips."""
        from geoml.outputs._embedding_chips import write_chips

        write_chips(run, self.config.scale, self.config.offset, run.out / CHIPS)

    def follower(self) -> None:
        """Nothing keeps its id."""

    def report(self, out: Path) -> EmbeddingReport:
        """The map of colours."""
        from geoml.outputs._embedding_report import EmbeddingReport

        return EmbeddingReport(self.raw, self.config.explained)
