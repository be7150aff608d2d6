"""Durations as ISO 8601 writes them, of the clock or of the calendar, and zones of times."""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass
from typing import Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from geoml.errors import InputError

_ISO = re.compile(r"P(?:(\d+)Y)?(?:(\d+)M)?(?:(\d+)W)?(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)S)?)?")
DAY = 86_400
"""Seconds."""


@dataclass(frozen=True)
class StepDuration:
    """Either ``months`` of the calendar or ``seconds``."""

    months: int = 0
    seconds: int = 0

    @classmethod
    def parse(cls, text: str, field: str = "duration") -> Self:
        """Raises InputError, naming the field, for what is not a duration above nothing, or mixes months and days."""
        found = _ISO.fullmatch(text) if isinstance(text, str) else None
        years, months, weeks, days, hours, minutes, seconds = (
            int(g or 0) for g in (found.groups() if found else [0] * 7)
        )
        out = cls(12 * years + months, ((weeks * 7 + days) * 24 + hours) * 3600 + minutes * 60 + seconds)
        if found is None or (out.months == 0) == (out.seconds == 0):
            raise InputError(f"{field}: {text!r}; expected an ISO 8601 duration such as PT1H, P1D, P1M or P1Y")
        return out

    def __str__(self) -> str:
        if self.months:
            years, months = divmod(self.months, 12)
            return "P" + (f"{years}Y" if years else "") + (f"{months}M" if months else "")
        days, rest = divmod(self.seconds, DAY)
        if not rest:
            return f"P{days}D"
        hours, rest = divmod(self.seconds, 3600)
        minutes, seconds = divmod(rest, 60)
        return "PT" + "".join(f"{n}{u}" for n, u in ((hours, "H"), (minutes, "M"), (seconds, "S")) if n)

    def steps(self, step: StepDuration, field: str = "leads") -> int:
        """How many steps this is. Raises InputError for no whole number of them."""
        mine, other = (self.months, step.months) if step.months else (self.seconds, step.seconds)
        if not mine or mine % other:
            raise InputError(f"{field}: {self}; expected a multiple of the step, which is {step}")
        return mine // other

    def before(self, time: dt.datetime) -> dt.datetime:
        """So much earlier; of months on the same day, or on the 28th where it is later."""
        if not self.months:
            return time - dt.timedelta(seconds=self.seconds)
        year, month = divmod(time.year * 12 + time.month - 1 - self.months, 12)
        return time.replace(year=year, month=month + 1, day=min(time.day, 28))


def zone_of(name: str) -> dt.tzinfo:
    """A zone by its name, as Asia/Shanghai, or its distance from UTC, as +08:00. Raises InputError."""
    if found := re.fullmatch(r"([+-])(\d\d):(\d\d)", name):
        sign, hours, minutes = found.groups()
        away = dt.timedelta(hours=int(hours), minutes=int(minutes))
        if away < dt.timedelta(hours=24):
            return dt.timezone(-away if sign == "-" else away)
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as err:
        raise InputError(f"zone: {name!r}; expected a name such as Europe/Berlin or UTC, or +08:00") from err
