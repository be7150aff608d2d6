"""Which days the scans of a monitor have searched, so that days between two scans far apart are not missed."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from geoml.engine.run.plan import STATE
from geoml.errors import DataError
from geoml.io.stac.series import now, read_series
from geoml.io.stores.remote import RunStore
from geoml.io.stores.store import write_json
from geoml.texts import counted

SCAN_RECORD = f"{STATE}/looked.json"
"""File of the record in the folder of a series."""

DAY = dt.timedelta(days=1)

Span = tuple[dt.date, dt.date]
"""First and last day."""


@dataclass(frozen=True)
class ScanRecord:
    """``last`` is the last day that was searched, ``missing`` are spans before it that no scan has searched.

    ``leaving`` are days whose runs are to be deleted: they have left the series, and a scan may have died before.
    """

    last: dt.date | None = None
    missing: tuple[Span, ...] = ()
    leaving: tuple[str, ...] = ()

    def missing_before(self, first: dt.date) -> tuple[Span, ...]:
        """What lies before a window that begins on ``first`` and was never searched, oldest first."""
        gap = [(self.last + DAY, min(first - DAY, now().date()))] if self.last and self.last + DAY < first else []
        days = _days([*self.missing, *gap])
        return spans_of(day for day in days if day < first)

    def after(self, searched: Sequence[Span], window: Span, again: Iterable[dt.date]) -> ScanRecord:
        """The record after a scan of ``searched``; days that have to be searched ``again`` stay missing."""
        done = _days(searched) - set(again)
        missing = (_days(self.missing_before(window[0])) | _days(self.missing) | set(again)) - done
        seen = min(window[1], now().date())
        return replace(self, last=max(seen, self.last or seen), missing=spans_of(missing))


def spans_of(days: Iterable[dt.date]) -> tuple[Span, ...]:
    """Days as spans, oldest first."""
    spans: list[Span] = []
    for day in sorted(set(days)):
        if spans and spans[-1][1] + DAY == day:
            spans[-1] = spans[-1][0], day
        else:
            spans.append((day, day))
    return tuple(spans)


def merge_spans(spans: Iterable[Span]) -> tuple[Span, ...]:
    """The same days in as few spans as may be, oldest first."""
    return spans_of(_days(spans))


def format_spans(spans: Sequence[Span]) -> str:
    """Spans for people: ``2024-06-02/2024-06-04, 2024-06-09 (4 days)``."""
    listed = [f"{a}" if a == b else f"{a}/{b}" for a, b in spans]
    more = f", and {len(listed) - 5} more spans" if len(listed) > 5 else ""
    days = sum((b - a).days + 1 for a, b in spans)
    return f"{', '.join(listed[:5])}{more} ({counted(days, 'day')})"


def read_scan_record(store: RunStore, days: Iterable[str]) -> ScanRecord:
    """The record of a series; without one, the series has been searched up to the last of its ``days``.

    Raises DataError for a damaged file.
    """
    store.pull(SCAN_RECORD)
    value = read_series(store.local / SCAN_RECORD)
    if not value:
        return ScanRecord(max((dt.date.fromisoformat(day) for day in days), default=None))
    try:
        missing = tuple((dt.date.fromisoformat(a), dt.date.fromisoformat(b)) for a, b in value["missing"])
        last = dt.date.fromisoformat(value["last"]) if value["last"] else None
        return ScanRecord(last, missing, tuple(dt.date.fromisoformat(day).isoformat() for day in value["leaving"]))
    except (LookupError, TypeError, ValueError) as err:
        raise DataError(
            f"{store.url}/{SCAN_RECORD}: damaged ({err!r}); delete it, and look back over its days"
        ) from err


def write_scan_record(store: RunStore, record: ScanRecord) -> None:
    """Write and publish the record where it has changed."""
    value = {
        "last": record.last.isoformat() if record.last else None,
        "missing": [[a.isoformat(), b.isoformat()] for a, b in record.missing],
        "leaving": list(record.leaving),
    }
    if read_series(store.local / SCAN_RECORD) != value:
        write_json(store.inside(SCAN_RECORD), value)
        store.push(SCAN_RECORD)


def _days(spans: Iterable[Span]) -> set[dt.date]:
    return {a + n * DAY for a, b in spans for n in range((b - a).days + 1)}
