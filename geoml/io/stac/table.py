"""stac-geoparquet: the items of a search as one file, written whole and read back; and a catalog in one file."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pystac
import shapely
from stac_geoparquet.arrow import _api, parse_stac_items_to_arrow, stac_table_to_items, to_parquet

from geoml.errors import DataError, GeomlError
from geoml.io.stac.catalog import ORIGIN_KEY, Catalog
from geoml.io.stac.item import Document, unsign
from geoml.io.stac.query import Box
from geoml.io.stac.rows import PROJ_GEOMETRY, UNREADABLE, from_row, to_rows
from geoml.io.stac.rows import minimal_row as bare_row
from geoml.io.stores.bucket import is_bucket
from geoml.io.stores.remote import is_url
from geoml.io.stores.store import atomic, check_regular

log = logging.getLogger(__name__)

_api.memlog = lambda msg: None  # it walks all memory maps of the process, several times a table, for a line in a log

LINKS = ("self", "derived_from", "license", "via")
"""Relations of links that are kept."""

LEFT_OUT_KEY = b"geoml:left_out"
"""Metadata of ``sources.parquet``: items that cannot be used, and why, as JSON."""

SELF_LINKS_KEY = b"geoml:found"
"""Metadata of a file whose self links say where its items come from: remote ones that name objects stay remote."""

_CHECKED = ds.ParquetFragmentScanOptions(page_checksum_verification=True)
"""Pages whose checksum does not fit are an error; files without checksums are read as they are."""

ROWS = 1000
"""Items of a row group: what is read for one of them."""

_EMPTY: Document = {
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


def write_items(
    items: Iterable[pystac.Item | Document],
    path: Path,
    *,
    catalog: Catalog | None = None,
    left_out: Mapping[str, str] | None = None,
    whole: bool = False,
) -> None:
    """Items as stac-geoparquet, atomically, in the given order; hrefs without query strings, so no signature is kept.

    The origin of ``catalog`` is remembered, so that the file as a catalog gets the same band names, masks and signing,
    and so are the items that were ``left_out``. Values that no column can hold are kept beside the columns, see
    `geoml.io.stac.rows`; with ``whole`` all of them are. Raises DataError if the file cannot be written.
    """
    values = [_plain(item) for item in items]
    metadata = {ORIGIN_KEY: catalog.origin.encode()} if catalog is not None and catalog.origin else {}
    if left_out:
        metadata[LEFT_OUT_KEY] = json.dumps(dict(left_out), sort_keys=True).encode()
    if any(map(_asks_buckets, values)):
        metadata[SELF_LINKS_KEY] = b"self"
    path, table = Path(path), to_rows(values)
    if whole:
        table = [bare_row(row, value) for row, value in zip(table, values, strict=True)]

    def works(some: Sequence[Document]) -> bool:
        try:
            _write(some, path.with_name(f".{path.name}.trial"), {})
        except DataError:
            raise
        except Exception:  # what a table cannot hold has many kinds
            return False
        finally:
            path.with_name(f".{path.name}.trial").unlink(missing_ok=True)
        return True

    try:
        _write(table, path, metadata)
    except GeomlError:
        raise
    except Exception as err:  # pyarrow, shapely and stac-geoparquet each have several
        log.info("%s: some items fit no column and are kept as JSON (%s)", path, err)
        odd = [not works([row]) for row in table]
        odd = odd if any(odd) else [True] * len(table)  # each one makes a table by itself, and all of them none
        _write([bare_row(r, v) if bad else r for r, v, bad in zip(table, values, odd, strict=True)], path, metadata)


def _write(dicts: Sequence[Document], path: Path, metadata: Mapping[bytes, bytes]) -> None:
    table = parse_stac_items_to_arrow(list(dicts) or [_EMPTY]).read_all()
    with atomic(path) as temporary:
        rows = table.combine_chunks().to_reader(ROWS) if dicts else table.slice(0, 0)
        to_parquet(rows, temporary, compression="zstd", write_page_checksum=True)
        if metadata:  # to_parquet sets the file's metadata itself, so ours is added afterwards
            table = pq.read_table(temporary)
            table = table.replace_schema_metadata({**(table.schema.metadata or {}), **metadata})
            pq.write_table(table, temporary, ROWS, compression="zstd", write_page_checksum=True)


def read_items(path: Path) -> list[pystac.Item]:
    """The items of a stac-geoparquet file, in its order. Raises DataError if it is none."""
    return _made(read_dicts(path), path)


def items_of(rows: pa.Table, path: Path) -> list[pystac.Item]:
    """The items of some rows of the stac-geoparquet file at ``path``. Raises DataError for damaged ones."""
    try:
        return _made(_dicts(rows), path)
    except UNREADABLE as err:
        raise DataError(f"{path}: not a stac-geoparquet file ({err})") from err


def _made(values: Iterable[Document], path: Path) -> list[pystac.Item]:
    items = []
    for value in values:
        try:
            items.append(pystac.Item.from_dict(value, preserve_dict=False))  # with its self link, where it was found
        except Exception as err:  # pystac raises many kinds for malformed items
            raise DataError(f"{path}: item {value.get('id')!r} is not a STAC item ({err})") from err
    return items


def read_dicts(path: Path, boxes: Sequence[Box] = ()) -> list[Document]:
    """Items of a stac-geoparquet file as dictionaries; with ``boxes`` (degrees) only those whose bbox may touch one."""
    try:
        checked = ds.ParquetFileFormat(default_fragment_scan_options=_CHECKED)
        source = ds.dataset(str(path if Path(path).is_dir() else check_regular(Path(path))), format=checked)
        table = source.to_table(filter=_touching(source.schema, boxes))
        return _dicts(table)
    except UNREADABLE as err:
        raise DataError(f"{path}: not a stac-geoparquet file ({err})") from err


def _dicts(table: pa.Table) -> list[Document]:
    return [from_row(_without_nulls(value)) for value in stac_table_to_items(_without_null_places(table))]


def item_origins(path: Path) -> Callable[[Document], str]:
    """Where each item of a stac-geoparquet file comes from: its self link where the file says so, else the file."""

    def own(value: Document) -> str:
        links = value.get("links")
        hrefs = [str(k.get("href")) for k in links or () if isinstance(k, dict) and k.get("rel") == "self"]
        return next((h for h in hrefs if is_url(h)), str(path))

    try:
        marked = SELF_LINKS_KEY in (pq.read_schema(path).metadata or {})
    except (OSError, pa.ArrowException):
        marked = False
    return own if marked else lambda _: str(path)


def collections_of(path: Path) -> dict[str, Document]:
    """Documents of the collections that a stac-geoparquet file (1.1) keeps in its metadata, by id; often none."""
    try:
        metadata = json.loads((pq.read_schema(path).metadata or {}).get(b"stac-geoparquet", b"{}"))
        documents = {**(metadata.get("collections") or {})}
        if one := metadata.get("collection"):
            documents[one["id"]] = one
        return {k: v for k, v in documents.items() if isinstance(v, dict)}
    except (OSError, pa.ArrowException, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def _without_null_places(table: pa.Table) -> pa.Table:
    """The table without nulls that stac-geoparquet cannot read: a point without coordinates, a box of NaN."""
    at = table.schema.get_field_index("geometry")
    if at >= 0 and table.column(at).null_count:
        column, kind = table.column(at), table.schema.field(at)
        empty = pa.scalar(shapely.to_wkb(shapely.Point(), flavor="iso"), type=column.type)
        table = table.set_column(at, kind, pc.fill_null(column, empty))
    at = table.schema.get_field_index("bbox")
    if at >= 0 and pa.types.is_struct(table.schema.field(at).type):
        boxes = table.column(at).combine_chunks()
        if boxes.null_count or any(p.null_count for p in boxes.flatten()):
            sides = [pc.struct_field(boxes, k).cast(pa.float64()) for k in range(boxes.type.num_fields)]
            parts = [pc.fill_null(side, float("nan")) for side in sides]
            table = table.set_column(at, "bbox", pa.StructArray.from_arrays(parts, names=[f.name for f in boxes.type]))
    if PROJ_GEOMETRY in table.column_names and table.column(PROJ_GEOMETRY).null_count:
        table = table.drop_columns([PROJ_GEOMETRY])  # of other items; nothing here needs it
    return table


def _touching(schema: pa.Schema, boxes: Sequence[Box]) -> pc.Expression | None:
    if not boxes or "bbox" not in schema.names or not pa.types.is_struct(schema.field("bbox").type):
        return None
    if not {"xmin", "ymin", "xmax", "ymax"} <= {f.name for f in schema.field("bbox").type.fields}:
        return None
    x0, y0, x1, y1 = (pc.field("bbox", name) for name in ("xmin", "ymin", "xmax", "ymax"))
    touching = pc.field("bbox").is_null() | (x0 > x1)  # over the antimeridian; the geometry decides later
    for west, south, east, north in boxes:
        for turn in (-360.0, 0.0, 360.0):
            touching = touching | ((x0 <= east + turn) & (x1 >= west + turn) & (y0 <= north) & (y1 >= south))
    return touching


def _plain(item: pystac.Item | Document) -> Document:
    """The item without its object graph and without secrets in hrefs."""
    if isinstance(item, dict):
        value = {**item, "assets": {key: dict(asset) for key, asset in item["assets"].items()}}
        value["links"] = [dict(link) for link in item["links"] if link["rel"] in LINKS]
    else:
        item = item.clone()
        item.links = [link for link in item.links if link.rel in LINKS]
        value = item.to_dict(include_self_link=True, transform_hrefs=False)
    unsign(value)
    return value


def _asks_buckets(value: Document) -> bool:
    """Whether a remote item names objects, so that the keys they are read with hang on where it comes from."""
    remote = any(k["rel"] == "self" and is_url(k["href"]) for k in value["links"])
    return remote and any(is_bucket(asset["href"]) for asset in value["assets"].values())


def _without_nulls(value: Document) -> Document:
    """Columns of other items are null here; an item does not have them (``datetime`` alone may be null)."""
    value["properties"] = {k: v for k, v in value["properties"].items() if v is not None or k == "datetime"}
    return value
