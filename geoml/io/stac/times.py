"""Times of items: all spellings that pystac reads, brought to the one that the STAC specification wants.

A blank for T, ``+0000``, ``-06``, a small z, dates without a time and fractions of any length are read as they mean;
a time without a zone is UTC.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import pystac
from pystac.utils import str_to_datetime

from geoml.errors import DataError

FIELDS = ("datetime", "start_datetime", "end_datetime")

STRICT = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{1,6})?(Z|[+-]\d{2}:\d{2})")
"""Times as the specification has them, which pyarrow reads too."""

_LEAP = re.compile(r"(\d{2}:\d{2}):60(\.\d+)?")
"""A leap second, which RFC 3339 allows and Python does not know."""

_log = logging.getLogger(__name__)


def instant(text: object) -> datetime:
    """``text`` as a time with zone UTC. Raises ValueError for what is not a time, or outside the years 1 to 9999."""
    return _read(text)[0]


def _read(text: object) -> tuple[datetime, bool]:
    """The time, and whether the text says its zone."""
    if not isinstance(text, str):
        raise ValueError(f"{str(text)[:60]!r} is not text")  # noqa: TRY004, one kind for all that is not a time
    try:
        moment = str_to_datetime(_LEAP.sub(r"\1:59.999999", text.strip()))
        return _aware(moment).astimezone(UTC), moment.tzinfo is not None
    except (ValueError, OverflowError) as err:
        raise ValueError(f"{text[:60]!r}: {err}") from err


def normalise_times(properties: dict[str, Any]) -> list[str]:
    """Write the times of an item as the specification has them, where they are not; gives notes on what was read how.

    ``datetime`` and the interval are checked. A start or end that is not a time goes where ``datetime`` is one. Raises
    ValueError, naming the field, when the item cannot be placed in time.
    """
    notes, odd = [], {}
    for name in FIELDS:
        if (text := properties.get(name)) is None:
            continue
        try:
            moment, zoned = _read(text)
        except ValueError as err:
            odd[name] = str(err)
            continue
        if not STRICT.fullmatch(text):
            properties[name] = rfc3339(moment)
        if not zoned:
            notes.append(f"{name} {text!r} has no zone and is read as UTC")
    start, end = properties.get("start_datetime"), properties.get("end_datetime")
    spanned = None not in (start, end) and not odd.keys() & {"start_datetime", "end_datetime"}
    if "datetime" in odd and spanned:
        properties["datetime"] = None
    elif "datetime" in odd or (properties.get("datetime") is None and not spanned):
        raise ValueError(_why(properties, odd))
    for name in odd.keys() - {"datetime"}:
        del properties[name]
    return notes + [f"{name} {why} and does not count" for name, why in odd.items()]


def _why(properties: Mapping[str, object], odd: dict[str, str]) -> str:
    name = next((n for n in FIELDS if n in odd), "datetime")
    problem = odd.get(name, repr(properties.get("datetime")))
    return f"{name} {problem}; expected RFC 3339 such as 2024-06-01T12:00:00Z"


def rfc3339(moment: datetime) -> str:
    """A time with zone UTC as RFC 3339."""
    return f"{moment.replace(tzinfo=None).isoformat()}Z"


def span(properties: Mapping[str, object]) -> tuple[datetime, datetime]:
    """First and last instant of an item whose times are mended. Raises ValueError for another."""
    first = properties.get("start_datetime") or properties.get("datetime")
    last = properties.get("end_datetime") or properties.get("datetime")
    return instant(first), instant(last)


def time_of(item: pystac.Item) -> datetime | None:
    """``datetime`` of an item, else the start of its interval, in UTC; None for an item with neither."""
    moment = item.datetime or item.common_metadata.start_datetime
    return None if moment is None else _aware(moment).astimezone(UTC)


def time_range(items: Iterable[pystac.Item]) -> tuple[datetime, datetime]:
    """First and last time of items, with time zone. Raises DataError for one without any."""
    times: list[datetime] = []
    for item in items:
        about = item.common_metadata
        own = [_aware(t) for t in (item.datetime, about.start_datetime, about.end_datetime) if t is not None]
        if not own:
            raise DataError(f"item {item.id}: neither datetime nor start_datetime")
        times += own
    return min(times), max(times)


def _aware(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def warn_about(catalog: str, notes: Iterable[tuple[str, str]]) -> None:
    """Log one warning about all (id, note) of a search."""
    lines = [f"item {name}: {note}" for name, note in notes]
    if lines:
        more = f"; and {len(lines) - 3} more" if len(lines) > 3 else ""
        _log.warning("catalog %s: %s%s", catalog, "; ".join(lines[:3]), more)
