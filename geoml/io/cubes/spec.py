"""The definition of a cube in YAML: what its numbers, times and places mean. docs/cubes.md describes the format."""

from __future__ import annotations

import datetime as dt
import math
import re
from pathlib import Path
from typing import Literal, Self

from pydantic import ConfigDict, Field, field_validator, model_validator

from geoml.errors import unknown
from geoml.io.cubes.calendars import Calendar
from geoml.io.cubes.steps import Label
from geoml.io.tables.durations import DAY, StepDuration
from geoml.io.unit_names import Unit
from geoml.io.units import mismatch
from geoml.recipe import Frozen, load_yaml, parse
from geoml.settings import catalog_file, catalog_files

Driver = Literal["netCDF", "HDF5", "GRIB", "GeoTIFF", "Zarr", "EOPatch"]
Corner = tuple[float | str, float | str]

SOURCES: dict[str, tuple[str, ...]] = {
    "netCDF": ("axis",),
    "Zarr": ("axis",),
    "EOPatch": ("axis",),
    "GRIB": ("message",),
    "HDF5": ("name", "attribute"),
    "GeoTIFF": ("name", "attribute", "item"),
}
"""Where the time of a frame can come from, by driver; the first is the default."""


LONGEST_STEP = 12_000
"""Months."""


class TimeSpec(Frozen):
    """When a frame was. Times without a zone are UTC."""

    source: Literal["axis", "message", "name", "attribute", "item"] | None = Field(
        default=None,
        description="where the time is: axis, a dimension of the file; message, of GRIB; name, the file name; an"
        " attribute or a STAC item; by default axis for netCDF, Zarr and EOPatch, message for GRIB,"
        " else name",
    )
    pattern: str = Field(default="", description="strptime pattern for the whole file name or the attribute")
    attribute: str = Field(default="", description="its name in GDAL, with groups joined by _")
    label: Label = Field(
        default="instant",
        description="whether a time is the start, end or middle of its period; instant: there is no period",
    )
    calendar: Calendar = Field(default="standard", description="calendar of the axis; the file must say the same")
    forecast: bool = Field(default=False, description="GRIB: fields are forecasts of one reference time")
    longest_gap: int | None = Field(
        default=None,
        ge=1,
        description="steps; a longer gap in a file's axis is an error; by default the length of the axis",
    )

    @field_validator("pattern")
    @classmethod
    def _is_pattern(cls, value: str) -> str:
        try:
            dt.datetime.strptime("", value)
        except re.error as err:
            raise ValueError(f"{value!r} names a part twice ({err})") from err
        except ValueError as err:
            if "does not match" not in str(err):
                raise
        return value


class Position(Frozen):
    """Where the pixels lie, as far as the file does not say it; a text instead of a number names an attribute."""

    crs: str | None = Field(default=None, description="code, WKT or PROJ string, or the attribute that holds it")
    pixel: Corner | None = Field(default=None, description="width and height; a negative height is north up")
    offset: Corner | None = Field(default=None, description="columns and rows from the origin of the CRS to the corner")
    origin: Corner | None = Field(default=None, description="x and y of the first row's and column's outer corner")
    unit: Literal["m", "km", "degree"] = Field(
        default="m", description="unit of all these, and of the CRS if it is in km"
    )
    corners: str | None = Field(
        default=None,
        description="attribute with longitude and latitude of the lower left, upper left, upper right and lower"
        " right corner, which are then checked",
    )
    extent: tuple[float, float, float, float] | None = Field(
        default=None, description="west, south, east, north that the grid must have, in units of the CRS"
    )

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if self.pixel is None and (self.offset or self.origin):
            raise ValueError("pixel: expected with offset and origin")
        if self.pixel is not None and (self.offset is None) == (self.origin is None):
            raise ValueError("offset, origin: give exactly one of them with pixel")
        return self


class CubeSpec(Frozen):
    """A file ``catalogs/cubes/NAME.yaml``: physical value = number * ``scale`` + ``offset`` in ``file_unit``."""

    model_config = ConfigDict(allow_inf_nan=False)

    title: str = Field(default="", description="title for readers")
    licence: str = Field(default="other", description="SPDX identifier, for the written catalog")
    driver: Driver
    files: str = Field(default="*", description="glob pattern of the file names in a given folder")
    variable: str | None = Field(
        default=None,
        description="netCDF, Zarr: variable; HDF5: path of the data set; GRIB: element; GeoTIFF: asset of items;"
        " EOPatch: feature, such as data/NDVI",
    )
    mask: str | None = Field(default=None, description="EOPatch: a feature that is not 0 where there are clouds")
    level: str | None = Field(default=None, description="GRIB: short name of the level, such as 0-SFC")
    at: dict[str, float] = Field(
        default_factory=dict, description="netCDF, Zarr: value to select in each further dimension"
    )
    band: int = Field(default=1, ge=1, description="GeoTIFF: band of the file; EOPatch: of the feature")
    name: str = Field(
        min_length=1, pattern=r"^[A-Za-z0-9_]+$", description="name of the variable; its CF name if it has one"
    )
    file_unit: Unit = Field(description="unit in the file; what the file itself states must mean the same")
    unit: Unit = Field(description="unit wanted")
    conversion: Literal["none", "dbz", "rate"] = Field(
        default="none", description="dbz: reflectivity to mm/h; rate: amount per step to amount per hour"
    )
    accumulated: bool = Field(
        default=False, description="GRIB: sums since the reference time, which become sums per step"
    )
    scale: float | None = Field(default=None, description="None: as the file states, or 1")
    offset: float | None = Field(default=None, description="None: as the file states, or 0")
    missing: tuple[float, ...] = Field(default=(), description="values in the file that mean no data")
    undetected: float | None = Field(
        default=None, description="value in the file that means observed, but nothing there"
    )
    undetected_value: float = Field(default=0.0, description="what that means in the wanted unit")
    plausible: tuple[float, float] = Field(
        description="range of values in the wanted unit; values outside are an error"
    )
    step: str = Field(description="ISO 8601 duration: PT5M, PT1H, P1D, P1M, P1Y")
    time: TimeSpec = TimeSpec()
    position: Position = Position()

    @field_validator("step")
    @classmethod
    def _duration(cls, value: str) -> str:
        step = StepDuration.parse(value, "step")
        if step.months > LONGEST_STEP or step.seconds > LONGEST_STEP * 31 * DAY:
            raise ValueError(f"{value}; expected at most a thousand years")
        return value

    @field_validator("files")
    @classmethod
    def _below(cls, value: str) -> str:
        if value.startswith("/") or ".." in value.split("/") or not value:
            raise ValueError(f"{value!r}; expected a glob of names in the folder, such as *.tif")
        return value

    @model_validator(mode="after")
    def _fits(self) -> Self:
        low, high = self.plausible
        if not low < high:
            raise ValueError(f"plausible: {low:g}, {high:g}; expected the lower one first")
        if (allowed := SOURCES[self.driver]) and self.source not in allowed:
            raise ValueError(f"time.source: {self.source}; expected {' or '.join(allowed)} for {self.driver}")
        if self.source in ("name", "attribute") and "%" not in self.time.pattern:
            raise ValueError("time.pattern: expected one of strptime, such as %Y%m%d%H%M.tif")
        if self.source == "attribute" and not self.time.attribute:
            raise ValueError("time.attribute: expected the name of the one that holds the time")
        if self.time.calendar != "standard" and self.source != "axis":
            raise ValueError("time.calendar: expected with an axis only")
        if self.variable is None and self.driver != "GeoTIFF":
            raise ValueError(f"variable: expected a name for {self.driver}")
        if self.mask is not None and self.driver != "EOPatch":
            raise ValueError("mask: expected for EOPatch only; masks of other files are read as they are")
        if (self.accumulated or self.time.forecast) and self.driver != "GRIB":
            raise ValueError("accumulated, time.forecast: expected for GRIB only")
        if self.accumulated and not (self.time.forecast and self.time.label == "end"):
            raise ValueError("accumulated: expected with time.forecast and time.label end")
        if self.file_unit is None or self.unit is None:
            raise ValueError("file_unit, unit: expected both")
        return self._converts(self.file_unit, self.unit)

    def _converts(self, have: str, want: str) -> Self:
        if self.conversion == "none" and (why := mismatch(self.name, {have}, want)):
            raise ValueError(f"unit: {why}")
        if self.conversion != "none" and want != "mm/h":
            raise ValueError(f"unit: {want}; conversion {self.conversion} gives mm/h")
        if self.conversion == "dbz" and have != "dBZ":
            raise ValueError(f"file_unit: {have}; conversion dbz expects dBZ")
        if self.conversion == "rate" and (mismatch(self.name, {have}, "mm") or not self.duration.seconds):
            raise ValueError("conversion: rate makes mm, kg m-2 or m of a step of hours, minutes or days mm/h")
        return self

    @property
    def source(self) -> str:
        """Where the times come from."""
        return self.time.source or SOURCES[self.driver][0]

    @property
    def duration(self) -> StepDuration:
        """From one frame to the next."""
        return StepDuration.parse(self.step)

    @property
    def hours(self) -> float:
        """Of a step; NaN for months."""
        return self.duration.seconds / 3600 if self.duration.seconds else math.nan


def cube_names() -> list[str]:
    """Names of the files in ``catalogs/cubes``, sorted."""
    return [p.stem for p in catalog_files("cubes/*.yaml").values()]


def load_cube_spec(text: str | Path, field: str = "cube") -> CubeSpec:
    """The spec that ``text`` names: one of `cube_names`, or a YAML file. Raises InputError, naming the field where it
    stood, for anything else."""
    if str(text) in cube_names():
        path = catalog_file(f"cubes/{text}.yaml")
    elif Path(text).suffix in (".yaml", ".yml"):
        path = Path(text)
    else:
        raise unknown(field, str(text), cube_names())
    return parse(CubeSpec, load_yaml(path), str(path))
