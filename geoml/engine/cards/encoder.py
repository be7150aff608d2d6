"""The card of an encoder: its input from a series, and its output, an embedding of each pixel.

All its fields travel in one property of the STAC item, ``geoml:encoder``; the others repeat in the words of MLM what
other software can use.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from geoml.errors import InputError
from geoml.io.cards.card import ModelCard
from geoml.io.cards.map_card import Band, MapCard
from geoml.io.cards.profile import BandProfile, Level

SECTION = "encoder"
EMBEDDING = "embedding"
"""Name of the task of maps by an encoder."""
SIDE = 64
"""Pixels of a side as the item says them: an encoder takes any number."""


class EncoderCard(ModelCard):
    """What an encoder expects and promises."""

    what: ClassVar[str] = "an encoder"
    own: ClassVar[tuple[str, ...]] = (SECTION,)

    task: Literal["encoder"] = "encoder"
    architecture: str = Field(description="file name in geoml/models")
    config: dict[str, Any] = Field(default_factory=dict, description="arguments of the architecture's Config")
    bands: tuple[Band, ...] = Field(min_length=1, description="of one step, in order")
    level: Level | None = Field(default=None, description="of processing, of what it was trained on")
    gsd: float = Field(gt=0, description="metres")
    steps: int = Field(ge=1, description="of a series at most")
    width: int = Field(ge=1, description="numbers of an embedding")
    stride: int = Field(
        default=1,
        ge=1,
        exclude_if=lambda stride: stride == 1,
        description="pixels of a side of the windows that it sees, each as a whole",
    )
    profile: BandProfile | None = Field(default=None, description="how its bands stand to each other; None: not known")

    @model_validator(mode="after")
    def _profile_of_the_bands(self) -> Self:
        if self.profile is not None and len(self.profile.center) != len(self.bands):
            raise ValueError(f"profile: of {len(self.profile.center)} bands; the card has {len(self.bands)}")
        return self

    def map_card(self, steps: int) -> MapCard:
        """The card of a map of embeddings of a series of so many steps.

        Chips are cut between the windows that the encoder sees, so no halo is needed. Raises InputError for more steps
        than it has places for.
        """
        if not 1 <= steps <= self.steps:
            raise InputError(f"datetime: {steps} steps given; {self.name} takes 1 to {self.steps}")
        shared = {"name", "version", "description", "license", "bbox", "weights", "sha256", "parameters", "training"}
        return MapCard(
            **{name: getattr(self, name) for name in shared},
            **{name: getattr(self, name) for name in ("architecture", "config", "bands", "gsd", "level", "profile")},
            task=EMBEDDING,
            dates=steps,
            chip_size=SIDE,
            stride=self.stride,
            radius=0,
            classes=(),
            channels=self.width,
            float32=True,
        )

    def row(self) -> tuple[str, str, str, str]:
        return self.task, " ".join(b.name for b in self.bands), f"{self.gsd:g} m", f"{self.width} numbers"

    def to_mlm(self) -> dict[str, object]:
        names = [b.name for b in self.bands]
        section = self.model_dump(mode="json", exclude={"task", "bbox"}) | {"coverage": list(self.bbox)}
        return {
            "gsd": self.gsd,
            "bands": [{"name": b.name} | ({"unit": b.unit} if b.unit else {}) for b in self.bands],
            "mlm:architecture": self.architecture,
            "mlm:tasks": ["similarity-search"],
            "mlm:hyperparameters": self.config,
            "mlm:input": [
                {
                    "name": "series",
                    "bands": names,
                    "input": {
                        "shape": [-1, -1, len(names), SIDE, SIDE],
                        "dim_order": ["batch", "time", "bands", "height", "width"],
                        "data_type": "float32",
                    },
                    "value_scaling": [{"type": "z-score", "mean": b.mean, "stddev": b.std} for b in self.bands],
                    "resize_type": None,
                    "pre_processing_function": None,
                }
            ],
            "mlm:output": [
                {
                    "name": "embedding",
                    "tasks": ["similarity-search"],
                    "bands": [],
                    "result": {
                        "shape": [-1, self.width, SIDE, SIDE],
                        "dim_order": ["batch", "embedding", "height", "width"],
                        "data_type": "float32",
                    },
                    "post_processing_function": None,
                }
            ],
            f"geoml:{SECTION}": section,
        }

    @classmethod
    def from_mlm(cls, properties: Mapping[str, Any], weights: Mapping[str, Any]) -> dict[str, Any]:
        return {"bbox" if name == "coverage" else name: value for name, value in properties[f"geoml:{SECTION}"].items()}


CARD = EncoderCard
