"""stac-geoparquet: the items of a search as one file, written whole and read back; and a catalog in one file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pystac
from shapely.errors import ShapelyError
from stac_geoparquet.arrow import parse_stac_items_to_arrow, stac_table_to_items, to_parquet

from geoml.errors import DataError
from geoml.io.catalog import ORIGIN_KEY, Catalog
from geoml.io.hrefs import redact
from geoml.io.stac_query import Box
from geoml.io.store import atomic

_CHECKED = ds.ParquetFragmentScanOptions(page_checksum_verification=True)
"""Pages whose checksum does not fit are an error; files without checksums are read as they are."""

_EMPTY: dict[str, Any] = {
    "type": "Feature",
    "stac_version": "1.1.0",
    "id": "",
    "collection": "",
    "geometry": {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 0]]]},
    "bbox": [0.0, 0.0, 1.0, 1.0],
    "stac_extensions": [],
    "properties": {"datetime": "2000-01-01T00:00:00Z"},
    "links": [],
    "assets": {},
}


def write_items(items: Iterable[pystac.Item], path: Path, *, catalog: Catalog | None = None) -> None:
    """Items as stac-geoparquet, atomically, in the given order; hrefs without query strings, so no signature is kept.

    The origin of ``catalog`` is remembered, so that the file as a catalog gets the same band names, masks and signing.
    Values that differ in type from item to item are written as text. Raises DataError when it cannot be written.
    """
    dicts = [_plain(item) for item in items]
    try:
        table = parse_stac_items_to_arrow(_uniform(dicts) if dicts else [_EMPTY]).read_all()
        with atomic(Path(path)) as temporary:
            to_parquet(table if dicts else table.slice(0, 0), temporary, compression="zstd", write_page_checksum=True)
            if (
                catalog is not None and catalog.origin
            ):  # to_parquet sets the file's metadata itself, so ours is added afterwards
                table = pq.read_table(temporary)
                origin = {**(table.schema.metadata or {}), ORIGIN_KEY: catalog.origin.encode()}
                table = table.replace_schema_metadata(origin)
                pq.write_table(table, temporary, compression="zstd", write_page_checksum=True)
    except (pa.ArrowException, ValueError, TypeError, AttributeError, KeyError) as err:
        raise DataError(f"{path}: the items do not fit a table ({err})") from err


def read_items(path: Path) -> list[pystac.Item]:
    """The items of a stac-geoparquet file, in its order. Raises DataError when it is none."""
    items = []
    for value in read_dicts(path):
        try:
            items.append(pystac.Item.from_dict(value))  # with its own self link, where it was found
        except Exception as err:  # pystac raises many kinds for malformed items
            raise DataError(f"{path}: item {value.get('id')!r} is not a STAC item ({err})") from err
    return items


def read_dicts(path: Path, boxes: Sequence[Box] = ()) -> list[dict[str, Any]]:
    """Items of a stac-geoparquet file as dictionaries; with ``boxes`` (degrees) only those whose bbox may touch one."""
    try:
        checked = ds.ParquetFileFormat(default_fragment_scan_options=_CHECKED)
        source = ds.dataset(str(path), format=checked)
        kept = source.to_table(filter=_touching(source.schema, boxes))
        return [_without_nulls(value) for value in stac_table_to_items(kept)]
    except (OSError, pa.ArrowException, ShapelyError, ValueError, KeyError, TypeError, AttributeError) as err:
        raise DataError(f"{path}: not a stac-geoparquet file ({err})") from err


def collections_of(path: Path) -> dict[str, dict[str, Any]]:
    """Documents of the collections that a stac-geoparquet file (1.1) keeps in its metadata, by id; often none."""
    try:
        kept = json.loads((pq.read_schema(path).metadata or {}).get(b"stac-geoparquet", b"{}"))
        listed = {**(kept.get("collections") or {})}
        one = kept.get("collection")
        return {k: v for k, v in [*listed.items(), *([(one["id"], one)] if one else [])] if isinstance(v, dict)}
    except (OSError, pa.ArrowException, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def _touching(schema: pa.Schema, boxes: Sequence[Box]) -> pc.Expression | None:
    if not boxes or "bbox" not in schema.names or not pa.types.is_struct(schema.field("bbox").type):
        return None
    if not {"xmin", "ymin", "xmax", "ymax"} <= {f.name for f in schema.field("bbox").type.fields}:
        return None
    x0, y0, x1, y1 = (pc.field("bbox", name) for name in ("xmin", "ymin", "xmax", "ymax"))
    found = pc.field("bbox").is_null() | (x0 > x1)  # over the antimeridian; the geometry decides later
    for west, south, east, north in boxes:
        for turn in (-360.0, 0.0, 360.0):
            found = found | ((x0 <= east + turn) & (x1 >= west + turn) & (y0 <= north) & (y1 >= south))
    return found


def _plain(item: pystac.Item) -> dict[str, Any]:
    """The item without its object graph and without secrets in hrefs."""
    item = item.clone()
    item.links = [link for link in item.links if link.rel in ("self", "derived_from", "license", "via")]
    value = item.to_dict(include_self_link=True, transform_hrefs=False)
    for thing in [*value["links"], *value["assets"].values()]:
        thing["href"] = redact(str(thing["href"]))
    return value


def _uniform(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The items with values as text wherever a column would mix numbers, text, lists and mappings."""
    kinds: dict[tuple[str, ...], set[str]] = {}

    def look(value: Any, at: tuple[str, ...]) -> None:
        if isinstance(value, dict):
            kinds.setdefault(at, set()).add("mapping")
            for key, inner in value.items():
                look(inner, (*at, key))
        elif isinstance(value, list):
            kinds.setdefault(at, set()).add("list")
            for inner in value:
                look(inner, (*at, "[]"))
        elif value is not None:
            number = isinstance(value, int | float) and not isinstance(value, bool)
            kinds.setdefault(at, set()).add("number" if number else type(value).__name__)

    def settle(value: Any, at: tuple[str, ...]) -> Any:
        if value is not None and len(kinds.get(at, ())) > 1:
            return value if isinstance(value, str) else json.dumps(value, sort_keys=True)
        if isinstance(value, dict):
            return {key: settle(inner, (*at, key)) for key, inner in value.items()}
        return [settle(inner, (*at, "[]")) for inner in value] if isinstance(value, list) else value

    for item in items:
        look({k: v for k, v in item.items() if k != "geometry"}, ())
    return [{k: v if k == "geometry" else settle(v, (k,)) for k, v in item.items()} for item in items]


def _without_nulls(value: dict[str, Any]) -> dict[str, Any]:
    """Columns of other items are null here; an item does not have them (``datetime`` alone may be null)."""
    value["properties"] = {k: v for k, v in value["properties"].items() if v is not None or k == "datetime"}
    return value
