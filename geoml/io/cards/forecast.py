"""What ``made`` of a card says of a forecast on a grid: steps, leads, quantiles, and what was measured for a run."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import Field, PlainSerializer, TypeAdapter, ValidationError, model_validator

from geoml.errors import InputError
from geoml.recipe import Frozen

_PERIOD: TypeAdapter[dt.timedelta] = TypeAdapter(dt.timedelta)

Period = Annotated[
    dt.timedelta, Field(gt=dt.timedelta(0)), PlainSerializer(lambda v: _PERIOD.dump_python(v, mode="json"))
]
"""A duration of ISO 8601 in days, hours, minutes and seconds, such as PT15M."""


def spelled(period: dt.timedelta) -> str:
    """As ISO 8601: PT15M."""
    return str(_PERIOD.dump_python(period, mode="json"))


def period(text: str) -> dt.timedelta:
    """Of ISO 8601 in days, hours, minutes and seconds. Raises InputError for others."""
    try:
        found = _PERIOD.validate_python(text)
    except ValidationError:
        found = dt.timedelta(0)
    if found <= dt.timedelta(0):
        raise InputError(f"leads: {text!r}; expected an ISO 8601 duration such as PT15M or P1D")
    return found


class MotionTerms(Frozen):
    """A `geoml.cube.motion.MotionField`, rounded; ``velocity`` is of rows of nodes, in pixels of y and of x."""

    velocity: tuple[tuple[tuple[float, ...], ...], tuple[tuple[float, ...], ...]]
    y0: int
    x0: int
    every: int


class BackgroundTerms(Frozen):
    """The climatology that is a file of the package: weights of `geoml.cube.harmonics` as bands, on the training grid,
    of values as the model sees them."""

    file: str = Field(pattern=r"^[A-Za-z0-9_-]+\.tif$")
    sha256: str
    annual: int = Field(default=0, ge=0, le=8, description="harmonics of the year")
    diurnal: int = Field(default=0, ge=0, le=8, description="harmonics of the day")

    @property
    def features(self) -> int:
        return 1 + 2 * self.annual + 2 * self.diurnal


class ForecastTerms(Frozen):
    """The contract of a forecast. Quantiles are none where a single value is said."""

    variable: str
    standard_name: str | None = Field(default=None, description="CF standard name")
    unit: str | None = None
    step: Period
    history: int = Field(ge=1, description="steps that are read, the last one at the reference time")
    leads: tuple[Period, ...] = Field(min_length=1)
    accumulated: bool = Field(default=False, description="a step is a sum or mean over the time before it")
    quantiles: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = ()
    offsets: tuple[tuple[float, ...], ...] = Field(
        default=(), description="of each lead, what calibration adds to its quantiles, in the unit as the model sees it"
    )
    transform: Literal["none", "log"] = Field(
        default="none", description="log: the model sees log2(1 + value / faint), for what is skewed, such as rain"
    )
    faint: float = Field(default=0.1, gt=0, description="what hardly counts, in the unit: for log, and for motion")
    floor: float | None = Field(default=None, description="the least that there can be, such as 0 for rain")
    advected: bool = Field(default=False, description="the model sees the last step as it moves on")
    latest: bool = Field(
        default=False, description="the model sees the last known value of each pixel and its age, not every step"
    )
    background: BackgroundTerms | None = Field(default=None, description="the model sees a climatology")
    dtype: Literal["int16", "float32"] = "int16"
    resolution: float = Field(default=0.01, gt=0, description="of int16, in the unit")
    asked: tuple[Period, ...] = Field(default=(), description="leads that a run writes; all of them where empty")
    fitted: MotionTerms | None = Field(default=None, description="the motion of a run")

    @model_validator(mode="after")
    def _whole_steps(self) -> Self:
        if self.latest and self.advected:
            raise ValueError("latest: what was last known of each pixel does not move; expected no advection")
        if any(b <= a for a, b in pairwise(self.leads)):
            raise ValueError("leads: expected each longer than the one before")
        if odd := [spelled(v) for v in self.leads if v % self.step]:
            raise ValueError(f"leads: {odd[0]} is not a multiple of the step {spelled(self.step)}")
        if list(self.quantiles) != sorted(set(self.quantiles)):
            raise ValueError("quantiles: expected each larger than the one before")
        if self.offsets and {len(v) for v in self.offsets} != {len(self.quantiles)}:
            raise ValueError("offsets: expected one for each quantile of each lead")
        return self

    @property
    def written(self) -> tuple[dt.timedelta, ...]:
        """Leads that a run writes."""
        return self.asked or self.leads

    @property
    def numbers(self) -> tuple[int, ...]:
        """Of each lead, how many steps it lies ahead."""
        return tuple(v // self.step for v in self.leads)

    @property
    def values(self) -> int:
        """What is said of each lead: quantiles, or one value."""
        return len(self.quantiles) or 1

    @property
    def channels(self) -> int:
        """Steps that the model sees, the age, climatology and leads of what has moved on: ``dates`` of the card."""
        leads, usual = len(self.leads), self.background is not None
        return self.seen + self.latest + (self.seen + leads) * usual + leads * self.advected

    @property
    def seen(self) -> int:
        """Steps of the history that the model sees: all that are read, or the last known one."""
        return 1 if self.latest else self.history

    @property
    def raw(self) -> int:
        """Channels of the answer: what is said of each lead, and the age of what was last known."""
        return len(self.leads) * self.values + self.latest

    def asking(self, leads: Sequence[dt.timedelta]) -> ForecastTerms:
        """The same for a run that writes these leads. Raises InputError for one that the model does not have."""
        if missing := [spelled(v) for v in leads if v not in self.leads]:
            has = ", ".join(map(spelled, self.leads))
            raise InputError(f"leads: {missing[0]} is not among those of the model: {has}")
        return self.model_copy(update={"asked": tuple(v for v in self.leads if v in leads) if leads else ()})
