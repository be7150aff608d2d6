"""Clouds of points that a catalog has of a region: where their files are, and what their items say of them.

https://github.com/stac-extensions/pointcloud (v1.0.0) and projection (v2.0.0).
"""

from __future__ import annotations

import json
from pathlib import PurePosixPath
from typing import Final
from urllib.parse import urlsplit

import pystac

from geoml.elevation.recipe import ElevationRecipe
from geoml.engine.run.search import search
from geoml.errors import DataError
from geoml.io.points.files import PointPlace
from geoml.io.points.georeference import Stated, first, stated
from geoml.io.stac import search as stac
from geoml.io.stac.assets import lowercase_words
from geoml.io.stac.catalog import Catalog
from geoml.io.stac.provenance import is_remote, may_use_keys
from geoml.recipe import Query
from geoml.texts import listed

KINDS: Final = ("laszip", "vnd.las", "copc", "ept")
"""In media types of clouds."""
SUFFIXES: Final = (".las", ".laz")
EPT: Final = "ept.json"


def found_places(asked: ElevationRecipe, left_out: stac.LeftOut) -> list[tuple[PointPlace, Stated]]:
    """Files of the items that were found, each once, and what the items say of them; others go to ``left_out``.

    Raises NothingFound without an item, and what a search raises.
    """
    assert asked.catalog is not None
    query = Query(
        catalog=asked.catalog,
        collection=asked.collection,
        bbox=asked.bbox,
        region=asked.region,
        datetime=(asked.datetime or "../..",),
    )
    catalog = stac.open_catalog(asked.catalog)
    found: dict[str, tuple[PointPlace, Stated]] = {}
    for item in search(query, left_out):
        try:
            place, said = place_of(item, catalog)
        except DataError as err:
            left_out.add(item.id, err)
            continue
        found.setdefault(place.href, (place, said))
    if not found:
        raise left_out.none_left(f"catalog {catalog.name}")
    return list(found.values())


def place_of(item: pystac.Item, catalog: Catalog) -> tuple[PointPlace, Stated]:
    """The cloud of an item. Raises DataError for an item that has none, or several."""
    keys = [key for key, asset in item.assets.items() if is_cloud(asset)]
    data = [key for key in keys if "data" in lowercase_words(item.assets[key].roles)] or keys
    if len(data) != 1:
        has = f"{len(data)} clouds ({listed(data)})" if data else f"no cloud; it has {listed(sorted(item.assets))}"
        raise DataError(f"item {item.id}: {has}; expected one asset of LAS, LAZ, COPC or EPT")
    asset = item.assets[data[0]]
    profile = catalog.profile(item.collection_id or "")
    href = asset.get_absolute_href() or asset.href
    remote = is_remote(item, catalog)
    place = PointPlace(
        href,
        sign=None if remote and not catalog.remote else profile.sign,
        remote=remote,
        root=str(catalog.root) if catalog.root else None,
        keys=may_use_keys(href, item, catalog),
    )
    return place, first(*map(said_by, (asset.extra_fields, item.properties)))


def said_by(fields: dict[str, object]) -> Stated:
    """The CRS that fields of the projection extension say, compound where heights are in it."""
    for key in ("proj:code", "proj:wkt2", "proj:projjson", "proj:epsg"):
        value = fields.get(key)
        if isinstance(value, int) and not isinstance(value, bool):
            value = f"EPSG:{value}"
        if value and (said := stated(json.dumps(value) if isinstance(value, dict) else str(value))).crs is not None:
            return said
    return Stated()


def is_cloud(asset: pystac.Asset) -> bool:
    """Whether an asset is a cloud, by its media type or its name."""
    kind = asset.media_type.lower() if isinstance(asset.media_type, str) else ""
    name = PurePosixPath(urlsplit(asset.href).path).name.lower()
    return any(word in kind for word in KINDS) or name.endswith(SUFFIXES) or name == EPT
