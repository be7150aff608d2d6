"""Times of calendars against cftime, which is another program."""

from __future__ import annotations

import cftime
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geoml.errors import DataError
from geoml.io.cubes.calendars import DAY, calendar_of, iso, month_of, month_start, named, tick_of, ticks

CALENDARS = ("standard", "360_day", "noleap", "all_leap")
UNITS = (
    "days since 1950-01-01",
    "hours since 1970-01-01 00:00:00",
    "minutes since 2000-02-28T06:30",
    "seconds since 1999-12-30 23:00:00Z",
)


@given(st.sampled_from(CALENDARS), st.sampled_from(UNITS), st.integers(0, 60_000))
def test_dates_are_those_of_cftime(calendar: str, units: str, number: int) -> None:
    known = calendar_of(calendar)
    made = int(ticks(np.array([number]), units, known)[0])
    truth = cftime.num2date(number, units.replace("Z", ""), calendar)
    assert iso(made, known) == truth.strftime("%Y-%m-%dT%H:%M:%S")
    date = named(made, known)
    assert tick_of(date.year, date.month, date.day, date.second, known) == made


@given(st.sampled_from(CALENDARS), st.integers(-(10**10), 10**10))
def test_a_tick_lies_in_its_month(calendar: str, tick: int) -> None:
    known = calendar_of(calendar)
    month, share = month_of(tick, known)
    assert month_start(month, known) <= tick < month_start(month + 1, known)
    assert 0 <= share < 1


def test_the_thirtieth_of_february_is_kept() -> None:
    day = int(ticks(np.array([59]), "days since 2095-01-01", "360_day")[0])
    assert iso(day, "360_day") == "2095-02-30T00:00:00"
    assert iso(day + DAY, "360_day") == "2095-03-01T00:00:00"
    with pytest.raises(DataError, match="2095-02-30 is not a date of the calendar noleap"):
        tick_of(2095, 2, 30, 0, "noleap")


def test_a_zone_counts_and_a_fraction_of_an_hour_too() -> None:
    made = ticks(np.array([1.5]), "hours since 2024-01-01 02:00:00 +02:00", "standard")
    assert iso(int(made[0]), "standard") == "2024-01-01T01:30:00"


@pytest.mark.parametrize(
    ("units", "values", "why"),
    [
        ("months since 2000-01-01", [1], "one length"),
        ("fortnights since 2000-01-01", [1], "one length"),
        ("hours", [1], "since a date"),
        ("days since 2000-02-31", [1], "not a date"),
        ("days since 2000-01-01", [np.nan, 1.0], "1 times are not numbers"),
        ("days since 2000-01-01", [1e300], "expected years"),
        ("days since 1500-01-01", [1], "1582"),
    ],
)
def test_units_that_say_no_time_are_refused(units: str, values: list[float], why: str) -> None:
    with pytest.raises(DataError, match=why):
        ticks(np.array(values), units, "standard")


def test_a_calendar_that_is_not_read_is_refused_by_name() -> None:
    with pytest.raises(DataError, match="'julian'"):
        calendar_of("julian")
    assert calendar_of("365_day") == "noleap"
