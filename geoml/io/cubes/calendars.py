"""Times of cubes, of the calendar they are kept in: whole seconds since 1970-01-01 00:00 of that calendar.

Years of 360 days have a 30 February, years of climate models may have no leap day: such times have no place on the
calendar of everyday life, and are not given one. Definitions: CF conventions 1.11, section 4.4.1.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from geoml.errors import DataError

Calendar = Literal["standard", "360_day", "noleap", "all_leap"]

DAY = 86_400
"""Seconds."""

Ticks = NDArray[np.int64]

_SAME: dict[str, Calendar] = {
    "gregorian": "standard",
    "proleptic_gregorian": "standard",
    "365_day": "noleap",
    "366_day": "all_leap",
    "standard": "standard",
    "360_day": "360_day",
    "noleap": "noleap",
    "all_leap": "all_leap",
}
_LENGTHS = {
    "noleap": (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31),
    "all_leap": (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31),
    "360_day": (30,) * 12,
}
_SECONDS = {
    "second": 1,
    "sec": 1,
    "s": 1,
    "minute": 60,
    "min": 60,
    "hour": 3600,
    "hr": 3600,
    "h": 3600,
    "day": DAY,
    "d": DAY,
}
_SINCE = re.compile(
    r"\s*(?P<unit>[A-Za-z]+)\s+since\s+(?P<y>\d{1,4})-(?P<m>\d{1,2})-(?P<d>\d{1,2})"
    r"(?:[T ]+(?P<H>\d{1,2}):(?P<M>\d{1,2})(?::(?P<S>\d{1,2})(?:\.0*)?)?)?"
    r"\s*(?P<zone>Z|UTC|[+-]\d{1,2}:?(?:\d{2})?)?\s*"
)
_GREGORIAN = np.datetime64("1582-10-15", "s").astype(np.int64)


@dataclass(frozen=True, order=True)
class CalendarTime:
    """A time of a calendar that is not the one of everyday life; 2095-02-30 is one of 360 days."""

    year: int
    month: int
    day: int
    second: int
    """Of the day."""
    calendar: Calendar

    def __str__(self) -> str:
        minutes, seconds = divmod(self.second, 60)
        clock = f"{minutes // 60:02d}:{minutes % 60:02d}:{seconds:02d}"
        return f"{self.year:04d}-{self.month:02d}-{self.day:02d}T{clock}"


def calendar_of(name: str) -> Calendar:
    """The calendar with that CF name. Raises DataError for one that is not read."""
    if (found := _SAME.get(name.strip().lower())) is None:
        raise DataError(f"calendar {name!r}; expected one of {', '.join(sorted(_SAME))}")
    return found


def month_start(months: int, calendar: Calendar) -> int:
    """The tick of the first day of a month; ``months`` are counted from January 1970."""
    if calendar == "standard":
        return int(np.datetime64(months, "M").astype("datetime64[s]").astype(np.int64))
    year, month = divmod(months, 12)
    lengths = _LENGTHS[calendar]
    return (year * sum(lengths) + sum(lengths[:month])) * DAY


def month_of(tick: int, calendar: Calendar) -> tuple[int, float]:
    """The month of a tick, counted from January 1970, and what share of it has passed."""
    if calendar == "standard":
        month = int(np.datetime64(tick, "s").astype("datetime64[M]").astype(np.int64))
    else:
        lengths = _LENGTHS[calendar]
        year, day = divmod(tick // DAY, sum(lengths))
        month = year * 12 + int(np.searchsorted(np.cumsum(lengths), day, side="right"))
    start = month_start(month, calendar)
    return month, (tick - start) / (month_start(month + 1, calendar) - start)


def tick_of(year: int, month: int, day: int, second: int, calendar: Calendar) -> int:
    """The tick of a date. Raises DataError for one that the calendar does not have."""
    if 1 <= month <= 12 and day >= 1:
        months = (year - 1970) * 12 + month - 1
        tick = month_start(months, calendar) + (day - 1) * DAY
        if tick < month_start(months + 1, calendar) and 0 <= second < DAY:
            return tick + second
    raise DataError(f"{year:04d}-{month:02d}-{day:02d} is not a date of the calendar {calendar}")


def named(tick: int, calendar: Calendar) -> CalendarTime:
    """The date of a tick."""
    month, _ = month_of(tick, calendar)
    past = tick - month_start(month, calendar)
    return CalendarTime(1970 + month // 12, month % 12 + 1, past // DAY + 1, past % DAY, calendar)


def iso(tick: int, calendar: Calendar) -> str:
    """A tick as text without a zone; it is UTC where the calendar is the standard one."""
    return str(named(tick, calendar))


def ticks(values: NDArray[np.floating] | NDArray[np.integer], units: str, calendar: Calendar) -> Ticks:
    """Ticks of the numbers of a time axis with CF units such as ``hours since 1970-01-01 00:00``.

    Raises DataError for units that are none, for numbers that are not finite, and for times before the calendar of
    everyday life began, which CF counts by another.
    """
    if (found := _SINCE.fullmatch(units)) is None:
        raise DataError(f"units of time {units!r}; expected seconds, minutes, hours or days since a date")
    word = found["unit"].lower()
    length = _SECONDS.get(word) or _SECONDS.get(word.removesuffix("s"))
    if length is None:
        raise DataError(f"units of time {units!r}; expected seconds, minutes, hours or days, which are of one length")
    clock = sum(int(found[k] or 0) * n for k, n in (("H", 3600), ("M", 60), ("S", 1)))
    epoch = tick_of(int(found["y"]), int(found["m"]), int(found["d"]), clock, calendar) - _zone(found["zone"])
    if not np.isfinite(values).all():
        raise DataError(f"{int((~np.isfinite(values)).sum())} times are not numbers")
    seconds = np.asarray(values, np.longdouble) * length
    if np.abs(seconds).max(initial=0) > 1e15:
        raise DataError(f"times of {float(np.abs(seconds).max()):g} seconds from the epoch; expected years 1 to 9999")
    made = np.rint(seconds).astype(np.int64) + epoch
    if calendar == "standard" and made.size and made.min() < _GREGORIAN:
        raise DataError("times before 1582-10-15; CF counts them by the Julian calendar, which is not read")
    return made


def _zone(text: str | None) -> int:
    """Seconds east of Greenwich."""
    if text is None or text in ("Z", "UTC"):
        return 0
    digits = text[1:].replace(":", "")
    hours, minutes = (digits[:-2], digits[-2:]) if len(digits) > 2 else (digits, "0")
    return (-1 if text[0] == "-" else 1) * (int(hours) * 3600 + int(minutes) * 60)
