"""How the bands of a sensor usually stand to each other, as the card of a model keeps it."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import ConfigDict, Field, model_validator

from geoml.recipe import Frozen

Level = Literal["L1C", "L2A"]
"""Of Sentinel-2: reflectance at the top of the atmosphere, or at the surface."""


class BandProfile(Frozen):
    """A Gaussian of log10 of the values of each band, all bands together, in the order of the card.

    ``|factor (log10 value - center)|² / 2`` is how far a pixel is from what is usual, about half the number of bands in
    the mean; ``factor`` is a lower triangle, row after row. Values are clipped to ``low`` and ``high``. See
    `geoml.cube.profile`.
    """

    model_config = ConfigDict(allow_inf_nan=False)

    center: tuple[float, ...] = Field(min_length=1)
    factor: tuple[float, ...]
    low: float = Field(gt=0)
    high: float
    pixels: int = Field(gt=0, description="looks at a pixel that it was fitted on")
    source: str = Field(min_length=1, description="of these pixels")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        size = len(self.center)
        if len(self.factor) != size * (size + 1) // 2:
            raise ValueError(f"factor: {len(self.factor)} numbers; expected those of a triangle of {size}")
        if self.high <= self.low:
            raise ValueError(f"high: {self.high}; expected more than low, {self.low}")
        return self
