"""The model card: what a model package says of itself, kept as a STAC item with the MLM extension.

Specification: https://github.com/stac-extensions/mlm (v1.5.0). Fields that MLM lacks travel as ``geoml:…`` properties.
"""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from geoml.errors import InputError
from geoml.grid.chips import ChipGrid, blended_grid, exact_grid
from geoml.io.cards.domain import Domain
from geoml.io.units import Unit
from geoml.recipe import Frozen, Phase


class Band(Frozen):
    """One input band. The model sees ``(value - mean) / std`` of physical values (reflectance, dB, digital number)."""

    model_config = ConfigDict(allow_inf_nan=False)

    name: str = Field(description="common name: red, nir, vv, …")
    mean: float = 0.0
    std: float = Field(default=1.0, gt=0)
    unit: Unit = Field(default=None, description="of physical values: reflectance, dB, linear power, K, DN; see units")


class ClassInfo(Frozen):
    """One class of the output raster."""

    value: int = Field(ge=0, le=254)
    name: str
    color: str = Field(pattern=r"^#[0-9a-fA-F]{6}$")
    before: str | None = Field(default=None, description="of a change: what it was")
    after: str | None = Field(default=None, description="of a change: what it became")


class ModelCard(Frozen):
    """The contract of a model package; see the glossary for chip, stride and receptive radius."""

    model_config = ConfigDict(allow_inf_nan=False)

    name: str
    version: str = "1"
    description: str = ""
    license: str = "Apache-2.0"
    architecture: str = Field(description="file name in geoml/models, or 'exported' for a .pt2 package")
    config: dict[str, Any] = Field(default_factory=dict, description="arguments of the architecture's Config")
    task: str = "segmentation"
    bands: tuple[Band, ...]
    gsd: float = Field(gt=0, description="metres")
    anchor: Phase = Field(default=0.0, description="pixel phase of the plane, 0.0 or 0.5; see geoml.grid.plane")
    dates: int = Field(default=1, ge=1)
    chip_size: int = Field(gt=0)
    overlap: int = Field(default=64, ge=0, description="pixels shared by neighbouring chips when they are blended")
    window: Literal["hann", "triangle", "flat"] = Field(default="hann", description="blending window")
    stride: int = Field(default=1, ge=1, description="chip starts are multiples of it")
    radius: int | None = Field(default=None, description="receptive radius in pixels as measured; None: the whole chip")
    classes: tuple[ClassInfo, ...]
    nodata: int = Field(default=255, ge=0, le=255, description="value of the output where nothing is known")
    weights: str = Field(default="model.safetensors", description="file beside the item")
    sha256: str = Field(default="", description="of the weights file")
    parameters: int = 0
    training: dict[str, Any] = Field(default_factory=dict, description="data, splits, seed, recipe hash")
    scores: dict[str, Any] = Field(default_factory=dict, description="held-out scores as measured")
    bbox: tuple[float, float, float, float] = Field(default=(-180.0, -90.0, 180.0, 90.0), description="where trained")
    domain: Domain | None = Field(default=None, description="what it saw in training; None: not known")

    def chip_grid(self, join: str = "auto") -> ChipGrid:
        """The lattice of the model's chips: ``exact`` (halo and core), ``blend`` (window), ``auto`` prefers exact.

        Raises InputError when exact joining is asked of a model that sees its whole chip.
        """
        if join not in ("auto", "exact", "blend"):
            raise InputError(f"join: {join!r}; expected auto, exact or blend")
        if join != "blend" and self.radius is not None:
            return exact_grid(self.chip_size, self.radius, self.stride)
        if join == "exact":
            raise InputError(
                f"join: {self.name} sees its whole chip, so no halo makes it exact; expected auto or blend"
            )
        return blended_grid(self.chip_size, self.overlap, self.stride)

    @model_validator(mode="after")
    def _domain_of_the_bands(self) -> Self:
        if self.domain is not None and len(self.domain.center) != len(self.bands):
            raise ValueError(f"domain: a record of {len(self.domain.center)} bands; the card has {len(self.bands)}")
        return self
