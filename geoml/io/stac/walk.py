"""Static catalogs, also old, bare and Windows-made ones: walked as pystac and STAC Browser read them.

What a document is follows from its ``type``, else from its content (before STAC 1.0 catalogs had no type). A backslash
in a relative link is a slash. An item that cannot be read is left out; a catalog below that cannot be read may hold
any number of items, so it is an error.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urljoin, urlsplit

from geoml.errors import DataError, InputError
from geoml.io.stac.catalog import Catalog
from geoml.io.stac.http import StacReader
from geoml.io.stac.item import Document
from geoml.io.stac.item_assets import fill
from geoml.io.stac.left_out import LeftOut
from geoml.io.stores.bucket import bucket_of, is_bucket
from geoml.io.stores.hrefs import redact, scheme

_LINKS = ("collection", "derived_from", "license", "via")
_KINDS = {
    "feature": "Feature",
    "featurecollection": "FeatureCollection",
    "catalog": "Catalog",
    "collection": "Collection",
}


def walk(catalog: Catalog, collection: str | None, left: LeftOut) -> Iterator[Document]:
    """Items below a catalog.json, filled in from their collection; a collection of another name is not opened."""
    reader = StacReader(catalog)
    stack: list[tuple[str, str, Document | None, bool]] = [(catalog.url, "", None, False)]
    seen: set[str] = set()
    collections: dict[str, Document | None] = {}
    while stack:
        href, by, parent, is_item = stack.pop()
        if href in seen:
            continue
        seen.add(href)
        try:
            value = reader.get(href, by)
            kind = kind_of(value, href)
        except (DataError, InputError) as err:
            if not is_item:
                raise
            left.add(redact(href).rpartition("/")[2], err)
            continue
        if kind in ("Feature", "FeatureCollection"):
            for item in [value] if kind == "Feature" else _features(value, left):
                if parent:
                    item["collection"] = item.get("collection") or parent.get("id")
                if about := parent or _collection(item, href, reader, catalog, collections):
                    fill(item, about, catalog.profile(item.get("collection")))
                yield make_absolute(item, href)
        else:
            inside = value if kind == "Collection" else parent
            skip = kind == "Collection" and collection is not None and value.get("id") != collection
            rels = ("child",) if skip else ("child", "item")
            links = [k for k in _links(value) if k.get("rel") in rels and k.get("href")]
            stack += [(resolve_href(href, str(k["href"])), href, inside, k["rel"] == "item") for k in reversed(links)]


def kind_of(value: Document, href: str) -> str:
    """Feature, FeatureCollection, Catalog or Collection, by the type or the content. Raises DataError for none."""
    declared = value.get("type")
    if isinstance(declared, str) and declared.lower() in _KINDS:
        return _KINDS[declared.lower()]
    if declared is None:
        if isinstance(value.get("features"), list):
            return "FeatureCollection"
        if isinstance(value.get("properties"), dict) and ("geometry" in value or "assets" in value):
            return "Feature"
        if "extent" in value:
            return "Collection"
        if isinstance(value.get("links"), list) and ("id" in value or "stac_version" in value):
            return "Catalog"
    raise DataError(f"{redact(href)}: no STAC object (type {str(declared)[:60]!r})")


def _features(value: Document, left: LeftOut) -> Iterator[Document]:
    for item in value.get("features") or []:
        if isinstance(item, dict):
            yield item
        else:
            left.add(None, DataError(f"a feature is {str(item)[:60]!r}; expected an item"))


def _collection(
    item: Document, home: str, reader: StacReader, catalog: Catalog, known: dict[str, Document | None]
) -> Document | None:
    """The collection that an item outside of one links to; None without one, and a local catalog asks no network."""
    link = next((k for k in _links(item) if k.get("rel") == "collection" and k.get("href")), None)
    href = resolve_href(home, str(link["href"])) if link else ""
    if not href or ("://" in href and not catalog.remote):
        return None
    if href not in known:
        try:
            known[href] = reader.get(href, home)
        except (DataError, InputError):
            known[href] = None
    return known[href]


def _links(value: Document) -> list[Document]:
    links = value.get("links")
    return [k for k in links if isinstance(k, dict)] if isinstance(links, list) else []


def make_absolute(value: Document, home: str) -> Document:
    """Make the hrefs of an item absolute, as seen from its own place (``home`` when it names none); returns it."""
    links = _links(value)
    own = next((str(k.get("href")) for k in links if k.get("rel") == "self"), "")
    at = own if _plausible(own, home) else home
    others = [{**k, "href": resolve_href(at, str(k.get("href")))} for k in links if k.get("rel") in _LINKS]
    if isinstance(value.get("links"), list | None):  # else `sound` refuses it
        value["links"] = [{"rel": "self", "href": at, "type": "application/json"}, *others]
    assets = value.get("assets")
    for asset in assets.values() if isinstance(assets, dict) else ():
        if isinstance(asset, dict) and isinstance(asset.get("href"), str):
            asset["href"] = resolve_href(at, asset["href"])
    return value


def _plausible(own: str, home: str) -> bool:
    """Whether an item read from the URL ``home`` may call ``own`` its place: on the web, or in its own bucket."""
    return "://" in home and (scheme(own) in ("https", "http") or bucket_of(own) == bucket_of(home) != "")


def resolve_href(home: str, href: str) -> str:
    """``href`` as seen from the document ``home``; what is not a relative path stays, to be judged when it is read."""
    try:
        scheme = urlsplit(href).scheme
        if "\\" in href and not scheme and not href.startswith(("\\\\", "<", "/")):
            href = href.replace("\\", "/")
        if "://" in home:
            kind, _, rest = home.partition("://")
            if is_bucket(home) and not scheme and not href.startswith("//"):  # urljoin knows no buckets
                return f"{kind}{urljoin(f'https://{rest}', href).removeprefix('https')}"
            return urljoin(home, href)
    except ValueError:  # no URL
        return href
    if scheme or href.startswith(("/", "<")):
        return href
    return str(Path(home).parent / href)
