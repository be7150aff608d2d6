"""Recipe of a locator: the pictures of the world, the splits, the head and its calibration, as one YAML file."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, JsonValue, model_validator

from geoml.recipe import Frozen, Place, digest

CHOSEN_BY = "geoscore"
"""The score that tells locators apart; larger is better."""


class OutlierExposure(Frozen):
    """Pictures that the locator is not for, made by geoml.geolocation.training.outliers: a second head learns to tell
    them."""

    pictures: int = Field(default=1000, ge=20, description="of each kind, to train on")
    calibration: int = Field(default=150, ge=20, description="of each kind, to measure how many are refused")
    maps: tuple[str, ...] = Field(default=(), description="other world maps, as other renderings")
    scenes: tuple[str, ...] = Field(default=(), description="folders with red, green and blue .tif of ground nearby")
    hidden: int = Field(default=256, ge=0)
    epochs: int = Field(default=12, ge=1)
    kept: float = Field(
        default=0.98, gt=0, lt=1, description="share of confident answers on validation pictures to keep"
    )


class WorldSource(Frozen):
    """Random places on land, as crops of equirectangular pictures of the whole world."""

    kind: Literal["world"]
    picture: str = Field(description="the picture that trains and gives the gallery and the queries of the same month")
    renderings: tuple[str, ...] = Field(default=(), description="other pictures of the same places, as positives")
    other: str | None = Field(default=None, description="another month: used for queries at the end, never trained on")
    land: str = Field(description="land-sea mask in basemap's format")
    places: int = Field(
        default=8192, ge=16, description="places drawn for training, before blocks and gap remove theirs"
    )
    queries: int = Field(default=1000, ge=8, description="per test set")
    calibration: int = Field(default=500, ge=8, description="per validation set")
    width_km: tuple[float, float] = Field(default=(600.0, 1000.0))
    foreign: OutlierExposure | None = Field(default=None, description="by default every picture is answered")
    south: float = Field(default=-60.0, ge=-90, description="degrees; Antarctica is a white sheet at this scale")
    north: float = Field(default=90.0, le=90)


class PictureSource(Frozen):
    """Pictures with positions of their own: lists of any layout, folders with EXIF."""

    kind: Literal["pictures"]
    pictures: tuple[Place, ...] = Field(min_length=1, description="folders, globs, lists (CSV, Parquet), STAC items")
    tests: dict[str, str] = Field(
        default_factory=dict, description="other lists by name: used for queries, never trained on"
    )
    per_place: int | None = Field(default=None, ge=1, description="maximum number of pictures of one place")
    place_km: float = Field(default=1.0, gt=0, description="side of a place in km, at the equator")
    queries: int = Field(default=1000, ge=8, description="per test set that is split off")
    calibration: int = Field(default=500, ge=20, description="per validation set")


class BlockSplit(Frozen):
    """Held-out blocks of degrees; training keeps ``gap_km`` from every place in them."""

    degrees: float = Field(default=10.0, gt=0, le=90)
    test: float = Field(default=0.2, ge=0, lt=1)
    val: float = Field(default=0.1, ge=0, lt=1)
    gap_km: float = Field(default=100.0, ge=0)


class Views(Frozen):
    """Each place is seen several times, each time with another heading and width."""

    clean: int = Field(default=1, ge=1, description="views of the unchanged picture; the first of them is the gallery")
    seasons: int = Field(default=2, ge=0, description="views with another look, see geoml.geolocation.training.season")


class Head(Frozen):
    """A head of geoml/geolocation/heads and the arguments of its Config."""

    name: str
    config: dict[str, JsonValue] = Field(default_factory=dict)


class BackboneTraining(Frozen):
    """The backbone learns too: from pictures, each with another heading, width and look in every epoch."""

    learn: Literal["all", "last-stages"] = Field(default="all", description="last-stages: the later half of the layers")
    rate_factor: float = Field(default=1.0, gt=0, description="learning rate of the backbone relative to lr")


class HeadTraining(Frozen):
    """AdamW with one cycle of the learning rate."""

    epochs: int = Field(default=25, ge=1)
    batch: int = Field(default=256, ge=2)
    lr: float = Field(default=2e-3, gt=0)
    weight_decay: float = Field(default=1e-2, ge=0)
    clip: float = Field(default=1.0, gt=0)
    balance: float = Field(default=0.5, ge=0, le=1, description="exponent of the inverse block counts; 0: no balancing")
    backbone: BackboneTraining | None = Field(
        default=None, description="by default it is frozen and only the head learns"
    )


class Calibration(Frozen):
    """What the validation sets choose: temperature, conformal sets, threshold of abstention."""

    alpha: float = Field(default=0.1, gt=0, lt=1)
    within_km: float = Field(default=750.0, gt=0, description="an answer is right within this distance")
    precision: float = Field(default=0.9, gt=0, lt=1)
    blocks: bool = Field(
        default=False, description="choose the threshold on validation blocks, which are never trained on"
    )


class GeoRecipe(Frozen):
    """One locator: what changes its weights and its calibration."""

    task: Literal["geolocation"]
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    description: str = ""
    kind: Literal["overhead", "photo"] = "overhead"
    license: str = Field(min_length=2, description="SPDX licence of the weights")
    data_license: str = Field(min_length=2, description="licence of the pictures that trained it")
    source: WorldSource | PictureSource = Field(discriminator="kind")
    split: BlockSplit = BlockSplit()
    views: Views = Views()
    backbone: str = "efficientnet-lite0-stages"
    weights: str | None = "imagenet"
    size: int | None = Field(
        default=None, ge=32, description="side in pixels; by default what the backbone was made for"
    )
    head: Head
    training: HeadTraining = HeadTraining()
    calibration: Calibration = Calibration()
    half: bool = Field(default=True, description="store the weights in half precision")
    int8: bool = Field(default=False, description="also store large weights in 8 bits: half the size")
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _unseen(self) -> Self:
        if isinstance(self.source, WorldSource) and self.source.other in (self.source.picture, *self.source.renderings):
            raise ValueError("source.other: the other month is for the test and must not be among those that train")
        if self.split.test + self.split.val >= 1:
            raise ValueError("split: test and val leave nothing to train on")
        return self

    @property
    def hash(self) -> str:
        """sha256 of what changes the locator."""
        value = self.model_dump(mode="json", exclude={"description"})
        if self.training.backbone is None:  # recipes of before it could learn keep their hash
            del value["training"]["backbone"]
        if isinstance(self.source, WorldSource) and self.source.foreign is None:
            del value["source"]["foreign"]
        if not self.int8:
            del value["int8"]
        return digest(value)
