"""Which days have been looked at: by arithmetic on sets of days."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geoml.engine.run.scan_record import (
    SCAN_RECORD,
    ScanRecord,
    format_spans,
    read_scan_record,
    spans_of,
    write_scan_record,
)
from geoml.errors import DataError
from geoml.io.stac.series import read_entries
from geoml.io.stores.remote import run_store

START = dt.date(2024, 1, 1)


def day(number: int) -> dt.date:
    return START + dt.timedelta(days=number)


def days(spans: tuple[tuple[dt.date, dt.date], ...]) -> set[int]:
    return {n for a, b in spans for n in range((a - START).days, (b - START).days + 1)}


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 5), st.booleans()), min_size=1, max_size=12))
def test_every_day_up_to_the_last_was_looked_at_or_is_missing(nights: list[tuple[int, int, bool]]) -> None:
    looked, seen, first = ScanRecord(), set[int](), min(end - lookback for end, lookback, _ in nights[:1])
    for end, lookback, fill in nights:
        window = day(end - lookback), day(end)
        missing = looked.missing_before(window[0])
        spans = (*(missing if fill else ()), window)
        looked = looked.after(spans, window, ())
        seen |= days(spans)
    assert looked.last is not None
    last = (looked.last - START).days
    assert last == max(end for end, _, _ in nights)
    assert {n for n in range(first, last + 1) if n not in seen} == {n for n in days(looked.missing) if n >= first}


def test_a_day_that_has_to_be_looked_at_again_is_missing_until_it_was() -> None:
    looked = ScanRecord().after([(day(0), day(3))], (day(0), day(3)), [day(2)])
    assert looked.missing_before(day(2)) == ()
    assert looked.missing_before(day(6)) == ((day(2), day(2)), (day(4), day(5)))
    assert looked.after([(day(2), day(6))], (day(6), day(6)), ()).missing_before(day(9)) == ((day(7), day(8)),)


def test_days_to_come_were_not_looked_at() -> None:
    today = dt.datetime.now(dt.UTC).date()
    far = dt.date(9999, 1, 1)
    looked = ScanRecord().after([(today, far)], (today, far), ())
    assert looked.last is not None
    assert today <= looked.last <= today + dt.timedelta(days=1)
    assert looked.missing_before(far) == ()


def test_it_is_told_and_kept(tmp_path: Path) -> None:
    looked = ScanRecord(day(9), spans_of([day(1), day(2), day(5)]), ("2024-01-08",))
    assert format_spans(looked.missing) == "2024-01-02/2024-01-03, 2024-01-06 (3 days)"
    store = run_store(tmp_path)
    write_scan_record(store, looked)
    assert read_scan_record(store, ["2023-01-01"]) == looked
    (tmp_path / SCAN_RECORD).write_text('{"last": "2024-01-01", "missing": [], "leaving": ["../../etc"]}')
    with pytest.raises(DataError, match="damaged"):
        read_scan_record(store, [])
    (tmp_path / SCAN_RECORD).unlink()
    assert read_scan_record(store, ["2023-01-01", "2023-05-01"]).last == dt.date(2023, 5, 1), "of a series of before"


@pytest.mark.parametrize(
    "month",
    ['{"geoml:days": {"../../x": {}}}', '{"geoml:days": 1}', "[]", '{"geoml:days": {"2024-01-01": {"items": 1}}}'],
)
def test_a_month_that_is_none_is_named_and_leads_nowhere(tmp_path: Path, month: str) -> None:
    (tmp_path / "months").mkdir()
    (tmp_path / "months" / "2024-01.json").write_text(month)
    with pytest.raises(DataError, match=r"2024-01\.json: not a .*look back over its days"):
        read_entries(run_store(tmp_path))
