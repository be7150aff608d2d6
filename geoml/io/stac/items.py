"""STAC 1.1 out: one item for each block, one collection for each run.

Specifications: https://github.com/radiantearth/stac-spec and https://github.com/stac-extensions. Items hold no clock
time, so that the same run writes the same bytes.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import os
import posixpath
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import pystac
import shapely
from numpy.typing import NDArray
from shapely.geometry import MultiPolygon, mapping
from shapely.geometry.base import BaseGeometry

from geoml.errors import DataError, NothingFound
from geoml.grid.plane import Block
from geoml.grid.region import from_geometry
from geoml.io.cards.map_card import MapCard
from geoml.io.software import software
from geoml.io.stac.item import unsign
from geoml.io.stac.item_summary import ItemSummary
from geoml.io.stac.times import rfc3339, span
from geoml.io.stores.multihash import multihash
from geoml.io.stores.store import read_small, within, write_json
from geoml.redacted import bare

COG = "image/tiff; application=geotiff; profile=cloud-optimized"
PARQUET = "application/vnd.apache.parquet"

LARGEST_ITEM = 2**26
"""Bytes; a larger file in ``items`` is not an item of a block."""

OVERVIEW = "geoml:overview"
"""Of an asset: how its coarser levels were made, ``mode`` or ``nearest``; averaged without it."""
MADE = "geoml:made_of"
"""Field of a catalog and a collection that `write_catalog` wrote, and may write again."""

KEPT = ("derived_from", "license", "via")
"""Relations of links that say where an item comes from."""

LONGEST_NAME = 200
"""Bytes of a file name without its suffix."""

_EXTENSIONS = {
    "proj": "projection/v2.0.0",
    "raster": "raster/v2.0.0",
    "eo": "eo/v2.0.0",
    "classification": "classification/v2.0.0",
    "processing": "processing/v1.2.0",
    "file": "file/v2.1.0",
    "forecast": "forecast/v0.2.0",
    "pc": "pointcloud/v1.0.0",
    "renders": "render/v2.0.0",
}
"""Extensions and their versions by the prefix of their fields."""


@dataclass(frozen=True, slots=True)
class BandInfo:
    """One band of a raster asset; ``physical = stored * scale + offset``. ``statistics`` are of the stored values."""

    name: str
    data_type: str
    nodata: float | None = None
    scale: float = 1.0
    offset: float = 0.0
    unit: str | None = None
    description: str = ""
    statistics: Mapping[str, float | None] | None = None
    """minimum, maximum, mean, stddev, valid_percent; None and NaN are left out."""


@dataclass(frozen=True)
class AssetInfo:
    """One written file: ``size`` in bytes, ``sha256`` as 64 hexadecimal digits, further ``fields`` of the asset."""

    path: Path
    title: str
    roles: tuple[str, ...] = ("data",)
    media_type: str = COG
    size: int | None = None
    sha256: str | None = None
    bands: tuple[BandInfo, ...] = ()
    fields: Mapping[str, object] = field(default_factory=dict)
    overview: str = "average"
    """How coarser levels were made: ``average``, ``mode`` or ``nearest``."""


def block_item(
    block: Block,
    *,
    collection: str,
    footprint: BaseGeometry | None,
    datetime_range: tuple[dt.datetime, dt.datetime],
    assets: Mapping[str, AssetInfo],
    card: MapCard,
    sources: Sequence[pystac.Item],
    recipe_hash: str,
    properties: Mapping[str, object] | None = None,
    model_href: str | None = None,
) -> pystac.Item:
    """The item of a block: where, when, of which sources, by which model, and every file with its checksum.

    Args:
        block: gives the id and the grid.
        collection: id of the collection.
        footprint: polygon in degrees; None stands for the bounds of the block.
        datetime_range: first and last time of the sources, with time zone.
        assets: by key; their paths become relative when the item is written.
        card: of the model.
        sources: the items that were read; ``derived_from`` links point to them, without signatures.
        recipe_hash: tells whether the block has to be done again.
        properties: further properties.
        model_href: where the STAC item of the model lies.
    """
    shape = block_footprint(block) if footprint is None else footprint
    first, last = (t.astimezone(dt.UTC) for t in datetime_range)
    box = block.geobox
    item = pystac.Item(
        id=block.id,
        geometry=mapping(shape),
        bbox=bbox_of(shape),
        datetime=first if first == last else None,
        start_datetime=first,
        end_datetime=last,
        collection=collection,
        properties={
            "gsd": card.gsd,
            **projection(block.plane.crs),
            "proj:shape": list(block.window.shape),
            "proj:transform": list(box.transform)[:6],
            "proj:bbox": list(block.plane.bounds(block.window)),
            "processing:level": "L4",
            "processing:lineage": f"{card.task} with the model {card.name} {card.version}",
            "processing:software": dict(software()),
            "geoml:recipe_hash": recipe_hash,
            "geoml:model": card.name,
            "geoml:model_sha256": card.sha256,
            "geoml:sources": [f"{s.collection_id}/{s.id}" if s.collection_id else s.id for s in sources],
            **(properties or {}),
        },
    )
    for key, info in assets.items():
        item.add_asset(key, _asset(info, card))
    for source in sources:
        if href := source.get_self_href():
            item.add_link(pystac.Link("derived_from", bare(href), "application/geo+json", title=source.id))
    if model_href:
        item.add_link(_model_link(model_href, card))
    item.stac_extensions = extensions(item.properties, *(a.extra_fields for a in item.assets.values()))
    return item


def block_footprint(block: Block, valid: NDArray[np.bool_] | None = None) -> BaseGeometry:
    """Outline of a block in degrees, or with ``valid`` (h, w) the convex hull of its pixels that are True.

    Cut at the antimeridian. Without a single valid pixel it is the outline of the block.
    """
    w = block.window
    hull: BaseGeometry = shapely.box(w.x0, w.y0, w.x1, w.y1)
    if valid is not None and valid.any():
        rows = np.flatnonzero(valid.any(axis=1))
        left = w.x0 + valid[rows].argmax(axis=1)
        right = w.x1 - valid[rows, ::-1].argmax(axis=1)
        corners = [np.column_stack([x, w.y0 + rows + down]) for x in (left, right) for down in (0, 1)]
        hull = shapely.MultiPoint(np.concatenate(corners)).convex_hull
    to = pyproj.Transformer.from_crs(block.plane.crs, "EPSG:4326", always_xy=True)
    res, anchor = block.plane.res, block.plane.anchor

    def degrees(c: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.column_stack(to.transform((c[:, 0] + anchor) * res, -(c[:, 1] + anchor) * res))

    outline = shapely.transform(shapely.segmentize(hull, max(w.shape) / 8), degrees)
    parts = from_geometry(outline)
    return shapely.orient_polygons(parts.geoms[0] if len(parts.geoms) == 1 else parts)


def write_item(item: pystac.Item, path: Path, root: Path | None = None) -> None:
    """Write an item atomically as ``<run>/items/<id>.json``: files and ``../collection.json`` by relative hrefs.

    With ``root``, the folder of a run that will move, hrefs to local files outside of it stay absolute.
    Raises DataError if it cannot be written.
    """
    value = item.to_dict(include_self_link=False, transform_hrefs=False)
    upwards = [link for link in value["links"] if link["rel"] not in {"root", "parent", "collection"}]
    for link in upwards:
        link["href"] = _relative(link["href"], path.parent, root)
    above = {"href": "../collection.json", "type": "application/json"}
    value["links"] = [{"rel": rel, **above} for rel in ("root", "parent", "collection")] + upwards
    for asset in value["assets"].values():
        asset["href"] = _relative(asset["href"], path.parent)
    write_json(path, value)


def read_item(path: Path) -> pystac.Item:
    """An item that ``write_item`` wrote; hrefs stay as they are. Raises DataError if it is not readable."""
    try:
        item = pystac.Item.from_dict(json.loads(read_small(path, LARGEST_ITEM) or b""), preserve_dict=False)
        item.set_self_href(str(path))  # not from_file: to pystac a # in the name of a folder ends the path
        return item
    except MemoryError:
        raise
    except Exception as err:  # pystac raises many kinds for malformed items
        raise DataError(f"{path}: not a readable STAC item ({err})") from err


def files_are_there(item: Mapping[str, Any], size: Callable[[str], int | None]) -> bool:
    """True when every file of an item's JSON lies where its href says, with its ``file:size``.

    ``size`` gives the bytes of a file of the run by its name, None when it is not there. Sizes tell a file that was
    deleted or cut short, at the price of one request each; checksums are not compared.
    """
    for asset in item["assets"].values():
        actual = size(asset_name(asset["href"]))
        if actual is None or actual != asset.get("file:size", actual):
            return False
    return True


def asset_name(href: str) -> str:
    """The name in the run of a file that an item in its ``items`` folder calls ``href``."""
    return posixpath.normpath(f"items/{href}")


def collection(
    blocks: ItemSummary,
    *,
    id: str,
    title: str,
    description: str,
    card: MapCard,
    assets: Mapping[str, AssetInfo] | None = None,
    model_href: str | None = None,
    renders: Mapping[str, object] | None = None,
) -> pystac.Collection:
    """The collection of a run over the items of its blocks: extent, summaries, item_assets, a link to every item.

    ``assets`` are files of the whole run, such as ``features.parquet``; ``renders`` says how to show those of the
    items (https://github.com/stac-extensions/render). Raises NothingFound if there is no item.
    """
    if blocks.times is None:
        raise NothingFound("collection: no item to describe")
    extent = pystac.Extent(pystac.SpatialExtent([blocks.bbox]), pystac.TemporalExtent([list(blocks.times)]))
    summaries = {
        "gsd": [card.gsd],
        "proj:code": sorted(blocks.codes),
        "processing:level": ["L4"],
        "geoml:model": [card.name],
    }
    result = pystac.Collection(
        id=id,
        title=title,
        description=description,
        extent=extent,
        license="other",
        keywords=[card.task, card.name],
        summaries=pystac.Summaries({k: v for k, v in summaries.items() if v}),
        extra_fields={"item_assets": blocks.item_assets, **({"renders": dict(renders)} if renders else {})},
    )
    for key, info in (assets or {}).items():
        result.add_asset(key, _asset(info, card))
    for name in sorted(blocks.ids):
        result.add_link(pystac.Link("item", f"./items/{name}.json", "application/geo+json"))
    if model_href:
        result.add_link(_model_link(model_href, card))
    files = (a.extra_fields for a in result.assets.values())
    result.stac_extensions = extensions(
        summaries, result.extra_fields, *files, *result.extra_fields["item_assets"].values()
    )
    return result


def write_collection(collection: pystac.Collection, path: Path) -> None:
    """Write a collection atomically as ``<run>/collection.json``. Raises DataError if it cannot be written."""
    value = collection.to_dict(include_self_link=False, transform_hrefs=False)
    links = [link for link in value["links"] if link["rel"] != "root"]
    for part in (*links, *value.get("assets", {}).values()):
        part["href"] = _relative(part["href"], path.parent)
    value["links"] = [{"rel": "root", "href": "./collection.json", "type": "application/json"}, *links]
    write_json(path, value)


def _model_link(href: str, card: MapCard) -> pystac.Link:
    named = {"mlm:name": card.name}
    return pystac.Link("derived_from", bare(href), "application/geo+json", extra_fields=named)


def _asset(info: AssetInfo, card: MapCard) -> pystac.Asset:
    extra: dict[str, object] = {}
    if info.size is not None:
        extra["file:size"] = info.size
    if info.sha256:
        extra["file:checksum"] = multihash(info.sha256)
    if info.bands:
        extra["bands"] = [_band(b, card) for b in info.bands]
    if info.overview != "average":
        extra[OVERVIEW] = info.overview
    extra |= info.fields
    href = str(info.path.absolute())
    return pystac.Asset(href, title=info.title, media_type=info.media_type, roles=list(info.roles), extra_fields=extra)


def _band(band: BandInfo, card: MapCard) -> dict[str, object]:
    value: dict[str, object] = {"name": band.name, "data_type": band.data_type, "raster:spatial_resolution": card.gsd}
    if band.nodata is not None:
        value["nodata"] = band.nodata if np.isfinite(band.nodata) else "nan"
    if (band.scale, band.offset) != (1.0, 0.0):
        value |= {"raster:scale": band.scale, "raster:offset": band.offset}
    if band.unit:
        value["unit"] = band.unit
    if band.description:
        value["description"] = band.description
    if numbers := {k: v for k, v in (band.statistics or {}).items() if v is not None and np.isfinite(v)}:
        value["statistics"] = numbers
    return value


def extensions(*parts: Mapping[str, Any]) -> list[str]:
    """Schemas of the extensions that have a field in one of the parts or in their bands."""
    bands = (band for part in parts for band in part.get("bands", ()))
    prefixes = {key.partition(":")[0] for part in (*parts, *bands) for key in part}
    known = prefixes & _EXTENSIONS.keys()
    return sorted(f"https://stac-extensions.github.io/{_EXTENSIONS[p]}/schema.json" for p in known)


def projection(text: str) -> dict[str, object]:
    """proj:code of a CRS, or its PROJJSON when no authority has a code for it."""
    crs = pyproj.CRS.from_user_input(text)
    if authority := crs.to_authority():
        return {"proj:code": ":".join(authority)}
    return {"proj:code": None, "proj:projjson": crs.to_json_dict()}


def bbox_of(shape: BaseGeometry) -> list[float]:
    """RFC 7946 bounds: west > east when the parts meet at the antimeridian."""
    west, south, east, north = shape.bounds
    if isinstance(shape, MultiPolygon) and west <= -180 and east >= 180:
        west = min(p.bounds[0] for p in shape.geoms if p.bounds[2] >= 180)
        east = max(p.bounds[2] for p in shape.geoms if p.bounds[0] <= -180)
    return [west, south, east, north]


def write_catalog(
    items: Sequence[pystac.Item], folder: Path, description: str, *, collection: str | None = None
) -> Path:
    """A static catalog of items; gives its ``catalog.json``. The collection is called as its folder, if not told else.

    Both have the field `MADE`, by which they are known as written here. Items of an earlier one that are in it no more
    are removed. Of their links, items keep those of `KEPT`. No href has a signature.
    """
    before, about_all = _linked(folder), collection or folder.name
    above = {"href": "../collection.json", "type": "application/json"}
    names, boxes = [], []
    times: list[dt.datetime] = []
    for item in items:
        value = item.to_dict(include_self_link=False, transform_hrefs=False)
        links = [{"rel": rel, **above} for rel in ("parent", "collection")]
        value |= {"collection": about_all, "links": links + [k for k in value["links"] if k["rel"] in KEPT]}
        unsign(value)
        names.append(file_name(item.id))
        write_json(within(folder, f"items/{names[-1]}.json"), value)
        boxes.append(value["bbox"])
        times += span(value["properties"])
    top = {"rel": "root", "href": "./catalog.json", "type": "application/json"}
    interval = [rfc3339(min(times)), rfc3339(max(times))]
    extent = {"spatial": {"bbox": [united(boxes)]}, "temporal": {"interval": [interval]}}
    linked = [{"rel": "item", "href": f"./items/{name}.json", "type": "application/geo+json"} for name in names]
    about = {"stac_version": "1.1.0", "id": about_all, "description": description, MADE: "items"}
    whole = {"type": "Collection", **about, "license": "other", "extent": extent}
    write_json(within(folder, "collection.json"), {**whole, "links": [top, {**top, "rel": "parent"}, *linked]})
    child = {"rel": "child", "href": "./collection.json", "type": "application/json"}
    write_json(within(folder, "catalog.json"), {"type": "Catalog", **about, "links": [top, child]})
    for name in before - set(names):
        within(folder, f"items/{name}.json").unlink(missing_ok=True)
    return folder / "catalog.json"


def file_name(item: str) -> str:
    """What the files of an item are called: its id, or a digest where an id from outside can be no file name."""
    plain = re.fullmatch(r"[^/\\\x00-\x1f.][^/\\\x00-\x1f]*", item) and len(item.encode()) <= LONGEST_NAME
    return item if plain else hashlib.sha256(item.encode()).hexdigest()[:16]


def made_here(path: Path) -> dict[str, Any] | None:
    """A catalog or collection that `write_catalog` has written; None for any other file, and where there is none."""
    try:
        value = json.loads(read_small(path, LARGEST_ITEM) or b"null")
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) and value.get(MADE) == "items" else None


def _linked(folder: Path) -> set[str]:
    """Names of the items of a catalog that `write_catalog` wrote."""
    links = (made_here(folder / "collection.json") or {}).get("links")
    hrefs = [str(link.get("href")) for link in links if isinstance(link, dict)] if isinstance(links, list) else []
    return {m[1] for href in hrefs if (m := re.fullmatch(r"\./items/([^/\\]+)\.json", href))}


def united(boxes: Sequence[Sequence[float]]) -> list[float]:
    """Bounds of all boxes (degrees); the whole width of the world when one of them crosses the antimeridian."""
    west, south, east, north = (list(c) for c in zip(*boxes, strict=True))
    crosses = any(w > e for w, e in zip(west, east, strict=True))
    return [-180.0 if crosses else min(west), min(south), 180.0 if crosses else max(east), max(north)]


def _relative(href: str, folder: Path, root: Path | None = None) -> str:
    """A local absolute path as seen from ``folder``, as a URI when it lies outside ``root``; anything else as it is."""
    if not href.startswith("/") and not Path(href).is_absolute():
        return href
    if root is not None and not Path(href).is_relative_to(root.absolute()):
        return Path(href).as_uri()
    path = Path(os.path.relpath(href, folder.absolute())).as_posix()
    return path if path.startswith(".") else f"./{path}"
