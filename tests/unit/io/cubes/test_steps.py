"""Steps, periods, and frames that do not keep their distance."""

from __future__ import annotations

import cftime
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geoml.errors import DataError
from geoml.io.cubes.calendars import iso, ticks
from geoml.io.cubes.steps import check_axis, check_spacing, period
from geoml.io.tables.durations import StepDuration

MINUTE = 60


def spaced(*minutes: float, step: str = "PT5M") -> None:
    times = [round(m * MINUTE) for m in minutes]
    check_spacing(times, [f"frame {k}" for k in range(len(times))], StepDuration.parse(step), "standard")


def test_frames_may_be_missing_and_a_little_late() -> None:
    spaced(0, 5, 10, 25, 30)
    spaced(0, 5, 11, 15, 20)
    spaced(0, 5, 10, 17, 20)  # 15 is the only place that is free


@pytest.mark.parametrize(
    ("minutes", "why"),
    [
        ((0, 5, 5, 10), "2 frames of 1970-01-01T00:05:00: frame 1 and frame 2"),
        ((0, 5, 10, 18), "frame 3: .* out of step"),
        ((0, 5, 10, 12.5), "frame 3: .* out of step"),
        ((0, 5, 6, 10, 15), "frame 1|frame 2"),
        ((0, 5, 10, 18, 30), "frame 3: .* out of step"),
    ],
)
def test_two_of_one_time_and_out_of_step_are_refused(minutes: tuple[float, ...], why: str) -> None:
    with pytest.raises(DataError, match=why):
        spaced(*minutes)


@given(st.sets(st.integers(0, 500), min_size=1, max_size=30), st.integers(-(10**6), 10**6))
def test_any_frames_on_a_lattice_are_in_step(places: set[int], origin: int) -> None:
    spaced(*(origin + 5 * p for p in sorted(places)))


def test_months_are_as_long_as_they_are() -> None:
    middles = ticks(np.array([318096.0, 318828, 319560, 320292]), "hours since 1970-01-01 00:00:00", "standard")
    step = StepDuration.parse("P1M")
    check_spacing([int(t) for t in middles], list("abcd"), step, "standard")
    periods = [tuple(iso(t, "standard")[:10] for t in period(int(m), "middle", step, "standard")) for m in middles]
    assert periods[:2] == [("2006-04-01", "2006-05-01"), ("2006-05-01", "2006-06-01")]


def test_a_year_of_360_days_begins_in_december() -> None:
    hours = "hours since 1970-01-01"
    june = cftime.date2num(cftime.Datetime360Day(1860, 6, 1), hours, "360_day")
    june = int(ticks(np.array([june]), hours, "360_day")[0])
    start, end = period(june, "middle", StepDuration.parse("P1Y"), "360_day")
    assert (iso(start, "360_day")[:10], iso(end, "360_day")[:10]) == ("1859-12-01", "1860-12-01")


def test_periods_by_label() -> None:
    step = StepDuration.parse("PT5M")
    assert period(3600, "instant", step, "standard") == (3600, 3600)
    assert period(3600, "end", step, "standard") == (3300, 3600)
    assert period(3600, "start", step, "standard") == (3600, 3900)
    assert period(3600, "middle", step, "standard") == (3450, 3750)


@pytest.mark.parametrize(
    ("hours", "why"),
    [
        ([0, 1, 2, 2], "2 of 4|appears twice .1 of 4"),
        ([0, 2, 1, 3], "out of order at 1970-01-01T01:00:00 .1 of 4"),
        ([0, 1, 2, 90], "88.0 steps from 1970-01-01T02:00:00 .*appended in another unit"),
    ],
)
def test_axes_that_do_not_rise_or_leap_are_refused(hours: list[int], why: str) -> None:
    with pytest.raises(DataError, match=why):
        check_axis(np.array(hours) * 3600, "file: time", StepDuration.parse("PT1H"), "standard", None)


def test_a_long_gap_is_allowed_by_name() -> None:
    check_axis(np.array([0, 1, 2, 90]) * 3600, "file: time", StepDuration.parse("PT1H"), "standard", 100)
