"""Recipes of forecasts: of what, from how much, how far ahead, and which times train, choose and test."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BeforeValidator, ConfigDict, Field, JsonValue, model_validator

from geoml.errors import InputError
from geoml.fields import Spelled
from geoml.io.tables.durations import StepDuration
from geoml.io.tables.table_source import TableSource
from geoml.nn.forecast.levels import LEVELS, check_levels
from geoml.recipe import Frozen, Place, RegionPlace, digest, separated
from geoml.registry import Registry

if TYPE_CHECKING:
    import pandas as pd

Feature = Literal["hour", "day_of_year"]


def _ranges(value: object) -> object:
    return (value,) if isinstance(value, str | int) else value


def _text(value: object) -> object:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Ranges = Annotated[
    tuple[Annotated[str, BeforeValidator(_text)], ...],
    BeforeValidator(_ranges),
    Field(description="as 2013-03-01/2014"),
]


class TimeSplit(Frozen):
    """Which reference times, with the leads after them, train, choose and calibrate (``val``), and test."""

    kind: Literal["time"] = "time"
    train: Ranges = Field(
        min_length=1, description="one interval or several, such as 2013-03/2014-10; both ends included"
    )
    val: Ranges = Field(default=(), description="chooses the weights and calibrates; required for models that learn")
    test: Ranges = Field(min_length=1)
    refit: bool = Field(
        default=False,
        description="forecast each test time with a model fitted on everything known by then and calibrated on"
        " the errors of the times before; the package is fitted on everything",
    )

    @model_validator(mode="before")
    @classmethod
    def _by_time(cls, value: object) -> object:
        if isinstance(value, Mapping) and value.get("kind", "time") != "time":
            raise ValueError(
                f"kind: {value['kind']}; expected time: neighbouring times are so alike that another split shows skill"
                " that there is not"
            )
        return value

    @model_validator(mode="after")
    def _intervals(self) -> Self:
        for name in ("train", "val", "test"):
            for text in getattr(self, name):
                _ = interval(text, name)
        return self

    def of(self, part: str) -> list[tuple[pd.Timestamp, pd.Timestamp]]:
        """First and last instant of each interval."""
        return [interval(text, part) for text in getattr(self, part)]


def interval(text: str, field: str) -> tuple[pd.Timestamp, pd.Timestamp]:
    """First and last instant (UTC) of ``a/b`` or ``a``; of a year, month or day its whole. Raises ValueError."""
    import pandas as pd  # which a recipe that is only described does without

    first, _, last = text.partition("/")
    try:
        ends = pd.Period(first.strip()), pd.Period((last or first).strip())
        start, end = ends[0].start_time.tz_localize("UTC"), ends[1].end_time.tz_localize("UTC").floor("s")
    except (ValueError, TypeError) as err:
        raise ValueError(f"{field}: {text!r}; expected an interval such as 2013-03-01/2014-10-31") from err
    if end < start:
        raise ValueError(f"{field}: {text!r} ends before it begins")
    return start, end


class CubeSource(Frozen):
    """Steps of a grid."""

    kind: Literal["cube"]
    path: Place = Field(description="file or folder of the steps")
    cube: Place = Field(description="describes its values: a name in catalogs/cubes, or a YAML file")
    factor: int = Field(default=1, ge=1, description="average squares of this many pixels a side into one pixel")
    transform: Literal["none", "log"] = Field(
        default="none", description="log: the model sees log2(1 + value / faint), for skewed quantities such as rain"
    )
    faint: float = Field(
        default=0.1, gt=0, description="value, in the unit, that hardly counts: for log, and for motion"
    )
    floor: float | None = Field(default=None, description="smallest possible value, such as 0 for rain")
    thresholds: tuple[float, ...] = Field(default=(), description="in the unit, for event scores")
    latest: bool = Field(
        default=False,
        description="the model sees each pixel's last known value in the history and its age, for pixels seen"
        " only on cloud-free days; the split is then by forecast times, so it needs no gap",
    )
    distances: tuple[str, ...] = Field(
        default=(),
        description="ISO 8601, rising: with latest, times since the last known value by which scores are grouped",
    )
    annual: int | None = Field(
        default=None, ge=0, le=8, description="harmonics of the year in the climatology; by default 2 from 548 days on"
    )
    least: int = Field(
        default=1, ge=1, description="known values in the training period that a pixel needs to have a climatology"
    )

    @model_validator(mode="after")
    def _of_latest(self) -> Self:
        if self.distances and not self.latest:
            raise ValueError("distances: expected with latest only")
        return self


class ForecastRecipe(Frozen):
    """One training of a forecast."""

    model_config = ConfigDict(allow_inf_nan=False)

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="name of the package")
    description: str = Field(default="", description="stored in the card")
    license: str = Field(default="Apache-2.0", description="stored in the card")
    task: Literal["forecast"] = "forecast"
    source: Annotated[TableSource | CubeSource, Field(discriminator="kind")]
    architecture: str = Field(description="file name in geoml/models, such as graph, ridge, damped")
    config: dict[str, JsonValue] = Field(
        default_factory=dict, description="its options; leads and the like are filled in"
    )
    history: int = Field(ge=1, description="number of steps that the model sees")
    leads: tuple[str, ...] = Field(min_length=1, description="ISO 8601 durations, rising")
    split: TimeSplit
    levels: tuple[float, ...] = Field(default=LEVELS, description="quantile levels, with 0.5 and symmetric about it")
    background: bool = Field(default=True, description="give the model a climatology of the training times")
    guess: Literal["none", "ridge", "advection"] = Field(
        default="none",
        description="what a learnt model starts from; advection: for a cube, the last step extrapolated by its motion",
    )
    futures: tuple[Feature, ...] = Field(
        default=(), description="known for each lead: hour of the day, day of the year"
    )
    fill: int = Field(
        default=3,
        ge=0,
        description="maximum number of steps for which a missing input repeats the value before; its mask still"
        " marks it as missing",
    )
    rolling: str | None = Field(
        default=None,
        description="ISO 8601: the period before each reference time that calibrates it, if the table covers it;"
        " else val does",
    )
    every: int = Field(default=1, ge=1, description="steps between the reference times that choose and test")
    train_every: int = Field(default=1, ge=1, description="steps between the reference times that train")
    epochs: int = Field(default=20, ge=1)
    batch: int = Field(default=64, ge=1, description="reference times per step, or chips of a cube")
    chip_size: int = Field(default=128, ge=16, description="for a cube: side of a chip in pixels")
    samples: int = Field(default=256, ge=1, description="for a cube: chips per epoch")
    lr: float = Field(default=1e-3, gt=0, description="maximum learning rate")
    weight_decay: float = Field(default=1e-3, ge=0)
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        try:
            check_levels(self.levels)
            if isinstance(self.source, TableSource):
                longest = self.steps[-1]
                if not self.split.refit:
                    check_gaps(self.split, self.source.duration, self.history + longest)
        except InputError as err:
            raise ValueError(str(err)) from err
        return self

    @property
    def steps(self) -> tuple[int, ...]:
        """The leads as whole steps. Raises InputError for others."""
        if not isinstance(self.source, TableSource):
            raise InputError("source: kind cube; geoml forecasts tables so far")
        return lead_steps(self.leads, self.source.duration)

    @property
    def hash(self) -> str:
        """sha256 over the canonical JSON of what changes the weights."""
        return digest(self.model_dump(mode="json", exclude={"description", "license"}))

    def about(self) -> dict[str, Any]:
        """What a card keeps of it."""
        return {"recipe": self.model_dump(mode="json"), "recipe_hash": self.hash}


def _words(value: object) -> object:
    """Texts of one or several that may hold commas."""
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list | tuple):
        return value
    return tuple(word.strip() for text in texts for word in str(text).split(",") if word.strip())


OF_CUBES = ("reads", "bbox", "region")
OF_TABLES = ("places", "places_id", "id", "time", "variable", "unit", "zone", "label", "step", "history")
"""Options that say nothing with the other source; the size of blocks, which changes nothing, may be given with any."""

Words = Annotated[tuple[str, ...], BeforeValidator(_words)]


class ForecastFrom(Frozen):
    """A model and a table or a cube, at no reference time yet."""

    model: Place = Field(
        description="name, folder or URL of a package; or persistence, climatology, damped, ridge, which are"
        " fitted on the table itself up to the reference time; for a cube persistence or advection"
    )
    table: Place | None = Field(
        default=None,
        description="CSV or Parquet with one row per place and time; may continue after the reference time. Give"
        " this or a cube",
    )
    cube: Place | None = Field(
        default=None, description="file or folder of the steps of a grid; may continue after the reference time"
    )
    reads: Place | None = Field(
        default=None,
        description="for a cube: describes its values, a name in catalogs/cubes or a YAML file; by default as in"
        " training",
    )
    bbox: Annotated[tuple[float, float, float, float] | None, Spelled("W S E N"), BeforeValidator(separated)] = Field(
        default=None, description="for a cube: degrees; by default all of it"
    )
    region: RegionPlace | None = Field(
        default=None, description="for a cube: polygons in GeoJSON, GeoPackage or GeoParquet"
    )
    block_size: int = Field(
        default=2048,
        ge=64,
        le=65536,
        description="for a cube: side of a block in pixels; halved if many leads and quantiles would fill the"
        " memory; does not change the result",
    )
    places: Place | None = Field(
        default=None,
        description="CSV, GeoParquet, GeoPackage or GeoJSON of the places; by default those of the package, else"
        " lon and lat in the table",
    )
    leads: Words = Field(default=(), description="ISO 8601, such as PT1H,PT3H; by default all of the package")
    places_id: Words = Field(default=(), description="id column in the file of places; by default the one that fits")
    id: Words = Field(
        default=(), description="for a model without a package: column of the place; by default id, station or place"
    )
    time: Words = Field(
        default=(), description="for a model without a package: column of the time, or year,month,day,hour"
    )
    variable: str | None = Field(default=None, description="for a model without a package: column to forecast")
    unit: str = Field(default="", description="for a model without a package: unit of the variable")
    zone: str | None = Field(
        default=None, description="for a model without a package: time zone of times that state none"
    )
    label: Literal["start", "end"] = Field(
        default="end", description="for a model without a package: whether a time is the start or the end of its period"
    )
    step: str | None = Field(
        default=None, description="for a model without a package, which needs it: ISO 8601 duration of a step"
    )
    history: int | None = Field(
        default=None, ge=1, description="for a model without a package: number of steps that it sees"
    )

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.table is None) == (self.cube is None):
            raise ValueError("table, cube: give exactly one of them")
        if self.bbox is not None and self.region is not None:
            raise ValueError("bbox, region: give one of them")
        strange = OF_TABLES if self.table is None else OF_CUBES
        fields = type(self).model_fields
        if given := [n for n in strange if getattr(self, n) != fields[n].default]:
            source, other = ("cube", "table") if self.table is None else ("table", "cube")
            raise ValueError(f"{', '.join(given)}: of a {other}; expected no such option with a {source}")
        return self


class ForecastRunRecipe(ForecastFrom):
    """One run: a model, a table or a cube, and a reference time in; quantiles of each place or pixel and lead out."""

    reference_time: Annotated[str, BeforeValidator(_text)] = Field(
        description="RFC 3339, UTC unless it states a zone; no data after it are used"
    )


class CycleRecipe(ForecastFrom):
    """Forecasts again and again, at every reference time whose step is there: one is a cycle."""

    since: str | None = Field(
        default=None, description="first reference time, RFC 3339; by default the newest step at the first look"
    )
    until: str | None = Field(
        default=None, description="act as if it were this time, RFC 3339, for past events; by default now"
    )
    every: str | None = Field(default=None, description="ISO 8601, time between reference times; by default the step")
    reissue: str = Field(
        default="PT6H",
        description="ISO 8601: reference times within this period before the newest are checked again, for steps"
        " that arrived late or were corrected",
    )
    max_age: str | None = Field(
        default=None, description="ISO 8601: an error if the newest step is older; by default its age is only reported"
    )

    @model_validator(mode="after")
    def _periods(self) -> Self:
        try:
            for name in ("every", "reissue", "max_age", "step"):
                if (text := getattr(self, name)) is not None:
                    StepDuration.parse(text, name)
            for name in ("since", "until"):
                if (text := getattr(self, name)) is not None:
                    utc(text, name)
        except InputError as err:
            raise ValueError(str(err)) from err
        return self

    def at(self, reference: dt.datetime) -> ForecastRunRecipe:
        """The run of one reference time (UTC)."""
        from geoml.io.stac.times import rfc3339

        own = {n: getattr(self, n) for n in ForecastFrom.model_fields}
        return ForecastRunRecipe(**own, reference_time=rfc3339(reference))

    @property
    def same(self) -> dict[str, Any]:
        """What all cycles of a folder have in common, as plain JSON."""
        names = set(ForecastFrom.model_fields) - {"block_size"}
        return self.model_dump(mode="json", include=names | {"every"})


def utc(text: str, field: str) -> dt.datetime:
    """A time in UTC. Raises InputError that names the field for invalid text."""
    from geoml.io.stac.times import instant  # pystac, which a recipe that is only described does without

    try:
        return instant(text)
    except ValueError as err:
        raise InputError(f"{field}: {err}; expected RFC 3339 such as 2024-06-01T12:00:00Z") from err


def lead_steps(leads: Sequence[str], step: StepDuration) -> tuple[int, ...]:
    """Leads as whole steps. Raises InputError for others."""
    steps = tuple(StepDuration.parse(text, "leads").steps(step) for text in leads)
    if list(steps) != sorted(set(steps)):
        raise InputError(f"leads: {', '.join(leads)}; expected rising values")
    return steps


def check_trained(model: str, packages: Sequence[str], simple: Sequence[str]) -> None:
    """Raise InputError for an architecture that is not a package: it has to be trained first."""
    if model not in packages and not Path(model).exists() and model in Registry("geoml.models", "model").names():
        raise InputError(
            f"model: {model} has to be trained; expected a package of geoml train, or one of {', '.join(simple)}"
        )


def check_order(split: TimeSplit) -> None:
    """Raise InputError if a part begins before an earlier one of train, val and test has ended."""
    ends = [(a, b, part) for part in ("train", "val", "test") for a, b in sorted(split.of(part))]
    for (_, end, one), (start, _, other) in pairwise(ends):
        if start <= end:
            raise InputError(f"split: {other} begins at {start.isoformat()}, before {one} ends; expected it to follow")


def check_gaps(split: TimeSplit, step: StepDuration, least: int) -> None:
    """Raise InputError if two parts are nearer to each other than ``least`` steps: history and longest lead."""
    import pandas as pd

    gap = pd.DateOffset(months=step.months * least) if step.months else pd.Timedelta(seconds=step.seconds * least)
    every = sorted((*ends, part) for part in ("train", "val", "test") for ends in split.of(part))
    for (_, end, one), (start, _, other) in pairwise(every):
        if start < end:
            raise InputError(f"split: {one} and {other} overlap at {start.date()}")
        if one != other and start < end + gap:
            raise InputError(
                f"split: {one} ends at {end.isoformat()}, {other} begins at {start.isoformat()}; expected a gap of at"
                f" least {least} steps of {step}, which is history plus longest lead"
            )
