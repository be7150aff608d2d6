"""Items as rows of a table, whatever they contain: what no column can hold is stored as JSON beside the columns.

A table has one type for each column, a box of four numbers and times. An item that does not fit keeps its place in the
table with what fits, and the whole of it as JSON in `WHOLE_ITEM`, from which it is read back as it was.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence

import pyarrow as pa
import shapely
from shapely.errors import ShapelyError
from shapely.geometry import mapping, shape
from shapely.geometry.base import BaseGeometry

from geoml.io.stac.item import Document
from geoml.io.stac.times import FIELDS, STRICT, instant, rfc3339

WHOLE_ITEM = "geoml:item"
"""Property with the whole item as JSON, where the columns do not hold all of it."""

TIMES = (*FIELDS, "created", "updated", "expires", "published", "unpublished")
"""Columns that stac-geoparquet makes times of."""

TOP = (
    "type",
    "stac_version",
    "stac_extensions",
    "id",
    "geometry",
    "bbox",
    "properties",
    "links",
    "assets",
    "collection",
)
"""Columns of every item; properties and fields of other names share the rest."""

UNREADABLE = (
    OSError, pa.ArrowException, ShapelyError, ValueError, KeyError, TypeError, AttributeError,
    OverflowError,  # a time beyond the calendar
)  # fmt: skip
"""What a table that is not a stac-geoparquet file raises."""

INT64_END = 2**63

PROJ_GEOMETRY = "proj:geometry"


def to_rows(items: Sequence[Document]) -> list[Document]:
    """``items`` as dictionaries that one table can hold; equal to what is given where that fits."""
    tidy = [_tidy(item) for item in items]
    _drop_places(tidy)
    pairs = zip(items, _uniform(tidy), strict=True)
    return [row if row == item else _with_whole(row, item) for item, row in pairs]


def minimal_row(row: Document, item: Document) -> Document:
    """A row with nothing but the place, the times and the whole ``item`` as JSON."""
    times = {k: v for k, v in row["properties"].items() if k in FIELDS}
    place: Document = {k: row[k] for k in TOP if k in row and k not in ("stac_version", "links", "assets")}
    empty: Document = {"stac_version": "1.1.0", "stac_extensions": [], "links": [], "assets": {}}
    return _with_whole({**place, **empty, "properties": {"datetime": None, **times}}, item)


def from_row(value: Document) -> Document:
    """An item as it was before `to_rows`. A text that is not of this item is a property like others."""
    text = value["properties"].get(WHOLE_ITEM)
    try:
        whole = json.loads(text) if isinstance(text, str) else None
    except (ValueError, RecursionError):
        return value
    return whole if isinstance(whole, dict) and whole.get("id") == value["id"] else value


def _with_whole(row: Document, item: Document) -> Document:
    return {**row, "properties": {**row["properties"], WHOLE_ITEM: json.dumps(item)}}


def _tidy(item: Document) -> Document:
    """An item as stac-geoparquet takes it: 2D geometry, a bbox, valid times, integers of 64 bits."""
    row: Document = {k: _small(v) or v for k, v in item.items() if k in TOP and k != "geometry"}
    row.setdefault("assets", {})
    properties = {k: v for k, v in row["properties"].items() if k not in TOP and k != WHOLE_ITEM}
    for name in TIMES:
        if properties.get(name) is not None:
            try:
                moment = instant(properties[name])
            except ValueError:
                del properties[name]
                continue
            if not STRICT.fullmatch(properties[name]):
                properties[name] = rfc3339(moment)
    properties.setdefault("datetime", None)
    geometry = item.get("geometry")
    original = _shape(geometry)
    outline = shapely.force_2d(original)
    if outline.geom_type == "GeometryCollection":  # it has no coordinates for stac-geoparquet to read
        outline = shapely.Point() if outline.is_empty else shapely.box(*outline.bounds)
    same = outline.equals_exact(original) and not original.has_z and geometry
    row["geometry"] = geometry if same else mapping(outline)
    if not _is_box(row.get("bbox")):
        row["bbox"] = [0.0] * 4 if outline.is_empty else list(outline.bounds)
    return {**row, "properties": properties}


def _drop_places(items: Sequence[Document]) -> None:
    """Take ``proj:geometry`` away where not every item has a good one: stac-geoparquet reads all as shapes."""

    def holders(item: Document) -> Document:
        return {"": item["properties"], **{k: v for k, v in item["assets"].items() if isinstance(v, dict)}}

    good = Counter(k for item in items for k, v in holders(item).items() if not _shape(v.get(PROJ_GEOMETRY)).is_empty)
    for item in items:
        for key, holder in holders(item).items():
            if PROJ_GEOMETRY in holder and (
                good[key] < len(items) or holder[PROJ_GEOMETRY].get("type") == "GeometryCollection"
            ):
                del holder[PROJ_GEOMETRY]


def _shape(geometry: object) -> BaseGeometry:
    try:
        return shape(geometry)
    except Exception:  # shapely raises many kinds
        return shapely.Point()


def _is_box(bbox: object) -> bool:
    return (
        isinstance(bbox, list)
        and len(bbox) == 4
        and all(isinstance(v, int | float) and not isinstance(v, bool) and abs(v) < 1e6 for v in bbox)
    )


def _small(value: object) -> object:
    """Integers beyond 64 bits as text; mappings without a key, which no column can hold, as None."""
    if isinstance(value, int) and not -INT64_END <= value < INT64_END:
        return str(value)
    if isinstance(value, dict):
        return {k: _small(v) for k, v in value.items()} or None
    return [_small(v) for v in value] if isinstance(value, list) else value


def _uniform(items: Sequence[Document]) -> list[Document]:
    """The items with values as text wherever a column would mix numbers, text, lists and mappings."""
    kinds: dict[tuple[str, ...], set[str]] = {}

    def collect(value: object, at: tuple[str, ...]) -> None:
        if isinstance(value, dict):
            kinds.setdefault(at, set()).add("mapping")
            for key, inner in value.items():
                collect(inner, (*at, key))
        elif isinstance(value, list):
            kinds.setdefault(at, set()).add("list")
            for inner in value:
                collect(inner, (*at, "[]"))
        elif value is not None:
            number = isinstance(value, int | float) and not isinstance(value, bool)
            kinds.setdefault(at, set()).add("number" if number else type(value).__name__)

    def converted(value: object, at: tuple[str, ...]) -> object:
        if value is not None and len(kinds.get(at, ())) > 1:
            return value if isinstance(value, str) else json.dumps(value, sort_keys=True)
        if isinstance(value, dict):
            return {key: converted(inner, (*at, key)) for key, inner in value.items()}
        return [converted(inner, (*at, "[]")) for inner in value] if isinstance(value, list) else value

    for item in items:
        collect({k: v for k, v in item.items() if k != "geometry"}, ())
    if all(len(those) < 2 for those in kinds.values()):
        return list(items)
    return [{k: v if k == "geometry" else converted(v, (k,)) for k, v in item.items()} for item in items]
