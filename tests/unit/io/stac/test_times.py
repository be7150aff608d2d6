"""Times of items in every spelling; the truth is the instant that was spelt."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pystac
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geoml.errors import DataError
from geoml.io.stac.times import instant, normalise_times, rfc3339, span, time_of, time_range

NOON = datetime(2024, 6, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    [
        "2024-06-01T12:00:00Z",
        "2024-06-01t12:00:00z",
        "2024-06-01 12:00:00Z",
        "2024-06-01 12:00:00",
        "2024-06-01T12:00:00",
        "2024-06-01T12:00:00+0000",
        "2024-06-01T12:00:00+00",
        "2024-06-01 06:00:00-06",
        "2024-06-01T12:00:00.000000000Z",
        "2024-06-01T12:00:00,0Z",
        "2024-06-01T12:00Z",
        "20240601T120000Z",
        " 2024-06-01T12:00:00Z ",
    ],
)
def test_spellings_of_noon(text: str) -> None:
    assert instant(text) == NOON
    properties: dict[str, Any] = {"datetime": text}
    notes = normalise_times(properties)
    assert datetime.fromisoformat(properties["datetime"]) == NOON
    assert properties["datetime"].endswith(("Z", "+00:00"))
    assert bool(notes) == (text in ("2024-06-01 12:00:00", "2024-06-01T12:00:00")), "no zone is said, and nothing else"


@given(
    moment=st.datetimes(datetime(1000, 1, 2), datetime(9999, 12, 30)),
    hours=st.integers(-23, 23),
    minutes=st.sampled_from([0, 30, 45]),
    blank=st.sampled_from("T t_"),
    colon=st.booleans(),
    digits=st.integers(0, 9),
)
def test_an_instant_is_the_same_in_every_spelling(
    moment: datetime, hours: int, minutes: int, blank: str, colon: bool, digits: int
) -> None:
    zone = timezone((1 if hours >= 0 else -1) * timedelta(hours=abs(hours), minutes=minutes))
    moment = moment.replace(tzinfo=UTC)
    if digits < 6:
        moment = moment.replace(microsecond=moment.microsecond // 10 ** (6 - digits) * 10 ** (6 - digits))
    local = moment.astimezone(zone)
    sign = "-" if hours < 0 else "+"
    offset = f"{sign}{abs(hours):02}{':' if colon else ''}{minutes:02}"
    fraction = f".{f'{local.microsecond:06}999'[:digits]}" if digits else ""
    text = f"{local:%Y-%m-%d}".rjust(10, "0") + f"{blank}{local:%H:%M:%S}{fraction}{offset}"
    assert instant(text) == moment
    assert instant(rfc3339(moment)) == moment


@given(st.one_of(st.text(), st.integers(), st.none(), st.lists(st.text()), st.floats()))
def test_anything_else_is_a_value_error(what: Any) -> None:
    try:
        moment = instant(what)
    except ValueError:
        return
    assert moment.tzinfo == UTC


@pytest.mark.parametrize(
    "text", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-01:00", "2024-06-31", "12:00", "x" * 10**5]
)
def test_beyond_the_years_and_no_dates(text: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        instant(text)
    assert len(str(caught.value)) < 500


def test_a_leap_second() -> None:
    assert instant("2016-12-31T23:59:60Z") == datetime(2016, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)


def test_an_interval_with_one_bad_end_falls_back_to_the_datetime() -> None:
    properties: dict[str, Any] = {"datetime": rfc3339(NOON), "start_datetime": rfc3339(NOON), "end_datetime": "open"}
    (note,) = normalise_times(properties)
    assert note.startswith("end_datetime 'open'")
    assert note.endswith("does not count")
    assert span(properties) == (NOON, NOON)
    properties = {"datetime": "bad", "start_datetime": "2024-06-01", "end_datetime": "2024-06-02"}
    normalise_times(properties)
    assert properties["datetime"] is None
    assert span(properties) == (NOON - timedelta(hours=12), NOON + timedelta(hours=12))
    for bad in ({}, {"datetime": None}, {"datetime": None, "start_datetime": rfc3339(NOON)}, {"datetime": 1717243200}):
        with pytest.raises(ValueError, match="expected RFC 3339"):
            normalise_times(dict(bad))


def test_good_times_stay_as_they_are() -> None:
    properties = {"datetime": "2024-06-01T12:00:00.5Z", "start_datetime": "2024-06-01T14:00:00+02:00"}
    before = dict(properties)
    assert normalise_times(properties) == []
    assert properties == before


def item(name: str, when: datetime | None, **times: datetime) -> pystac.Item:
    return pystac.Item(name, None, None, when, {}, **times)


def test_the_time_of_an_item_is_its_datetime_or_the_start_of_its_interval() -> None:
    start, end = NOON - timedelta(days=2), NOON + timedelta(days=3)
    east = NOON.astimezone(timezone(timedelta(hours=2)))
    whole = item("whole", None, start_datetime=start, end_datetime=end)
    assert time_of(item("plain", NOON)) == NOON
    assert time_of(item("without a zone", NOON.replace(tzinfo=None))) == NOON
    assert time_of(item("east", east)) == NOON
    assert str(time_of(item("east", east))).endswith("12:00:00+00:00")
    assert time_of(item("both", NOON, start_datetime=start, end_datetime=end)) == NOON
    assert time_of(whole) == start
    assert time_range([item("plain", NOON), whole]) == (start, end)
    assert time_range([item("without a zone", NOON.replace(tzinfo=None))]) == (NOON, NOON)


def test_an_item_without_a_time_is_named() -> None:
    lost = item("lost", NOON)
    lost.datetime = None
    assert time_of(lost) is None
    with pytest.raises(DataError, match="item lost: neither datetime nor start_datetime"):
        time_range([item("plain", NOON), lost])
