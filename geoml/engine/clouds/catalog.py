"""The catalog that `geoml clouds` writes: the items as found, each with its mask, and the rule by which it counts."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import pystac
import yaml

from geoml.engine.clouds.mask import Mask
from geoml.errors import GeomlError
from geoml.io.stac.assets import asset_href
from geoml.io.stac.catalog import Catalog, MaskMeta, Profile
from geoml.io.stac.items import COG, extensions, file_name, projection, write_catalog
from geoml.io.stac.provenance import is_remote, may_use_keys
from geoml.io.stores.bucket import is_bucket, public_url
from geoml.io.stores.hrefs import gdal_path
from geoml.io.stores.multihash import multihash
from geoml.io.stores.remote import is_url
from geoml.io.stores.store import within, write_text
from geoml.redacted import bare
from geoml.texts import listed, short

log = logging.getLogger(__name__)

YAML = "catalog.yaml"
FOLDER = "stac"
MASKS = "masks"
ASSET = "clouds"
"""Key of the mask among the assets of an item, if the items have no other asset of that name."""
ABOUT = {
    "clear": "No cloud and no shadow of one",
    "cloud": "Cloud",
    "cloud_shadow": "Shadow of a cloud",
    "near_cloud": "Clear by the network, but near a cloud or a shadow",
}


def mask_path(out: Path, item: str) -> Path:
    """Where the mask of an item lies."""
    return within(out, f"{MASKS}/{file_name(item)}.tif")


def write(
    items: Sequence[pystac.Item], masks: Mapping[str, Mask], catalog: Catalog, collection: str, out: Path
) -> Path:
    """The catalog of ``items`` in ``out``, those in ``masks`` (by id) with their mask; gives its YAML.

    The YAML repeats what the catalog's own says of the collection, with the rule of the masks where there are any.
    """
    profile = catalog.profile(collection)
    key = _key(items, profile)
    copies = [_copy(item, catalog) for item in items]
    for copy in copies:
        if copy.id in masks:
            _add(copy, key, masks[copy.id])
    _warn_of_signatures(items)
    description = f"{len(items)} items of {collection}, with masks of clouds"
    path = write_catalog(copies, out / FOLDER, description, collection=collection)
    if profile.sign and not catalog.remote and any(is_remote(item, catalog) for item in items):
        log.warning(
            "some items come from elsewhere, so that no tokens are asked for when the files of %s are read", out
        )
        profile = profile.model_copy(update={"sign": None})
    if masks:
        bad = sorted({value for mask in masks.values() for value in mask.bad})
        nodata = next(iter(masks.values())).nodata
        rule = MaskMeta(asset=key, kind="values", bad=tuple(bad), nodata=float(nodata))
        profile = profile.model_copy(update={"mask": rule})
    said: dict[str, Any] = {"title": description, "url": f"{FOLDER}/{path.name}", "kind": "static"}
    said |= {"default_collection": collection, "files": _files(catalog, out)}
    if catalog.signed_buckets:
        said["signed_buckets"] = list(catalog.signed_buckets)
    said["collections"] = {collection: _plain(profile)}
    write_text(within(out, YAML), yaml.safe_dump(said, sort_keys=False, allow_unicode=True))
    return out / YAML


def _plain(profile: Profile) -> dict[str, Any]:
    return profile.model_dump(mode="json", exclude_defaults=True)


def _files(catalog: Catalog, out: Path) -> str:
    """The folder that the hrefs of the new catalog may point into, as its YAML names it."""
    if catalog.root is None:
        return "."
    return os.path.commonpath([out.resolve(), catalog.root.resolve()])


def _key(items: Sequence[pystac.Item], profile: Profile) -> str:
    """`ASSET`, or the next name that no asset of the items has but an earlier mask."""
    taken = {key for item in items for key in item.assets} - ({profile.mask.asset} if profile.mask else set())
    return next(key for n in count(1) if (key := ASSET if n == 1 else f"{ASSET}_{n}") not in taken)


def _warn_of_signatures(items: Sequence[pystac.Item]) -> None:
    signed = [item.id for item in items if any(bare(a.href) != a.href for a in item.assets.values())]
    if signed:
        log.warning(
            "the hrefs of %s are written without their queries, for these may be secrets: assets that need one cannot"
            " be read", listed([f"item {short(i)}" for i in signed], most=3),
        )  # fmt: skip


def _copy(item: pystac.Item, catalog: Catalog) -> pystac.Item:
    """An item as a file of this machine, which gives it no more rights than it had."""
    copy = pystac.Item.from_dict(item.to_dict(include_self_link=False, transform_hrefs=False), preserve_dict=False)
    copy.set_self_href(None)
    refused = []
    for key, asset in item.assets.items():
        try:
            copy.assets[key].href = _href(asset, item, catalog)
        except GeomlError:  # nobody could read it there either
            del copy.assets[key]
            refused.append(key)
    if refused:
        log.warning("item %s: without the assets %s, whose hrefs are not allowed", item.id, listed(sorted(refused)))
    home = item.get_self_href() or ""
    if is_url(home):
        copy.add_link(pystac.Link("derived_from", bare(home), "application/geo+json"))
    return copy


def _add(item: pystac.Item, key: str, mask: Mask) -> None:
    item.assets[key] = _asset(key, mask)
    used = extensions(item.properties, *(a.extra_fields for a in item.assets.values()))
    item.stac_extensions = sorted({*item.stac_extensions, *used})


def _href(asset: pystac.Asset, item: pystac.Item, catalog: Catalog) -> str:
    """The href of an asset as it may be read: of a document elsewhere no file, and no object by the user's keys.

    Raises InputError for one that could not be read where it was.
    """
    href = asset_href(asset)
    if not is_remote(item, catalog):
        gdal_path(href, remote=False, root=catalog.root, look_up=False)
        return href
    path = gdal_path(href, remote=True, look_up=False)
    return public_url(path) if is_bucket(path) and not may_use_keys(href, item, catalog) else href


def _asset(key: str, mask: Mask) -> pystac.Asset:
    classes = [
        {"value": c.value, "name": c.name, "description": ABOUT.get(c.name, c.name), "color_hint": c.color[1:]}
        for c in mask.classes
    ]
    unknown = {"value": mask.nodata, "name": "unknown", "description": "No data, or not looked at", "nodata": True}
    fields: dict[str, Any] = {
        **projection(str(mask.geobox.crs)),
        "proj:shape": list(mask.geobox.shape),
        "proj:transform": list(mask.geobox.affine)[:6],
        "file:size": mask.file.size,
        "file:checksum": multihash(mask.file.sha256),
        "bands": [{"name": key, "data_type": "uint8", "nodata": mask.nodata}],
        "classification:classes": [*classes, unknown],
    }
    href = f"../../{MASKS}/{mask.file.path.name}"
    return pystac.Asset(href, "Clouds and their shadows", None, COG, ["cloud", "cloud-shadow"], fields)
