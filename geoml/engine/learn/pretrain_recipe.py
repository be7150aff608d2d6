"""The recipe of a pretraining without labels."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from geoml.recipe import Frozen, Place, Query, digest


class PretrainRecipe(Frozen):
    """One self-supervised training of an encoder on what a search finds; no labels."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="name of the package")
    description: str = Field(default="", description="stored in the card")
    license: str = Field(default="Apache-2.0", description="stored in the card")
    task: Literal["pretrain"] = Field(default="pretrain", description="stored in the card's record")
    query: Query
    init: Place | None = Field(default=None, description="package of an encoder to continue from")
    architecture: str = Field(default="presto", description="file name in geoml/models, of a network with an encoder")
    config: dict[str, Any] = Field(default_factory=dict, description="arguments of the architecture's Config")
    bands: tuple[str, ...] = Field(default=(), description="common names of the bands")
    gsd: float | None = Field(default=None, gt=0, description="metres per pixel")
    crs: str = Field(default="utm", description="utm, data, or EPSG:code")
    mask: Literal["auto", "none"] = Field(
        default="auto", description="auto: use the quality mask described in the catalog's YAML"
    )
    composite: Literal["first", "least_cloudy", "median", "mean"] = "least_cloudy"
    squares: int = Field(
        default=64, ge=1, le=4096, description="maximum number of squares of 128 pixels read from the region"
    )
    pixels: int = Field(default=1000, ge=1, le=16384, description="pixels taken from each square")
    epochs: int = Field(default=20, ge=1)
    batch: int = Field(default=512, ge=2, description="pixels per step")
    lr: float = Field(default=1e-3, gt=0, description="maximum learning rate")
    weight_decay: float = Field(default=1e-2, ge=0)
    projector: int = Field(
        default=256, ge=8, description="width of the projector behind the encoder, which is discarded after training"
    )
    seed: int = Field(default=0, ge=0, description="of initial weights, drawn pixels and views")

    @model_validator(mode="after")
    def _of_dates(self) -> Self:
        if len(self.query.datetime) < 2:
            raise ValueError("datetime: one step; views are dates of one place, so expected two or more")
        if self.init is None and (not self.bands or self.gsd is None):
            raise ValueError("bands, gsd: needed without an encoder to go on from; expected such as red nir and 10")
        if self.init is not None and (self.bands or self.config or self.gsd is not None):
            raise ValueError("bands, config, gsd: are those of the encoder to go on from; expected none")
        return self

    @property
    def hash(self) -> str:
        """sha256 over the canonical JSON of what changes the weights."""
        return digest(self.model_dump(mode="json", exclude={"description", "license"}))
