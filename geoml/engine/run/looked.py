"""Which days a monitor has looked at: so that days between two nights that lay far apart are not forgotten."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from geoml.engine.run.plan import STATE
from geoml.errors import DataError
from geoml.io.stac.series import now, read_series
from geoml.io.stores.remote import RunStore
from geoml.io.stores.store import write_json

LOOKED = f"{STATE}/looked.json"
"""File of a series that says it."""

DAY = dt.timedelta(days=1)

Span = tuple[dt.date, dt.date]
"""First and last day of it."""


@dataclass(frozen=True)
class Looked:
    """``last`` is the last day that was looked at, ``missing`` are spans before it that no night has looked at.

    ``leaving`` are days whose runs are to be deleted: they are in the series no more, and a night may have died before.
    """

    last: dt.date | None = None
    missing: tuple[Span, ...] = ()
    leaving: tuple[str, ...] = ()

    def before(self, first: dt.date) -> tuple[Span, ...]:
        """What lies before a window that begins on ``first`` and was never looked at, oldest first."""
        gap = [(self.last + DAY, min(first - DAY, now().date()))] if self.last and self.last + DAY < first else []
        days = _days([*self.missing, *gap])
        return spans_of(day for day in days if day < first)

    def after(self, searched: Sequence[Span], window: Span, again: Iterable[dt.date]) -> Looked:
        """What is known after a night that looked at ``searched``; days that have to be looked at ``again`` stay."""
        done = _days(searched) - set(again)
        missing = (_days(self.before(window[0])) | _days(self.missing) | set(again)) - done
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


def united(spans: Iterable[Span]) -> tuple[Span, ...]:
    """The same days in as few spans as may be, oldest first."""
    return spans_of(_days(spans))


def told(spans: Sequence[Span]) -> str:
    """Spans for people: ``2024-06-02/2024-06-04, 2024-06-09 (4 days)``."""
    listed = [f"{a}" if a == b else f"{a}/{b}" for a, b in spans]
    more = f", and {len(listed) - 5} more spans" if len(listed) > 5 else ""
    days = sum((b - a).days + 1 for a, b in spans)
    return f"{', '.join(listed[:5])}{more} ({days} day{'s'[: days != 1]})"


def read_looked(store: RunStore, held: Iterable[str]) -> Looked:
    """What a series says; one from before it was kept has been looked at to the last of the days that it holds.

    Raises DataError for a damaged file.
    """
    store.pull(LOOKED)
    value = read_series(store.local / LOOKED)
    if not value:
        return Looked(max((dt.date.fromisoformat(day) for day in held), default=None))
    try:
        missing = tuple((dt.date.fromisoformat(a), dt.date.fromisoformat(b)) for a, b in value["missing"])
        last = dt.date.fromisoformat(value["last"]) if value["last"] else None
        return Looked(last, missing, tuple(dt.date.fromisoformat(day).isoformat() for day in value["leaving"]))
    except (LookupError, TypeError, ValueError) as err:
        raise DataError(f"{store.url}/{LOOKED}: damaged ({err!r}); delete it, and look back over its days") from err


def write_looked(store: RunStore, looked: Looked) -> None:
    """Keep it, where it is not what the series says already."""
    value = {
        "last": looked.last.isoformat() if looked.last else None,
        "missing": [[a.isoformat(), b.isoformat()] for a, b in looked.missing],
        "leaving": list(looked.leaving),
    }
    if read_series(store.local / LOOKED) != value:
        write_json(store.inside(LOOKED), value)
        store.push(LOOKED)


def _days(spans: Iterable[Span]) -> set[dt.date]:
    return {a + n * DAY for a, b in spans for n in range((b - a).days + 1)}
