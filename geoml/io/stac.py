"""Search: one question, one answer, whether a STAC API, a static catalog or a stac-geoparquet file is asked."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

import pystac
from pystac_client import Client
from pystac_client.exceptions import APIError
from shapely.geometry import MultiPolygon

from geoml.errors import DataError, InputError, NothingFound, unknown
from geoml.io.band_defaults import Collections
from geoml.io.bucket import is_bucket
from geoml.io.catalog import Catalog, Profile, catalog_names, fetched, open_catalog
from geoml.io.hrefs import redact
from geoml.io.stac_http import StacReader, translate
from geoml.io.stac_query import Asked, Box, ask, field, interval, once, ordered, parse_datetime, sound, times, wanted
from geoml.io.stac_table import collections_of, read_dicts, read_items, write_items
from geoml.recipe import Query

__all__ = [
    "Catalog",
    "Profile",
    "catalog_names",
    "open_catalog",
    "parse_datetime",
    "read_items",
    "search",
    "write_items",
]

PAGE = 200
"""Items asked for at a time."""

MAX_PAGES = 5000

_log = logging.getLogger(__name__)
_LINKS = ("collection", "derived_from", "license", "via")


def search(catalog: Catalog, query: Query, region: MultiPolygon, datetime: str) -> list[pystac.Item]:
    """Items that touch ``region`` (degrees) and ``datetime`` (one entry of the query) and pass the query's filter.

    They are ordered by ``query.sortby``, then newest first, then by id; ``query.limit`` cuts that order. Each id comes
    once and asset hrefs are absolute. Raises InputError for a datetime, filter or collection that is wrong,
    NothingFound (saying what was asked and what the catalog holds), DataError for items that cannot be used and
    TransientError when the catalog does not answer.
    """
    asked = ask(catalog, query, region, datetime)
    found = _from_api(asked) if catalog.kind == "api" else _from_local(asked)
    return [_item(value) for value in ordered(once(found), asked.sortby)[: query.limit]]


def _from_api(asked: Asked) -> list[dict[str, Any]]:
    catalog = asked.catalog
    reader = StacReader(catalog)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # servers that do more than they declare
            client = Client.open(catalog.url, stac_io=reader)
            collection = asked.collection or _only_collection(client, catalog)
            found: list[dict[str, Any]] = []
            for box in asked.boxes:
                found += _api_box(client, asked, collection, box)
    except Exception as err:
        translate(err, catalog.name)
    if not found:
        raise _nothing_in_api(reader, asked, collection)
    Collections(reader.get).describe(found, f"{catalog.url}/collections")
    return found


def _api_box(client: Client, asked: Asked, collection: str, box: Box) -> list[dict[str, Any]]:
    """Items in one box; with a limit it ends as soon as enough were found in the right order."""
    order = None
    if asked.sortby or asked.limit:
        keys = [*asked.sortby, ("datetime", True), ("id", False)]
        order = [{"field": field(k), "direction": "desc" if down else "asc"} for k, down in dict(keys).items()]
    parameters: dict[str, Any] = {
        "collections": [collection],
        "bbox": box,
        "datetime": interval(asked.start, asked.end),
        "filter": asked.filter.to_json() if asked.filter else None,
        "sortby": order,
        "limit": min(PAGE, asked.limit or PAGE),
    }
    found: list[dict[str, Any]] = []
    try:
        for page in _pages(client.search(**parameters), asked):
            found += [v for v in page if wanted(v, asked, collection, filtered=True)]
            enough = asked.limit is not None and len(found) >= asked.limit
            if enough and [v["id"] for v in ordered(found, asked.sortby)] == [v["id"] for v in found]:
                break
    except APIError as err:
        if getattr(err, "status_code", None) != 405:
            raise
        parameters["filter"] = asked.filter.to_text() if asked.filter else None
        for page in _pages(client.search(method="GET", **parameters), asked):
            found += [v for v in page if wanted(v, asked, collection, filtered=True)]
    return found


def _pages(found: Any, asked: Asked) -> Iterator[list[dict[str, Any]]]:
    """Pages until one brings no new id; a server that repeats itself must not keep us for ever."""
    seen: set[str] = set()
    for number, page in enumerate(found.pages_as_dicts(), start=1):
        values = [v for v in page.get("features") or [] if isinstance(v, dict)]
        ids = {str(v.get("id")) for v in values}
        total = page.get("numberMatched", (page.get("context") or {}).get("matched"))
        if number > MAX_PAGES:
            raise DataError(f"catalog {asked.catalog.name}: more than {MAX_PAGES} pages; ask for less or set a limit")
        if ids <= seen:
            if isinstance(total, int) and total > len(seen):
                raise DataError(
                    f"catalog {asked.catalog.name} repeats page {number}: {len(seen)} of {total} items came"
                )
            _log.warning("catalog %s repeats page %d; going on with %d items", asked.catalog.name, number, len(seen))
            return
        seen |= ids
        for value in values:
            _absolute(value, f"{asked.catalog.url}/collections/{value.get('collection')}/items/{value.get('id')}")
        yield values


def _from_local(asked: Asked) -> list[dict[str, Any]]:
    """Items of a static catalog or a stac-geoparquet file."""
    values = _all_local(asked, asked.boxes, asked.collection)
    known = {v.get("collection") for v in values} - {None}
    if asked.collection is None and len(known) > 1:
        raise InputError(
            f"collection: not given; catalog {asked.catalog.name} has {', '.join(sorted(map(str, known)))}"
        )
    found = [v for v in values if wanted(v, asked, asked.collection if known else None)]
    if not found:
        raise _nothing_in_local(asked, _all_local(asked, (), None))
    return found


def _all_local(asked: Asked, boxes: tuple[Box, ...], collection: str | None) -> list[dict[str, Any]]:
    """Items of a local catalog; those of a parquet file only where their bbox may touch ``boxes`` (none: all)."""
    if asked.catalog.kind == "static":
        reader = StacReader(asked.catalog)
        about = Collections(partial(_near, reader, asked.catalog))
        found = list(_walk(reader, asked.catalog.url, collection, about))
        about.describe(found)
        return found
    path = fetched(asked.catalog.url)
    values = read_dicts(path, boxes)
    for value in values:
        _absolute(value, asked.catalog.url)
    Collections(None, collections_of(path)).describe(values)
    return values


def _near(reader: StacReader, catalog: Catalog, href: str) -> dict[str, Any]:
    """A collection's document, but of a local catalog none that lies elsewhere: it works without a network."""
    if "://" in href and not catalog.remote:
        raise DataError(f"{redact(href)}: not asked for")
    return reader.get(href)


def _walk(reader: StacReader, start: str, collection: str | None, about: Collections) -> Iterator[dict[str, Any]]:
    """Items below a catalog.json; a collection of another name is not opened."""
    stack: list[tuple[str, str | None]] = [(start, None)]
    seen: set[str] = set()
    while stack:
        href, parent = stack.pop()
        if href in seen:
            continue
        seen.add(href)
        value = reader.get(href)
        kind = value.get("type")
        if kind in ("Feature", "FeatureCollection"):
            for item in [value] if kind == "Feature" else value.get("features") or []:
                if isinstance(item, dict):
                    item["collection"] = item.get("collection") or parent
                    _absolute(item, href)
                    yield item
        elif kind in ("Catalog", "Collection"):
            inside = str(value.get("id")) if kind == "Collection" else parent
            if kind == "Collection":
                about.learn(str(inside), value)
            skip = kind == "Collection" and collection is not None and inside != collection
            rels = ("child",) if skip else ("child", "item")
            links = [k for k in value.get("links") or [] if isinstance(k, dict) and k.get("rel") in rels]
            stack += [(_join(href, str(link.get("href"))), inside) for link in reversed(links)]
        else:
            raise DataError(f"{redact(href)}: no STAC object (type {kind!r})")


# ---- hrefs and items


def _absolute(value: dict[str, Any], home: str) -> None:
    """Make the hrefs of assets absolute, as seen from the item's own place (``home`` when it names none).

    Raises DataError for what is no item.
    """
    sound(value)
    links = [k for k in value.get("links") or [] if isinstance(k, dict)]
    own = next((str(k.get("href")) for k in links if k.get("rel") == "self"), "")
    place = own if "://" in own and "://" in home else home
    kept = [{**k, "href": _join(place, str(k.get("href")))} for k in links if k.get("rel") in _LINKS]
    value["links"] = [{"rel": "self", "href": place, "type": "application/json"}, *kept]
    for asset in (value.get("assets") or {}).values():
        if isinstance(asset, dict) and isinstance(asset.get("href"), str):
            asset["href"] = _join(place, asset["href"])


def _join(home: str, href: str) -> str:
    """``href`` as seen from the document ``home``; what is no relative path stays, to be judged when it is read."""
    if "://" in home:
        scheme, _, rest = home.partition("://")
        if is_bucket(home) and not urlsplit(href).scheme and not href.startswith("//"):  # urljoin knows no buckets
            return f"{scheme}{urljoin(f'https://{rest}', href).removeprefix('https')}"
        return urljoin(home, href)
    if urlsplit(href).scheme or href.startswith(("/", "<")):
        return href
    return str(Path(home).parent / href)


def _item(value: dict[str, Any]) -> pystac.Item:
    try:
        return pystac.Item.from_dict(value)
    except Exception as err:  # pystac raises many kinds for malformed items
        raise DataError(f"item {value.get('id')!r}: not a STAC item ({type(err).__name__}: {err})") from err


# ---- what to say when nothing came


def _only_collection(client: Client, catalog: Catalog) -> str:
    names = [c.id for c in client.get_collections()]
    if len(names) != 1:
        raise InputError(f"collection: not given; catalog {catalog.name} has {', '.join(sorted(names)) or 'none'}")
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
    boxes = (extent.get("spatial") or {}).get("bbox") or [[]]
    spans = (extent.get("temporal") or {}).get("interval") or [["", ""]]
    held = f"bbox {' '.join(f'{v:.6g}' for v in boxes[0])}, datetime {'/'.join(str(t or '..') for t in spans[0])}"
    return NothingFound(f"no items: {asked.words}; the collection holds {held}")


def _nothing_in_local(asked: Asked, values: list[dict[str, Any]]) -> Exception:
    """NothingFound with what the catalog holds, or InputError when it has no such collection."""
    known = {str(v.get("collection")) for v in values if v.get("collection")}
    if asked.collection is not None and known and asked.collection not in known:
        return unknown("collection", asked.collection, known)
    values = [v for v in values if isinstance(v.get("bbox"), list) and asked.collection in (None, v.get("collection"))]
    if not values:
        return NothingFound(f"no items: {asked.words}; catalog {asked.catalog.name} is empty")
    boxes = [(v["bbox"][:2], v["bbox"][len(v["bbox"]) // 2 :][:2]) for v in values]
    bounds = [min(b[0][0] for b in boxes), min(b[0][1] for b in boxes)]
    bounds += [max(b[1][0] for b in boxes), max(b[1][1] for b in boxes)]
    first, last = min(times(v)[0] for v in values), max(times(v)[1] for v in values)
    return NothingFound(
        f"no items: {asked.words}; catalog {asked.catalog.name} holds {len(values)} items in bbox "
        f"{' '.join(f'{v:.6g}' for v in bounds)}, datetime {first:%Y-%m-%dT%H:%M:%SZ}/{last:%Y-%m-%dT%H:%M:%SZ}"
    )
