"""A search query, checked once, and the same tests and order for items from any kind of catalog."""

from __future__ import annotations

import re
from calendar import monthrange
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import cql2
import shapely
from shapely.geometry import MultiPolygon

from geoml.errors import DataError, InputError
from geoml.io.stac.catalog import Catalog
from geoml.io.stac.item import Document, footprint
from geoml.io.stac.times import span
from geoml.io.stores.hrefs import redact
from geoml.recipe import Query, require_separators

Box = tuple[float, float, float, float]

_DATE = re.compile(r"(\d{4})(?:-(\d{2})(?:-(\d{2}))?)?")
_INSTANT = re.compile(r"\d{4}-\d{2}-\d{2}[Tt]\d{2}:\d{2}:\d{2}(\.\d+)?([Zz]|[+-]\d{2}:\d{2})")


@dataclass(frozen=True)
class CheckedQuery:
    """A query with everything checked; ``sortby`` holds (property, descending) pairs, ``words`` say what is asked."""

    catalog: Catalog
    collection: str | None
    region: MultiPolygon
    boxes: tuple[Box, ...]
    start: datetime | None
    end: datetime | None
    filter: cql2.Expr | None
    sortby: tuple[tuple[str, bool], ...]
    limit: int | None
    words: str


def check_query(catalog: Catalog, query: Query, region: MultiPolygon, when: str) -> CheckedQuery:
    """``query`` over a region and a time, checked. Raises InputError for a datetime or filter that is wrong."""
    start, end = parse_datetime(when)
    collection = query.collection or catalog.default_collection
    cql = f", filter {query.filter}" if query.filter else ""
    bounds = " ".join(f"{v:.6g}" for v in region.bounds)
    shapely.prepare(region)
    return CheckedQuery(
        catalog=catalog,
        collection=collection,
        region=region,
        boxes=_boxes(region),
        start=start,
        end=end,
        filter=_filter(query.filter),
        sortby=_sortby(query.sortby),
        limit=query.limit,
        words=f"collection {collection or 'any'}, bbox {bounds}, datetime {when}{cql}",
    )


def parse_datetime(text: str) -> tuple[datetime | None, datetime | None]:
    """First and last instant of an RFC 3339 instant or interval; None if it is open.

    Also takes the short dates of STAC clients: ``2020``, ``2020-05`` and ``2020-05-18`` mean all of it. Raises
    InputError for anything else and for an interval that ends before it begins.
    """
    try:
        require_separators(text)
    except ValueError as err:
        raise InputError(f"datetime: {err}") from err
    parts = [p.strip() for p in text.split("/")]
    if not text.strip() or len(parts) > 2 or parts in (["", ""], [".."]):
        raise InputError(f"datetime: {text!r}; expected an instant or an interval such as 2020-05-01/2020-05-31")
    try:
        spans = [_span(p) for p in parts]
    except (ValueError, OverflowError) as err:  # the latter: its zone leads out of the calendar
        raise InputError(
            f"datetime: {text!r} is not an RFC 3339 instant or interval ({err}); "
            "expected 2020-05-18, 2020-05-18T13:30:00Z or 2020-05-01/2020-05-31"
        ) from err
    start, end = spans[0][0], spans[-1][1]
    if start and end and start > end:
        raise InputError(f"datetime: {text!r} ends before it begins")
    return start, end


def middle(when: str) -> datetime:
    """The middle of an instant or interval. Raises InputError for one with an open end."""
    start, end = parse_datetime(when)
    if start is None or end is None:
        raise InputError(f"datetime: {when!r} is open; expected an instant, or an interval with both ends")
    return start + (end - start) / 2


def _span(text: str) -> tuple[datetime | None, datetime | None]:
    if text in ("", ".."):
        return None, None
    short = _DATE.fullmatch(text)
    if not short:
        moment = _instant(text)
        return moment, moment
    year, month, day = (int(g or 0) for g in short.groups())
    first = datetime(year, month or 1, day or 1, tzinfo=UTC)
    month = month or 12
    return first, datetime(year, month, day or monthrange(year, month)[1], 23, 59, 59, 999999, tzinfo=UTC)


def _instant(text: str) -> datetime:
    if not _INSTANT.fullmatch(text):
        raise ValueError(f"{text!r}: expected a date with a time and Z or an offset")
    return datetime.fromisoformat(text.upper()).astimezone(UTC)


def interval(start: datetime | None, end: datetime | None) -> str | None:
    if start is None and end is None:
        return None
    if end is not None and end.microsecond and end.year < 9999:  # some servers know whole seconds; `matches` drops more
        end = end.replace(microsecond=0) + timedelta(seconds=1)
    return "/".join(
        ".." if t is None else f"{t.replace(tzinfo=None).isoformat(timespec='seconds')}Z" for t in (start, end)
    )


def _filter(text: str | None) -> cql2.Expr | None:
    if text is None:
        return None
    try:
        return cql2.Expr(text)
    except Exception as err:  # the package raises a bare Exception
        raise InputError(
            f"filter: {text!r} is not CQL2 text; expected for example eo:cloud_cover < 20 ({err})"
        ) from err


def _sortby(text: str | None) -> tuple[tuple[str, bool], ...]:
    """(property, descending) pairs of ``-eo:cloud_cover,id``."""
    parts = [part.strip() for part in (text or "").split(",") if part.strip(" +-")]
    return tuple((part.lstrip("+-").removeprefix("properties."), part.startswith("-")) for part in parts)


def _boxes(region: MultiPolygon) -> tuple[Box, ...]:
    """One box around the region, or one on each side of the antimeridian when the region crosses it."""
    west, _, east, _ = region.bounds
    sides = [[p for p in region.geoms if (p.bounds[0] < 0) is side] for side in (True, False)]
    if west > -180 or east < 180 or not all(sides) or any(p.bounds[2] > 0 for p in sides[0]):
        return (region.bounds,)
    return tuple(MultiPolygon(side).bounds for side in sides)


def matches(value: Document, query: CheckedQuery, collection: str | None, *, filtered: bool = False) -> bool:
    """Whether a normalised item is what a query asks for. Raises DataError for one that cannot be placed."""
    if collection is not None and value.get("collection") != collection:
        return False
    start, end = span(value["properties"])
    if (query.start and end < query.start) or (query.end and start > query.end):
        return False
    if query.filter is not None and not filtered and not _passes(query.filter, value):
        return False
    return bool(query.region.intersects(footprint(value)))


def _passes(expression: cql2.Expr, value: Document) -> bool:
    try:
        return bool(expression.matches(value))
    except Exception:  # the package raises a bare Exception for what SQL calls NULL: a property that is missing
        return False


def unique_items(values: Iterable[Document]) -> list[Document]:
    """Each item once, in their order. Raises DataError if two of one id differ in their assets or properties."""
    seen: dict[tuple[object, object], Document] = {}
    for value in values:
        key = (value.get("collection"), value.get("id"))
        other = seen.setdefault(key, value)
        if other is not value and _content(other) != _content(value):
            raise DataError(f"item {key[1]}: appears twice with different content")
    return list(seen.values())


def _content(value: Document) -> tuple[object, ...]:
    hrefs = {key: redact(str(asset.get("href"))) for key, asset in (value.get("assets") or {}).items()}
    return hrefs, value.get("properties"), value.get("geometry")


def sort_items(values: list[Document], sortby: tuple[tuple[str, bool], ...]) -> list[Document]:
    """By ``sortby``, then newest first, then by id; items without the property come last."""
    items = sorted(values, key=lambda v: str(v.get("id")))
    for name, down in reversed([*sortby, ("datetime", True)]):
        keyed = [(_sort_key(v, name), v) for v in items]
        present = sorted((k for k in keyed if k[0] is not None), key=lambda k: k[0] or ("", 0), reverse=down)
        items = [v for _, v in present] + [v for k, v in keyed if k is None]
    return items


def _sort_key(value: Document, name: str) -> tuple[str, Any] | None:
    key: Any = value.get(name) if name in ("id", "collection") else (value.get("properties") or {}).get(name)
    if name == "datetime":
        key = span(value["properties"])[0]
    if isinstance(key, int | float) and key == key:  # NaN has no place in an order
        return "number", key
    return None if key is None else (type(key).__name__, key if isinstance(key, datetime) else str(key))
