"""Search: one question, one answer, whether a STAC API, a static catalog or a stac-geoparquet file is asked."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import pystac
from pystac_client import Client
from pystac_client.conformance import ConformanceClasses
from shapely.errors import ShapelyError
from shapely.geometry import MultiPolygon

from geoml.errors import DataError, InputError, NothingFound, unknown
from geoml.io.stac import times as stac_times
from geoml.io.stac.catalog import Catalog, Profile, catalog_names, fetched, open_catalog
from geoml.io.stac.http import StacReader, translate
from geoml.io.stac.item import mend, place, sound, to_item
from geoml.io.stac.item_assets import fill
from geoml.io.stac.left_out import LeftOut, told, with_left_out
from geoml.io.stac.pages import PAGE, pages
from geoml.io.stac.query import Asked, Box, ask, field_name, interval, once, ordered, parse_datetime, wanted
from geoml.io.stac.table import collections_of, found_at, read_dicts, read_items, write_items
from geoml.io.stac.walk import absolute, walk
from geoml.recipe import Query
from geoml.texts import listed

__all__ = [
    "Catalog",
    "LeftOut",
    "Profile",
    "catalog_names",
    "open_catalog",
    "parse_datetime",
    "read_items",
    "search",
    "write_items",
]


def search(
    catalog: Catalog, query: Query, region: MultiPolygon, datetime: str, left_out: LeftOut | None = None
) -> list[pystac.Item]:
    """Items that touch ``region`` (degrees) and ``datetime`` (one entry of the query) and pass the query's filter.

    They are ordered by ``query.sortby``, then newest first, then by id; ``query.limit`` cuts that order. Each id comes
    once and asset hrefs are absolute. What pystac reads is read; an item that cannot be placed in time or space is
    left out: put into ``left_out`` and named in one warning. With ``query.strict`` it is an error.

    Raises InputError for a datetime, filter or collection that is wrong, NothingFound (saying what was asked and what
    the catalog holds), DataError for a list of items that is not whole, when no item found can be used, or with
    ``strict``, and TransientError when the catalog does not answer.
    """
    asked = ask(catalog, query, region, datetime)
    sieve = _Sieve(asked, LeftOut(query.strict))
    found = _from_api(asked, sieve) if catalog.kind == "api" else _from_local(asked, sieve)
    items: list[pystac.Item] = []
    for value in ordered(once(found), asked.sortby):
        if len(items) == query.limit:
            break
        try:
            items.append(to_item(value))
        except DataError as err:
            sieve.left.add(value["id"], err)
    stac_times.tell(catalog.name, sieve.notes)
    if not items:
        raise sieve.left.none_left(f"catalog {catalog.name}")
    sieve.left.tell(f"catalog {catalog.name}")
    if left_out is not None:
        left_out.take(sieve.left)
    return items


@dataclass
class _Sieve:
    """Takes what the question asks for from raw items; ``notes`` say which odd times were read how."""

    asked: Asked
    left: LeftOut
    notes: list[tuple[str, str]] = field(default_factory=list)
    usable: int = 0
    """Items that could be placed, whether they were asked for or not."""

    def wanted(self, value: Any, collection: str | None, *, filtered: bool = False) -> bool:
        """True for an item that is asked for; one that cannot be placed is left out."""
        name = value.get("id") if isinstance(value, dict) else None
        try:
            if not isinstance(value, dict):
                raise DataError(f"a feature is {str(value)[:60]!r}; expected an item")  # noqa: TRY301
            if collection is not None and value.get("collection") != collection:
                return False
            sound(value)
            notes = mend(value)
            found = wanted(value, self.asked, collection, filtered=filtered)
        except DataError as err:
            self.left.add(name, err)
            return False
        self.usable += 1
        if found:
            self.notes += [(value["id"], note) for note in notes]
        return found

    def nothing(self, otherwise: Callable[[], Exception]) -> Exception:
        """What to raise when nothing is left; ``otherwise`` says it where nothing was found."""
        if self.left.items and not self.usable:
            return self.left.none_left(f"catalog {self.asked.catalog.name}")
        error = otherwise()
        if self.left.items and isinstance(error, NothingFound):
            return with_left_out(NothingFound(f"{error}; {told(self.left.items)}"), self.left)
        return error


# ---- a STAC API


def _from_api(asked: Asked, sieve: _Sieve) -> list[dict[str, Any]]:
    catalog = asked.catalog
    reader = StacReader(catalog)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # servers that do more than they declare
            client = Client.open(catalog.url, stac_io=reader)
            collection = asked.collection or _only_collection(client, catalog)
            found: list[dict[str, Any]] = []
            for box in asked.boxes:
                found += _api_box(client, reader, asked, collection, box, sieve)
    except Exception as err:
        translate(err, catalog.name)
    if not found:
        raise sieve.nothing(lambda: _nothing_in_api(reader, asked, collection))
    if about := _collection(reader, catalog, collection):
        for value in found:
            fill(value, about, catalog.profile(collection))
    return found


def _api_box(
    client: Client, reader: StacReader, asked: Asked, collection: str, box: Box, sieve: _Sieve
) -> list[dict[str, Any]]:
    """Items in one box; with a limit it ends as soon as enough were found in the right order."""
    order = None
    if (asked.sortby or asked.limit) and client.conforms_to(ConformanceClasses.SORT):
        keys = [*asked.sortby, ("datetime", True), ("id", False)]
        order = [{"field": field_name(k), "direction": "desc" if down else "asc"} for k, down in dict(keys).items()]
    filters = client.conforms_to(ConformanceClasses.FILTER)
    parameters: dict[str, Any] = {
        "collections": [collection],
        "bbox": box,
        "datetime": interval(asked.start, asked.end),
        "filter": asked.filter.to_json() if asked.filter else None,
        "sortby": order,
        "limit": min(PAGE, asked.limit or PAGE),
    }
    home = f"{asked.catalog.url}/collections/{collection}/items"
    found: list[dict[str, Any]] = []
    seen: set[str] = set()
    droppable = ("sortby",) if filters else ("sortby", "filter")
    for page in pages(client, reader, asked.catalog.name, parameters, droppable):
        for value in page:
            if isinstance(value, dict):
                absolute(value, f"{home}/{value.get('id')}")
            if sieve.wanted(value, collection, filtered=filters):
                found.append(value)
                seen.add(value["id"])
        enough = asked.limit is not None and len(seen) >= asked.limit
        if (
            enough
            and order
            and [v["id"] for v in ordered(once(found), asked.sortby)] == list(dict.fromkeys(v["id"] for v in found))
        ):
            break
    return found


def _collection(reader: StacReader, catalog: Catalog, collection: str) -> dict[str, Any] | None:
    """What the API says of the collection; None where it says nothing. Raises TransientError without an answer."""
    try:
        return reader.get(f"{catalog.url}/collections/{quote(collection, safe='')}")
    except (InputError, DataError):
        return None


# ---- a static catalog or a stac-geoparquet file


def _from_local(asked: Asked, sieve: _Sieve) -> list[dict[str, Any]]:
    values = _all_local(asked, asked.boxes, asked.collection, sieve.left)
    known = {v["collection"] for v in values if isinstance(v.get("collection"), str)}
    if asked.collection is None and len(known) > 1:
        raise InputError(f"collection: not given; catalog {asked.catalog.name} has {listed(sorted(known))}")
    found = [v for v in values if sieve.wanted(v, asked.collection if known else None)]
    if not found:
        raise sieve.nothing(lambda: _nothing_in_local(asked, _all_local(asked, (), None, LeftOut())))
    return found


def _all_local(asked: Asked, boxes: tuple[Box, ...], collection: str | None, left: LeftOut) -> list[dict[str, Any]]:
    """Items of a local catalog; those of a parquet file only where their bbox may touch ``boxes`` (none: all)."""
    if asked.catalog.kind == "static":
        return list(walk(asked.catalog, collection, left))
    path = fetched(asked.catalog.url)
    home = (lambda _: asked.catalog.url) if asked.catalog.remote else found_at(path)
    values, about = [absolute(v, home(v)) for v in read_dicts(path, boxes)], collections_of(path)
    for value in values:
        if isinstance(name := value.get("collection"), str) and name in about:
            fill(value, about[name], asked.catalog.profile(name))
    return values


# ---- what to say when nothing came


def _only_collection(client: Client, catalog: Catalog) -> str:
    names = [c.id for c in client.get_collections()]
    if len(names) != 1:
        raise InputError(f"collection: not given; catalog {catalog.name} has {listed(sorted(names))}")
    return names[0]


def _nothing_in_api(reader: StacReader, asked: Asked, collection: str) -> Exception:
    """NothingFound with the collection's extent, or InputError when there is no such collection."""
    url = asked.catalog.url
    try:
        extent = reader.get(f"{url}/collections/{quote(collection, safe='')}").get("extent") or {}
    except InputError:
        listed = reader.get(f"{url}/collections").get("collections") or []
        names = [str(c.get("id")) for c in listed if isinstance(c, dict)]
        return unknown("collection", collection, names)
    try:
        boxes = (extent.get("spatial") or {}).get("bbox") or [[]]
        spans = (extent.get("temporal") or {}).get("interval") or [["", ""]]
        held = f"bbox {' '.join(f'{v:.6g}' for v in boxes[0])}, datetime {'/'.join(str(t or '..') for t in spans[0])}"
    except (AttributeError, TypeError, ValueError, LookupError):
        held = "what its extent does not say"
    return NothingFound(f"no items: {asked.words}; the collection holds {held}")


def _nothing_in_local(asked: Asked, values: Iterable[dict[str, Any]]) -> Exception:
    """NothingFound with what the catalog holds, or InputError when it has no such collection."""
    values = list(values)
    known = {v["collection"] for v in values if isinstance(v.get("collection"), str)}
    if asked.collection is not None and known and asked.collection not in known:
        return unknown("collection", asked.collection, known)
    boxes, spans = [], []
    for value in values:
        if asked.collection is None or not known or value.get("collection") == asked.collection:
            try:
                sound(value)
                mend(value)
                boxes.append(place(value).bounds)
                spans.append(stac_times.span(value["properties"]))
            except (DataError, ShapelyError):
                continue
    if not boxes:
        return NothingFound(f"no items: {asked.words}; catalog {asked.catalog.name} is empty")
    bounds = [*map(min, list(zip(*boxes, strict=True))[:2]), *map(max, list(zip(*boxes, strict=True))[2:])]
    first, last = min(s[0] for s in spans), max(s[1] for s in spans)
    return NothingFound(
        f"no items: {asked.words}; catalog {asked.catalog.name} holds {len(boxes)} items in bbox "
        f"{' '.join(f'{v:.6g}' for v in bounds)}, datetime {first:%Y-%m-%dT%H:%M:%SZ}/{last:%Y-%m-%dT%H:%M:%SZ}"
    )
