"""What a model saw in training, as recorded in its card, and the verdict on a run that is unlike it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from geoml.recipe import Frozen
from geoml.texts import percent

Verdict = Literal["inside", "partly", "outside"]

STEPS = 250
"""Stored likeness that means 1."""
OUTSIDE = STEPS // 2
"""A pixel whose stored likeness is below this is unlike the training data."""
NODATA = 255
PARTLY, MOSTLY = 0.1, 0.5
"""Shares of unlike pixels above which a run is ``partly`` and ``outside`` of its model's domain."""
LEVELS = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
"""Of the quantiles that a record keeps."""

Row = tuple[float, ...]


class Domain(Frozen):
    """The record of the training pixels: a mixture of Gaussians over the bands of one date, and where it ends.

    Pixels are standardised, ``z = (value - center) / spread``, and the log density is that of the likeliest component:
    ``max over k of constants[k] - |factors[k] z - shifts[k]|² / 2`` with a lower triangular matrix. A pixel below
    ``threshold`` is unlike the training data. See `geoml.cube.domain`.
    """

    model_config = ConfigDict(allow_inf_nan=False)

    quantiles: tuple[Row, ...] = Field(description=f"of each band, physical values at {LEVELS}")
    magnitude: Row = Field(description="of each band: three quarters of the absolute values lie below")
    center: Row
    spread: Row
    constants: Row = Field(min_length=1)
    factors: tuple[Row, ...] = Field(description="of each component: rows of the triangle, one after the other")
    shifts: tuple[Row, ...]
    middle: float = Field(description="median log density of the held-out pixels")
    threshold: float = Field(description="log density below which the share `level` of the held-out pixels lies")
    level: float = Field(ge=0, lt=1)
    pixels: int = Field(description="of the train split that it was fitted on")
    held_out: int = Field(description="pixels of the val split that chose the threshold")
    months: tuple[int, ...] = Field(default=(), description="of the images; empty where they do not say")
    platforms: tuple[str, ...] = Field(default=(), description="of the images; empty where they do not say")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        bands, parts = len(self.center), len(self.constants)
        if not bands == len(self.spread) == len(self.magnitude) == len(self.quantiles):
            raise ValueError("center, spread, magnitude, quantiles: expected one of each for every band")
        if any(len(q) != len(LEVELS) for q in self.quantiles):
            raise ValueError(f"quantiles: expected {len(LEVELS)} of each band")
        if not parts == len(self.factors) == len(self.shifts):
            raise ValueError("constants, factors, shifts: expected one of each for every component")
        if any(len(f) != bands * (bands + 1) // 2 for f in self.factors) or any(len(s) != bands for s in self.shifts):
            raise ValueError(f"factors, shifts: expected those of {bands} bands")
        if min(self.spread, default=0) <= 0 or self.middle <= self.threshold:
            raise ValueError("spread, middle: expected spreads above 0 and a middle above the threshold")
        return self


def verdict(outside: float) -> Verdict:
    """The verdict on a share of unlike pixels, 0 to 1."""
    return "inside" if outside <= PARTLY else "partly" if outside <= MOSTLY else "outside"


def describe(domain: Mapping[str, Any] | None, *, profile: bool = False) -> str:
    """The ``domain`` of ``run.json`` in one sentence without a full stop; ``profile``: the model has one of bands."""
    if not domain and profile:
        return (
            "only scale and order of the bands were compared with the training data: its package has no record of more"
        )
    if not domain:
        return "it is not known whether the model fits these images: its package has no record of its training data"
    share = percent(domain["outside"])
    if domain["verdict"] == "inside":
        return f"the images are like the training data of the model ({share} of the pixels are not)"
    much = "partly" if domain["verdict"] == "partly" else "mostly"
    return (
        f"the images are {much} unlike the training data of the model ({share} of the pixels); there its classes "
        "and confidence mean little"
    )


def described(run: Mapping[str, Any]) -> str:
    """As `describe`, of the contents of ``run.json``; "" where its model learnt nothing that data could be unlike."""
    model = run.get("model", {})
    return describe(run.get("domain"), profile=model.get("profile", False)) if model.get("learnt", True) else ""
