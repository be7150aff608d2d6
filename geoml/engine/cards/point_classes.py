"""The card of a network that gives each point of a cloud a class: of what columns, from how far around, which classes.

All its fields travel in one property of the STAC item, ``geoml:point_classes``; the others repeat in the words of MLM
what other software can use.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from geoml.io.cards.card import ModelCard
from geoml.recipe import Frozen

SECTION = "point_classes"
COLUMNS = ("x", "y", "z", "return_number", "number_of_returns")
"""Of the points, with the names that LAS has for them; coordinates in metres."""


class PointClass(Frozen):
    """A class as points carry it."""

    value: int = Field(
        ge=0, le=255, description="code of the class, as LAS has them: 2 ground, 5 vegetation, 6 building"
    )
    name: str = Field(min_length=1)


class PointCard(ModelCard):
    """What a classifier of points expects and promises."""

    what: ClassVar[str] = "a classifier of points"
    own: ClassVar[tuple[str, ...]] = (SECTION,)

    task: Literal["point_classes"] = "point_classes"
    architecture: str = Field(description="file name in geoml/models")
    config: dict[str, Any] = Field(default_factory=dict, description="arguments of the architecture's Config")
    columns: tuple[str, ...] = Field(default=COLUMNS, min_length=3, description="of a point, as LAS names them")
    voxel: float = Field(gt=0, description="metres, side of the finest voxels")
    radius: float = Field(ge=0, description="metres along x or y within which lies all that a class depends on")
    classes: tuple[PointClass, ...] = Field(min_length=2, max_length=32)

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        for name in ("value", "name"):
            if len({getattr(c, name) for c in self.classes}) != len(self.classes):
                raise ValueError(f"classes: a {name} is that of two of them")
        return self

    def row(self) -> tuple[str, str, str, str]:
        return self.task, " ".join(self.columns), f"{self.voxel:g} m", " ".join(c.name for c in self.classes)

    def to_mlm(self) -> dict[str, object]:
        section = self.model_dump(mode="json", exclude={"task", "bbox"}) | {"coverage": list(self.bbox)}
        return {
            "bands": [{"name": c} for c in self.columns],
            "mlm:architecture": self.architecture,
            "mlm:tasks": ["semantic-segmentation"],
            "mlm:hyperparameters": {**self.config, "voxel": self.voxel, "radius": self.radius},
            "mlm:input": [
                {
                    "name": "points",
                    "bands": list(self.columns),
                    "input": {
                        "shape": [-1, len(self.columns)],
                        "dim_order": ["point", "bands"],
                        "data_type": "float64",
                    },
                    "resize_type": None,
                    "pre_processing_function": None,
                }
            ],
            "mlm:output": [
                {
                    "name": "classes",
                    "tasks": ["semantic-segmentation"],
                    "bands": [],
                    "result": {
                        "shape": [-1, len(self.classes)],
                        "dim_order": ["point", "class"],
                        "data_type": "float64",
                    },
                    "classification:classes": [{"value": c.value, "name": c.name} for c in self.classes],
                    "post_processing_function": None,
                }
            ],
            f"geoml:{SECTION}": section,
        }

    @classmethod
    def from_mlm(cls, properties: Mapping[str, Any], weights: Mapping[str, Any]) -> dict[str, Any]:
        return {"bbox" if name == "coverage" else name: value for name, value in properties[f"geoml:{SECTION}"].items()}


CARD = PointCard
