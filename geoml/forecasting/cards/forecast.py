"""The card of a forecast of tables: of what, where, from how many steps, how far ahead, and which times it is from.

All its fields travel in one property of the STAC item, ``geoml:forecast``; the others repeat in the words of MLM what
other software can use.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field, JsonValue, model_validator

from geoml.errors import InputError
from geoml.io.cards.card import ModelCard
from geoml.io.tables.durations import StepDuration
from geoml.io.tables.table_source import TableLayout
from geoml.recipe import Frozen

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

SECTION = "forecast"


class CardPlace(Frozen):
    """A place that the model knows."""

    id: str
    lon: float = Field(ge=-180, le=180)
    lat: float = Field(ge=-90, le=90)


class ForecastCard(ModelCard):
    """What a forecast expects and promises."""

    what: ClassVar[str] = "a forecast of tables"
    own: ClassVar[tuple[str, ...]] = (SECTION,)

    task: Literal["forecast"] = "forecast"
    architecture: str = Field(description="file name in geoml/models")
    config: dict[str, JsonValue] = Field(default_factory=dict, description="its own options")
    table: TableLayout = Field(description="how the table is read; the first variable is forecast")
    phase: int = Field(default=0, description="seconds that the steps are after multiples of the step")
    places: tuple[CardPlace, ...] = Field(min_length=1, description="in the order of the weights")
    history: int = Field(ge=1, description="steps")
    leads: tuple[str, ...] = Field(min_length=1, description="ISO 8601")
    levels: tuple[float, ...] = Field(min_length=1)
    background: bool = True
    guess: Literal["none", "ridge"] = "none"
    futures: tuple[Literal["hour", "day_of_year"], ...] = ()
    fill: int = Field(default=0, ge=0, description="steps for which a missing input is the value before")
    rolling: int = Field(
        default=0, ge=0, description="steps before a reference time whose errors calibrate it; 0: always as the package"
    )
    every: int = Field(default=1, ge=1, description="steps between the times whose errors these are")
    trained: tuple[str, str] | None = Field(default=None, description="first and last time that it was fitted on")
    times_sha256: str = Field(
        default="", description="of all times and values that climatology, scaling and weights are of"
    )
    calibration_sha256: str = Field(default="", description="the same of what the quantiles are calibrated on")

    @model_validator(mode="after")
    def _steps(self) -> Self:
        try:
            _ = self.steps
        except InputError as err:
            raise ValueError(str(err)) from err
        return self

    @property
    def steps(self) -> tuple[int, ...]:
        """The leads as whole steps."""
        return tuple(StepDuration.parse(text, "leads").steps(self.table.duration) for text in self.leads)

    @property
    def update(self) -> int:
        """Steps after which such a calibration is renewed: those of a day, else every one."""
        seconds = self.table.duration.seconds
        return max(1, 86_400 // seconds) if seconds else 1

    @property
    def seasons(self) -> int:
        """Of the year, each with a calibration of its own."""
        return 1 if self.table.duration.months >= 12 else 4

    def row(self) -> tuple[str, str, str, str]:
        names = " ".join(v.said for v in self.table.variables)
        return self.task, names, self.table.step, f"{len(self.places)} places, to {self.leads[-1]}"

    def footprint(self) -> BaseGeometry:
        from shapely.geometry import box

        return box(*self.bbox)  # of one station a point

    def to_mlm(self) -> dict[str, object]:
        names = [v.said for v in self.table.variables]
        target = self.table.variables[0]
        section = self.model_dump(mode="json", exclude={"task", "bbox"}) | {"coverage": list(self.bbox)}
        return {
            "bands": [{"name": v.said} | ({"unit": v.unit} if v.unit else {}) for v in self.table.variables],
            "mlm:architecture": self.architecture,
            "mlm:tasks": ["regression"],
            "mlm:hyperparameters": {**self.config, "history": self.history, "leads": list(self.leads)},
            "mlm:input": [
                {
                    "name": "history",
                    "bands": names,
                    "input": {
                        "shape": [-1, self.history, len(names), len(self.places)],
                        "dim_order": ["batch", "time", "bands", "place"],
                        "data_type": "float32",
                    },
                    "resize_type": None,
                    "pre_processing_function": None,
                }
            ],
            "mlm:output": [
                {
                    "name": target.said,
                    "tasks": ["regression"],
                    "bands": [],
                    "result": {
                        "shape": [-1, len(self.places), len(self.leads), len(self.levels)],
                        "dim_order": ["batch", "place", "lead", "quantile"],
                        "data_type": "float64",
                    },
                    "description": f"quantiles of {target.said} at each lead",
                    "post_processing_function": None,
                }
            ],
            f"geoml:{SECTION}": section,
        }

    @classmethod
    def from_mlm(cls, properties: Mapping[str, Any], weights: Mapping[str, Any]) -> dict[str, Any]:
        return {"bbox" if name == "coverage" else name: value for name, value in properties[f"geoml:{SECTION}"].items()}


CARD = ForecastCard
