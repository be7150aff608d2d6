"""The record of int8 in a card: the ranges of the network's values, and the loss by quantisation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

from pydantic import ConfigDict, Field, model_validator

from geoml.recipe import Frozen

MOST = 0.005
"""Of mean IoU, 0 to 1: a network that loses more is not published."""


class Int8Loss(Frozen):
    """IoU of each class on validation data before, by PyTorch in fp32, and after, by a back end in int8."""

    model_config = ConfigDict(allow_inf_nan=False)

    before: dict[str, float | None]
    after: dict[str, float | None]

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if all(value is None for value in self.before.values()):
            raise ValueError("before: expected the IoU of one class at least")
        return self

    @property
    def miou(self) -> tuple[float, float]:
        """Mean IoU before and after, over the classes that had one before."""
        known = [name for name, value in self.before.items() if value is not None]
        before, after = ([side.get(name) or 0.0 for name in known] for side in (self.before, self.after))
        return sum(before) / len(known), sum(after) / len(known)

    @property
    def lost(self) -> float:
        """Of mean IoU, 0 to 1; negative where int8 does better."""
        before, after = self.miou
        return before - after


class Int8(Frozen):
    """The record of `geoml models quantize`: what a back end makes the network in int8 of, and how well that did."""

    model_config = ConfigDict(allow_inf_nan=False)

    ranges: dict[str, tuple[float, float]] = Field(description="least and largest value of each quantised tensor")
    graph: str = Field(description="sha256 of the steps that the ranges are of")
    chips: int = Field(description="of the train split that the ranges were seen on")
    recipe: str = Field(description="hash of the recipe whose splits they are")
    split: str = Field(default="val", description="what the loss was measured on")
    pixels: int = Field(description="labelled ones of that split")
    loss: Mapping[str, Int8Loss] = Field(description="by back end")
