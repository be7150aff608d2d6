"""The recipe of `geoml learn`: labels, where their images are, and what to learn from them."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from geoml.fields import Unhashed
from geoml.recipe import Frozen, Place, Query, digest

Part = Literal["embedding", "bands"]
Head = Literal["prototype", "ridge", "logistic", "kernel"]
HEADS: tuple[Head, ...] = ("logistic", "prototype", "ridge", "kernel")


class AroundLabels(Query):
    """A query whose region may stay away: it is then where the labels are."""

    @model_validator(mode="after")
    def _one_region(self) -> Self:
        if self.bbox is not None and self.region is not None:
            raise ValueError("bbox, region: give one of them, or none for the surroundings of the labels")
        return self


class LearnRecipe(Frozen):
    """One learning from few labels: a file of places with a class and a search in; a package and its worth out."""

    name: str = Field(default="landcover", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="name of the package")
    description: str = Field(default="", description="stored in the card")
    license: str = Field(default="other", description="stored in the card")
    task: Literal["landcover"] = Field(default="landcover", description="stored in the card")
    labels: Place = Field(
        description="points or polygons in any CRS: GeoPackage, GeoJSON, GeoParquet or Shapefile; or the URL of an"
        " ArcGIS feature layer"
    )
    field: str = Field(description="column of the labels with the class, a name or a number")
    layer: str | None = Field(default=None, description="layer of the labels, if the file has several; or FILE:LAYER")
    contradictions: Literal["refuse", "allow"] = Field(
        default="refuse", description="whether the field may contradict another column that names the same classes"
    )
    add: tuple[Place, ...] = Field(
        default=(),
        description="further labels with the same column, points or polygons, such as places of geoml area next; where"
        " labels differ, the last file wins",
    )
    query: AroundLabels
    model: Place = Field(default="presto", description="package of an encoder, or bands: no encoder, only the bands")
    bands: tuple[str, ...] = Field(
        default=(), description="common names, or wavelengths such as 400nm..900nm; by default those of the encoder"
    )
    gsd: float | None = Field(default=None, gt=0, description="metres per pixel; by default that of the encoder")
    heads: tuple[Head, ...] = Field(
        default=HEADS,
        min_length=1,
        description="candidates for cross-validation; the first is used unless another is clearly better",
    )
    folds: int = Field(
        default=5, ge=2, le=20, description="maximum number of spatial folds; fewer if a class has fewer places"
    )
    ground: float = Field(
        default=200.0,
        ge=0,
        description="metres: labels that touch one square of this side are kept in one fold; 0: each place on its own",
    )
    sets: float = Field(default=0.9, gt=0, lt=1, description="probability that a prediction set contains the truth")
    pixels: int = Field(default=100, ge=1, description="maximum number of training pixels from one polygon")
    seed: int = Field(default=0, ge=0, description="seed of folds, draws and the pixels of large polygons")
    crs: str = Field(default="utm", description="utm: the zone of each place; data: that of the items; or EPSG:code")
    mask: Literal["auto", "none"] = Field(
        default="auto", description="auto: use the quality mask described in the catalog's YAML"
    )
    composite: Literal["first", "least_cloudy", "median", "mean"] = Field(
        default="least_cloudy", description="how the items of one place and step are combined into one image"
    )
    block_size: Annotated[int, Unhashed("a pixel does not depend on its block")] = Field(
        default=2048, ge=64, le=65536, description="side of a block in pixels; does not change the result"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(set(self.bands)) != len(self.bands):
            raise ValueError(f"bands: a name is used twice in {list(self.bands)}")
        if self.model == "bands" and (not self.bands or self.gsd is None):
            raise ValueError("bands, gsd: a model of bands alone needs both; expected such as red nir swir16 and 10")
        return self

    @property
    def hash(self) -> str:
        """sha256 over the canonical JSON of what changes the weights; what labels say is not in it."""
        without = {"description", "license", "block_size"} | (set() if self.add else {"add"})  # as before it was there
        return digest(self.model_dump(mode="json", exclude=without))
