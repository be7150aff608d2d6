"""The card of a locator. All its fields travel in one property of the STAC item, ``geoml:locator``; the others repeat
in the words of MLM what other software can use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, JsonValue

from geoml.io.cards.card import ModelCard
from geoml.recipe import Frozen

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

SECTION = "locator"
BANDS = ("red", "green", "blue")


class FittedCalibration(Frozen):
    """What validation pictures chose; a place is right within ``within_km``."""

    temperature: float = Field(default=1.0, gt=0, description="of the weights of the components")
    spread: float = Field(default=1.0, gt=0, description="by which concentrations are divided")
    alpha: float = Field(default=0.1, gt=0, lt=1)
    conformal: float | None = Field(default=None, description="largest score of a cell in the set (APS)")
    within_km: float = Field(default=750.0, gt=0)
    threshold: float | None = Field(
        default=None, description="least mass within within_km of an answer that is given; None: no such was found"
    )
    precision: float = Field(default=0.9, gt=0, lt=1, description="share of right answers that the threshold was for")
    reached: float | None = Field(default=None, description="that share on the validation pictures")
    coverage: float | None = Field(default=None, description="share of validation pictures that are answered")
    pictures: int = Field(default=0, ge=0)
    id: str = Field(default="", description="checksum of what was calibrated and on what")


class FittedDomain(Frozen):
    """What tells pictures that a locator is not for, and how well it did."""

    kinds: tuple[str, ...] = Field(min_length=1, description="what those pictures are like")
    hidden: int = Field(ge=0)
    limit: float = Field(description="least log odds that a picture is one that the locator is for")
    kept: float = Field(ge=0, le=1, description="share of the sure answers on validation pictures that the limit keeps")
    refused: dict[str, float] = Field(default_factory=dict, description="by kind: of made pictures of validation")


class LocatorCard(ModelCard):
    """What a locator expects and promises."""

    what: ClassVar[str] = "a locator"
    own: ClassVar[tuple[str, ...]] = (SECTION,)

    format: Literal[1] = 1
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    version: str = "1.0.0"
    license: str = Field(min_length=2, description="of the weights, SPDX")
    task: Literal["geolocation"] = "geolocation"
    kind: Literal["overhead", "photo"]
    data_license: str = Field(min_length=2, description="of the pictures that trained it")
    backbone: str
    head: str
    head_config: dict[str, JsonValue]
    features: int = Field(gt=0)
    size: int = Field(ge=8, le=4096, description="pixels of a side that a picture is resized to")
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    width_km: tuple[float, float] | None = Field(default=None, description="of the pictures that trained it")
    coverage_note: str = ""
    calibration: FittedCalibration = FittedCalibration()
    domain: FittedDomain | None = Field(default=None, description="None: not known; every picture is answered")

    def row(self) -> tuple[str, str, str, str]:
        return f"{self.task}, {self.kind}", " ".join(BANDS), "", self.head

    def footprint(self) -> BaseGeometry:
        from shapely.geometry import box

        return box(*self.bbox)

    def to_mlm(self) -> dict[str, Any]:
        section = self.model_dump(mode="json", exclude={"task", "bbox"}) | {"coverage": list(self.bbox)}
        return {
            "description": self.description or f"Locator of {self.kind} pictures",
            "bands": [{"name": b} for b in BANDS],
            "mlm:architecture": f"{self.backbone}+{self.head}",
            "mlm:tasks": ["regression"],
            "mlm:hyperparameters": self.head_config,
            "mlm:input": [
                {
                    "name": "picture",
                    "bands": list(BANDS),
                    "input": {
                        "shape": [-1, 3, self.size, self.size],
                        "dim_order": ["batch", "bands", "height", "width"],
                        "data_type": "float32",
                    },
                    "value_scaling": [
                        {"type": "z-score", "mean": m, "stddev": s} for m, s in zip(self.mean, self.std, strict=True)
                    ],
                    "resize_type": "interpolation-linear",
                    "pre_processing_function": None,
                }
            ],
            "mlm:output": [
                {
                    "name": "density",
                    "tasks": ["regression"],
                    "bands": [],
                    "result": {
                        "shape": [-1, -1, 5],
                        "dim_order": ["batch", "component", "weight_xyz_kappa"],
                        "data_type": "float32",
                    },
                    "description": "mixture of von Mises-Fisher components on the sphere",
                    "post_processing_function": None,
                }
            ],
            f"geoml:{SECTION}": section,
        }

    @classmethod
    def from_mlm(cls, properties: Mapping[str, Any], weights: Mapping[str, Any]) -> dict[str, Any]:
        return {"bbox" if name == "coverage" else name: value for name, value in properties[f"geoml:{SECTION}"].items()}


CARD = LocatorCard
