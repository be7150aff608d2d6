"""The record of a radius by tolerance in a card: the measured share of pixels that get another class."""

from __future__ import annotations

from pydantic import ConfigDict, Field

from geoml.recipe import Frozen

MOST = 0.05
"""Largest tolerance: a map with more pixels of another class is another map."""


class RadiusShare(Frozen):
    """A radius that was tried: ``changed`` is the share of pixels, 0 to 1, that have another class with it."""

    model_config = ConfigDict(allow_inf_nan=False)

    radius: int = Field(ge=1)
    changed: float = Field(ge=0, le=1)


class ShortRadius(Frozen):
    """The record of `geoml models radius`: chips keep less around their cores than the network sees."""

    model_config = ConfigDict(allow_inf_nan=False)

    radius_before: int = Field(ge=1, description="receptive radius in pixels, with which the map is exact")
    core: int = Field(ge=1, description="pixels of a core: all chips are of one size and one lattice of the plane")
    tolerance: float = Field(gt=0, le=MOST, description="share of pixels that may have another class")
    changed: float = Field(ge=0, le=MOST, description="share that has one, as measured")
    pixels: int = Field(ge=1, description="valid ones that it was measured on")
    recipe: str = Field(description="hash of the recipe whose split they are of")
    split: str = "val"
    precision: str = Field(description="in which it was measured: fp32 or bf16")
    tried: tuple[RadiusShare, ...] = Field(description="every radius that was measured, the largest first")

    def price(self, radius: int, core: int | None = None) -> str:
        """What a reader of a map has to know, where its chips have ``core`` pixels (as measured, where None)."""
        size = core or self.core
        about = 100 * self.changed * self.core / size  # what changes lies at edges: halve a core, and there are twice
        return (
            f"a radius by tolerance, {radius} pixels for {self.radius_before}: the map is that of the whole radius but "
            f"for about {about:.2g} % of the pixels, mostly at the edges of chips of {size} pixels"
        )
