"""Clouds of points as STAC items, with the pointcloud and projection extensions, and clouds that items name.

Specification: https://github.com/stac-extensions/pointcloud (1.0.0) and https://github.com/stac-extensions/projection.
"""

from __future__ import annotations

import datetime as dt

import pyproj
import pystac
import shapely
from shapely.geometry.base import BaseGeometry

from geoml.errors import DataError, InputError
from geoml.io.points.files import PointPlace
from geoml.io.points.georeference import Stated, check_place, stated
from geoml.io.points.source import PointSource, open_place
from geoml.io.stac.asset_projection import declared_crs, levels
from geoml.io.stac.assets import asset_href, point_clouds
from geoml.io.stac.catalog import Catalog
from geoml.io.stac.items import extensions, projection
from geoml.io.stac.provenance import is_remote, may_use_keys
from geoml.io.stores.signed import is_http
from geoml.redacted import bare

KEY = "points"
"""The asset of an item that is made here."""

_MEDIA_TYPES = {"las": "application/vnd.las", "ept": "application/json", "copc": "application/vnd.laszip+copc"}
_ENCODINGS = {"las": "LASF", "ept": "EPT", "copc": "COPC", "laz": "LASzip"}
_SCHEMA = (
    *(("X", 8, "floating"), ("Y", 8, "floating"), ("Z", 8, "floating")),
    *(("Intensity", 2, "unsigned"), ("ReturnNumber", 1, "unsigned"), ("NumberOfReturns", 1, "unsigned")),
    ("Classification", 1, "unsigned"),
)


_UNSIGNED = "its URL was asked for without its query, which no file may keep; expected sign: in the catalog's YAML"


def source_item(source: PointSource, name: str, when: dt.datetime, version: str = "") -> pystac.Item:
    """An item of one source: its outline in degrees, count, encoding and CRS, and what `PointSource.from_plain` takes.

    ``geoml:points`` of its asset is that; it is believed in the catalog that a run wrote only, see
    `geoml.inputs.points.catalog_of`. ``version`` changes as the file does.
    """
    degrees = outline(source)
    properties = {
        "pc:count": source.count,
        "pc:type": "lidar",
        "pc:encoding": _ENCODINGS.get(source.kind, "LASF"),
        "pc:schemas": [{"name": n, "size": size, "type": kind} for n, size, kind in _SCHEMA],
        "proj:bbox": list(source.bounds),
        **projection(source.crs),
        **({"processing:version": version} if version else {}),
    }
    item = pystac.Item(name, shapely.geometry.mapping(degrees), list(degrees.bounds), when, properties)
    item.stac_extensions += extensions(properties)
    media_type = _MEDIA_TYPES.get(source.kind, "application/vnd.laszip")
    fields = {"geoml:points": source.as_plain()}
    item.add_asset(KEY, pystac.Asset(source.href, media_type=media_type, roles=["data"], extra_fields=fields))
    return item


def source_of(item: pystac.Item) -> PointSource:
    """The cloud of an item that `source_item` made. Raises DataError for another one."""
    try:
        return PointSource.from_plain(item.assets[KEY].extra_fields["geoml:points"])
    except (LookupError, TypeError, ValueError) as err:
        raise DataError(f"item {item.id}: has no metadata on its points ({err})") from err


def outline(source: PointSource) -> BaseGeometry:
    """The box of a file in degrees, half a metre wider on each side: a line of points has an area then."""
    left, bottom, right, top = shapely.box(*source.bounds).buffer(0.5).bounds
    to = pyproj.Transformer.from_crs(pyproj.CRS.from_user_input(source.crs), "EPSG:4326", always_xy=True)
    edge = shapely.segmentize(shapely.box(left, bottom, right, top), max(right - left, top - bottom, 1.0) / 8)
    return shapely.transform(edge, to.transform, interleaved=False)


def item_source(
    item: pystac.Item, catalog: Catalog, crs: str | None = None, vertical: str | None = None
) -> PointSource:
    """The cloud of an item that others made; ``crs`` and ``vertical`` count before what file and item say.

    The header is read. Raises InputError for an item without points, and where the cloud does not lie where its item
    says; else what `open_place` raises, with the item.
    """
    keys = point_clouds(item)
    if not keys:
        raise InputError(f"item {item.id}: no asset is a cloud of points; expected LAS, LAZ, COPC or EPT")
    asset, remote = item.assets[keys[0]], is_remote(item, catalog)
    named = asset_href(asset)
    href = bare(named.replace(" ", "%20")) if is_http(named) else named
    linked = remote and not catalog.remote and catalog.kind == "static"
    place = PointPlace(
        href,
        sign=None if linked else catalog.profile(item.collection_id).sign,
        remote=remote,
        root=str(catalog.root) if catalog.root else None,
        keys=may_use_keys(href, item, catalog),
    )
    try:
        source = open_place(place, _stated(item, asset), crs, vertical)
        if item.bbox is not None and len(item.bbox) in (4, 6) and source.count:
            west, south, east, north = (item.bbox[n] for n in ((0, 1, 2, 3) if len(item.bbox) == 4 else (0, 1, 3, 4)))
            check_place(source.crs, source.bounds, (west, south, east, north))
    except (DataError, InputError) as err:
        hint = f" ({_UNSIGNED})" if href != named and "HTTP 40" in str(err) else ""
        raise type(err)(f"item {item.id}: {err}{hint}") from err
    return source


def _stated(item: pystac.Item, asset: pystac.Asset) -> Stated:
    """What the projection extension says, the heights of a compound CRS too."""
    flat, _ = declared_crs(item, asset)
    if not flat:
        return Stated()
    for level in levels(item, asset):
        for key in ("proj:code", "proj:wkt2"):
            if isinstance(text := level.get(key), str) and (said := stated(text)).crs is not None:
                return said
    return stated(flat[0].to_wkt())
