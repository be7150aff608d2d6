"""The part of a recipe about a table of stations or polygons and the file of their places."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, ConfigDict, Field, model_validator

from geoml.errors import InputError
from geoml.io.tables.durations import StepDuration, zone_of
from geoml.recipe import Frozen, Place


def _several(value: object) -> object:
    return (value,) if isinstance(value, str) else value


Columns = Annotated[tuple[str, ...], BeforeValidator(_several), Field(min_length=1)]
"""One column, or several."""


class TableVariable(Frozen):
    """A column of numbers."""

    model_config = ConfigDict(allow_inf_nan=False)

    column: str
    name: str = Field(default="", description="name of the variable in the output; by default that of the column")
    unit: str = Field(default="", description="unit of the numbers, in UDUNITS or UCUM notation")
    cf_name: str | None = Field(default=None, description="CF standard name")
    missing: tuple[float, ...] = Field(default=(), description="numbers that mean missing, such as -999")
    floor: float | None = Field(default=None, description="lower bound of every forecast")
    ahead: bool = Field(
        default=False, description="known in advance, such as a weather forecast: its values at the leads are used"
    )
    transform: Literal["none", "log1p"] = Field(default="none", description="what the model sees; log1p is log(1 + v)")

    @property
    def said(self) -> str:
        return self.name or self.column


class PlaceFile(Frozen):
    """Where the places are: CSV, GeoParquet, GeoPackage or GeoJSON; of polygons the model sees a point inside."""

    path: Place
    id: Columns = Field(default=("id",), description="id column; several columns are joined by -")
    lon: str = Field(default="lon", description="column in degrees, for a table without geometries")
    lat: str = Field(default="lat", description="column in degrees, for a table without geometries")


class TableLayout(Frozen):
    """How to read a long table: a row is a place at a time."""

    id: Columns = Field(default=("id",), description="column of the place; several columns are joined by -")
    time: Columns = Field(
        default=("time",), description="column of RFC 3339 times, or year, month, day, hour, minute as far as needed"
    )
    zone: str | None = Field(
        default=None, description="time zone of times that state none: UTC, Asia/Shanghai, +08:00; required for these"
    )
    label: Literal["start", "end"] = Field(
        default="end",
        description="whether a time is the start or the end of the period that the value is the mean or sum of",
    )
    step: str = Field(description="ISO 8601 duration: PT1H, P1D, P1M, P1Y")
    variables: tuple[TableVariable, ...] = Field(min_length=1, description="the first is the one to forecast")

    @model_validator(mode="after")
    def _readable(self) -> Self:
        try:
            StepDuration.parse(self.step, "step")
            if self.zone is not None:
                zone_of(self.zone)
        except InputError as err:
            raise ValueError(str(err)) from err
        doubled = _twice(v.said for v in self.variables) | _twice(v.column for v in self.variables)
        if doubled:
            raise ValueError(f"variables: {sorted(doubled)} twice; expected each once")
        if self.variables[0].ahead:
            raise ValueError("variables: the first is forecast; expected ahead for others only")
        if any(v.transform == "log1p" and v.floor is not None and v.floor <= -1 for v in self.variables):
            raise ValueError("floor: log1p needs one above -1")
        return self

    @property
    def seen(self) -> tuple[TableVariable, ...]:
        """What the model sees of the past, the target first."""
        return tuple(v for v in self.variables if not v.ahead)

    @property
    def ahead(self) -> tuple[TableVariable, ...]:
        """What it sees of the leads."""
        return tuple(v for v in self.variables if v.ahead)

    @property
    def duration(self) -> StepDuration:
        return StepDuration.parse(self.step)


class TableSource(TableLayout):
    """A table and its places."""

    kind: Literal["table"] = "table"
    path: Place = Field(description="CSV or Parquet")
    places: PlaceFile | None = Field(default=None, description="by default the table itself has lon and lat")


def _twice(words: Iterable[str]) -> set[str]:
    seen: set[str] = set()
    return {w for w in words if w in seen or seen.add(w)}  # type: ignore[func-returns-value]
