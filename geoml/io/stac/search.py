"""Search: one query, one result, for a STAC API, a static catalog or a stac-geoparquet file."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import quote

import numpy as np
import pystac
import shapely
from pystac_client import Client
from pystac_client.conformance import ConformanceClasses
from shapely.errors import ShapelyError
from shapely.geometry import MultiPolygon

from geoml.errors import DataError, InputError, NothingFound, unknown
from geoml.io.stac import times as stac_times
from geoml.io.stac.catalog import Catalog, Profile, catalog_names, local_copy, open_catalog
from geoml.io.stac.http import StacReader, translate
from geoml.io.stac.item import Document, check_structure, footprint, normalise, to_item
from geoml.io.stac.item_assets import fill
from geoml.io.stac.left_out import LeftOut, summary, with_left_out
from geoml.io.stac.pages import PAGE, Parameters, pages
from geoml.io.stac.query import (
    Box,
    CheckedQuery,
    check_query,
    interval,
    matches,
    parse_datetime,
    sort_items,
    unique_items,
)
from geoml.io.stac.walk import make_absolute, walk
from geoml.recipe import Query
from geoml.texts import counted, listed

if TYPE_CHECKING:
    from geoml.io.stac.table import read_items, write_items

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


def __getattr__(name: str) -> object:
    if name in ("read_items", "write_items"):
        from geoml.io.stac import table  # pyarrow and pandas, which a catalog of JSON does without

        return vars(table)[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def search(
    catalog: Catalog, query: Query, region: MultiPolygon, datetime: str, left_out: LeftOut | None = None
) -> list[pystac.Item]:
    """Items that touch ``region`` (degrees) and ``datetime`` (one entry of the query) and pass the query's filter.

    They are ordered by ``query.sortby``, then newest first, then by id; ``query.limit`` cuts that order. Each id occurs
    once, and asset hrefs are absolute. Everything that pystac can read is read. An item that cannot be placed in time
    or space is left out: added to ``left_out`` and named in one warning. With ``query.strict`` it is an error.

    Raises InputError for a wrong datetime, filter or collection, NothingFound (with the query and the extent of the
    catalog), DataError for an incomplete list of items, if no item found can be used, or with
    ``strict``, and TransientError if the catalog does not answer.
    """
    checked = check_query(catalog, query, region, datetime)
    selection = _Selection(checked, LeftOut(query.strict))
    values = _from_api(checked, selection) if catalog.kind == "api" else _from_local(checked, selection)
    items: list[pystac.Item] = []
    for value in sort_items(unique_items(values), checked.sortby):
        if len(items) == query.limit:
            break
        try:
            items.append(to_item(value))
        except DataError as err:
            selection.left.add(value["id"], err)
    stac_times.warn_about(catalog.name, selection.notes)
    if not items:
        raise selection.left.none_left(f"catalog {catalog.name}")
    selection.left.warn(f"catalog {catalog.name}")
    if left_out is not None:
        left_out.update(selection.left)
    return items


@dataclass
class _Selection:
    """Selects what a query asks for from raw items; ``notes`` say which odd times were read how."""

    query: CheckedQuery
    left: LeftOut
    notes: list[tuple[str, str]] = field(default_factory=list)
    usable: int = 0
    """Items that could be placed, whether the query asks for them or not."""

    def selects(self, value: object, collection: str | None, *, filtered: bool = False) -> bool:
        """True for an item that the query asks for; one that cannot be placed is left out."""
        name = value.get("id") if isinstance(value, dict) else None
        try:
            if not isinstance(value, dict):
                raise DataError(f"a feature is {str(value)[:60]!r}; expected an item")  # noqa: TRY301
            if collection is not None and value.get("collection") != collection:
                return False
            check_structure(value)
            notes = normalise(value)
            selected = matches(value, self.query, collection, filtered=filtered)
        except DataError as err:
            self.left.add(name, err)
            return False
        self.usable += 1
        if selected:
            self.notes += [(value["id"], note) for note in notes]
        return selected

    def nothing(self, otherwise: Callable[[], Exception]) -> Exception:
        """The error for when nothing is selected; ``otherwise`` makes it unless every item was unusable."""
        if self.left.items and not self.usable:
            return self.left.none_left(f"catalog {self.query.catalog.name}")
        error = otherwise()
        if self.left.items and isinstance(error, NothingFound):
            return with_left_out(NothingFound(f"{error}; {summary(self.left.items)}"), self.left)
        return error


# ---- a STAC API


def _from_api(checked: CheckedQuery, selection: _Selection) -> list[Document]:
    catalog = checked.catalog
    reader = StacReader(catalog)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # servers that do more than they declare
            client = Client.open(catalog.url, stac_io=reader)
            collection = checked.collection or _only_collection(client, catalog)
            values: list[Document] = []
            for box in checked.boxes:
                values += _api_box(client, reader, checked, collection, box, selection)
    except Exception as err:
        translate(err, catalog.name)
    if not values:
        raise selection.nothing(lambda: _nothing_in_api(reader, checked, collection))
    if about := _collection(reader, catalog, collection):
        for value in values:
            fill(value, about, catalog.profile(collection))
    return values


def _api_box(
    client: Client, reader: StacReader, checked: CheckedQuery, collection: str, box: Box, selection: _Selection
) -> list[Document]:
    """Items in one box; with a limit it ends as soon as enough were found in the right order."""
    order = None
    if (checked.sortby or checked.limit) and client.conforms_to(ConformanceClasses.SORT):
        keys = [*checked.sortby, ("datetime", True), ("id", False)]
        names = {k: k if k in ("id", "collection") else f"properties.{k}" for k, _ in keys}
        order = [{"field": names[k], "direction": "desc" if down else "asc"} for k, down in dict(keys).items()]
    filters = client.conforms_to(ConformanceClasses.FILTER)
    parameters: Parameters = {
        "collections": [collection],
        "bbox": box,
        "datetime": interval(checked.start, checked.end),
        "filter": checked.filter.to_json() if checked.filter else None,
        "sortby": order,
        "limit": min(PAGE, checked.limit or PAGE),
    }
    home = f"{checked.catalog.url}/collections/{collection}/items"
    selected: list[Document] = []
    ids: set[str] = set()
    droppable = ("sortby",) if filters else ("sortby", "filter")
    for page in pages(client, reader, checked.catalog.name, parameters, droppable):
        for value in page:
            if isinstance(value, dict):
                make_absolute(value, f"{home}/{value.get('id')}")
            if selection.selects(value, collection, filtered=filters):
                selected.append(value)
                ids.add(value["id"])
        if order and checked.limit is not None and len(ids) >= checked.limit:
            once = unique_items(selected)
            if sort_items(once, checked.sortby) == once:
                break
    return selected


def _collection(reader: StacReader, catalog: Catalog, collection: str) -> Document | None:
    """What the API says of the collection; None if it says nothing. Raises TransientError without an answer."""
    try:
        return reader.get(f"{catalog.url}/collections/{quote(collection, safe='')}")
    except (InputError, DataError):
        return None


# ---- a static catalog or a stac-geoparquet file


def _from_local(checked: CheckedQuery, selection: _Selection) -> list[Document]:
    values = _all_local(checked, checked.boxes, checked.collection, selection.left)
    collections = _collections(values)
    if checked.collection is None and len(collections) > 1:
        raise InputError(f"collection: not given; catalog {checked.catalog.name} has {listed(sorted(collections))}")
    selected = [v for v in values if selection.selects(v, checked.collection if collections else None)]
    if not selected:
        raise selection.nothing(lambda: _nothing_in_local(checked, _all_local(checked, (), None, LeftOut())))
    return selected


def _collections(values: Iterable[Mapping[str, object]]) -> set[str]:
    return {name for v in values if isinstance(name := v.get("collection"), str)}


def _all_local(checked: CheckedQuery, boxes: tuple[Box, ...], collection: str | None, left: LeftOut) -> list[Document]:
    """Items of a local catalog; those of a parquet file only where their bbox may touch ``boxes`` (none: all)."""
    if checked.catalog.kind == "static":
        return list(walk(checked.catalog, collection, left))
    from geoml.io.stac.table import collections_of, item_origins, read_dicts

    path = local_copy(checked.catalog.url)
    home = (lambda _: checked.catalog.url) if checked.catalog.remote else item_origins(path)
    values, about = [make_absolute(v, home(v)) for v in read_dicts(path, boxes)], collections_of(path)
    for value in values:
        if isinstance(name := value.get("collection"), str) and name in about:
            fill(value, about[name], checked.catalog.profile(name))
    return values


# ---- what to say when nothing came


def _only_collection(client: Client, catalog: Catalog) -> str:
    names = [c.id for c in client.get_collections()]
    if len(names) != 1:
        raise InputError(f"collection: not given; catalog {catalog.name} has {listed(sorted(names))}")
    return names[0]


def _nothing_in_api(reader: StacReader, checked: CheckedQuery, collection: str) -> Exception:
    """NothingFound with the collection's extent, or InputError if there is no such collection."""
    url = checked.catalog.url
    try:
        declared = reader.get(f"{url}/collections/{quote(collection, safe='')}").get("extent") or {}
    except InputError:
        documents = reader.get(f"{url}/collections").get("collections") or []
        names = [str(c.get("id")) for c in documents if isinstance(c, dict)]
        return unknown("collection", collection, names)
    try:
        boxes = (declared.get("spatial") or {}).get("bbox") or [[]]
        spans = (declared.get("temporal") or {}).get("interval") or [["", ""]]
        extent = f"bbox {' '.join(f'{v:.6g}' for v in boxes[0])}, datetime {'/'.join(str(t or '..') for t in spans[0])}"
        extent += _swapped(checked, [[*box[:2], *box[-len(box) // 2 :][:2]] for box in boxes])
    except (AttributeError, TypeError, ValueError, LookupError, ShapelyError):
        extent = "what its extent does not say"
    return NothingFound(f"no items: {checked.words}; the collection holds {extent}")


def _nothing_in_local(checked: CheckedQuery, values: Sequence[Document]) -> Exception:
    """NothingFound with what the catalog holds, or InputError if it has no such collection."""
    collections = _collections(values)
    if checked.collection is not None and collections and checked.collection not in collections:
        return unknown("collection", checked.collection, collections)
    boxes, spans = [], []
    for value in values:
        if checked.collection is None or not collections or value.get("collection") == checked.collection:
            try:
                check_structure(value)
                normalise(value)
                boxes.append(footprint(value).bounds)
                spans.append(stac_times.span(value["properties"]))
            except (DataError, ShapelyError):
                continue
    if not boxes:
        return NothingFound(f"no items: {checked.words}; catalog {checked.catalog.name} is empty")
    bounds = shapely.total_bounds(shapely.box(*np.transpose(boxes)))
    first, last = min(s[0] for s in spans), max(s[1] for s in spans)
    return NothingFound(
        f"no items: {checked.words}; catalog {checked.catalog.name} holds {counted(len(boxes), 'item')} in bbox "
        f"{' '.join(f'{v:.6g}' for v in bounds)}, datetime {first:%Y-%m-%dT%H:%M:%SZ}/{last:%Y-%m-%dT%H:%M:%SZ}"
        f"{_swapped(checked, boxes)}"
    )


def _swapped(checked: CheckedQuery, boxes: Sequence[Sequence[float]]) -> str:
    """A hint where the region lies on nothing, and would with its longitudes and latitudes exchanged."""
    there = shapely.box(*np.transpose(boxes))
    if shapely.intersects(checked.region, there).any():
        return ""
    turned = shapely.transform(checked.region, lambda c: c[:, ::-1])
    if not shapely.intersects(turned, there).any():
        return ""
    return "; with longitude and latitude exchanged the region would meet them, expected longitude first"
