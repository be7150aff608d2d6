"""Which assets of an item hold raster bands, as other STAC clients see it, and why the others do not.

A role ``data`` decides, also beside other roles. A media type counts where it says something; what servers send for
any file (``application/octet-stream``) says nothing, and then the suffix counts.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

import numpy as np
import pystac

from geoml.io.stores.hrefs import redact
from geoml.texts import listed

SIDE_ROLES = {"thumbnail", "overview", "metadata"}

SUFFIXES = (".tif", ".tiff", ".jp2", ".vrt")

GENERIC_TYPES = {
    "application/octet-stream",
    "binary/octet-stream",
    "application/binary",
    "application/x-binary",
    "application/unknown",
    "application/download",
    "application/force-download",
}
"""Media types of any file."""

DATA_TYPES = {
    *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
    *(f"float{bits}" for bits in (16, 32, 64)),
}
"""Data types of STAC that can be computed with; ``other``, ``cint16`` and the like leave it to the file."""


def data_type(word: object) -> str | None:
    """The numpy name of a STAC ``data_type``; None for any other value, so that the file decides."""
    return np.dtype(word).name if isinstance(word, str) and word in DATA_TYPES else None


def lowercase_words(value: object) -> set[str]:
    """The texts of a list, or the one text, in lower case; empty for anything else."""
    words = [value] if isinstance(value, str) else value if isinstance(value, list | tuple) else []
    return {w.lower() for w in words if isinstance(w, str)}


def why_not_raster(asset: pystac.Asset) -> str | None:
    """Why an asset is not a raster; None for one that is."""
    named = lowercase_words(asset.roles)
    if "data" not in named and (side := SIDE_ROLES & named):
        return f"role {', '.join(sorted(side))}"
    kind = _media_type(asset)
    if kind and kind not in GENERIC_TYPES:
        return None if any(word in kind for word in ("tif", "jp2", "vrt")) else f"type {kind[:60]}"
    suffix = _suffix(asset)
    if suffix in SUFFIXES or (not suffix and _declares(asset) and "data" in named):
        return None
    return f"{f'type {kind}' if kind else 'no type'}, no name of a GeoTIFF, JPEG 2000 or VRT"


def rasters(item: pystac.Item, skip: Iterable[str] = ()) -> list[str]:
    """Keys of assets that may hold raster bands, the likeliest data first: GeoTIFF before JPEG 2000 and VRT.

    Pictures made for the eye (role ``visual``) count only where there is nothing else: their red is not a reflectance.
    """
    named = {key: lowercase_words(asset.roles) for key, asset in item.assets.items() if why_not_raster(asset) is None}
    data = [key for key in named if "visual" not in named[key] or "data" in named[key]] or list(named)

    def last(key: str) -> tuple[bool, bool]:
        asset = item.assets[key]
        kind = f"{asset.media_type} {asset.href}".lower()
        return bool(named[key] & {*SIDE_ROLES, "visual"}), "jp2" in kind or "vrt" in kind

    return sorted((key for key in data if key not in set(skip)), key=last)


def why_none(item: pystac.Item) -> str:
    """Which assets are not rasters and why, to end an error about what an item has."""
    reasons = [f"{key} ({why})" for key, asset in item.assets.items() if (why := why_not_raster(asset))]
    return f"; passed over: {listed(reasons, most=8)}" if reasons else ""


def asset_href(asset: pystac.Asset) -> str:
    """The asset's href; a relative one as seen from its item."""
    if "://" in asset.href or asset.href.startswith(("/", "<")):
        return asset.href
    return asset.get_absolute_href() or asset.href


def point_clouds(item: pystac.Item) -> list[str]:
    """Keys of assets that are clouds of points, by media type, name or the pointcloud extension; COPC and EPT first.

    Of an item that has its points in several ways the first is the one to read.
    """
    ranks = {key: _point_rank(asset) for key, asset in item.assets.items()}
    return sorted((key for key, rank in ranks.items() if rank), key=lambda key: ranks[key])


def _point_rank(asset: pystac.Asset) -> int:
    """1 for what is read by window, 2 for a plain file, 0 for no cloud of points."""
    kind, name = _media_type(asset), PurePosixPath(unquote(urlsplit(asset.href).path)).name.lower()
    if SIDE_ROLES & lowercase_words(asset.roles) and "data" not in lowercase_words(asset.roles):
        return 0
    if "copc" in kind or name.endswith(".copc.laz") or name == "ept.json":
        return 1
    return 2 if "laszip" in kind or "vnd.las" in kind or name.endswith((".las", ".laz")) else 0


def _media_type(asset: pystac.Asset) -> str:
    """The media type in lower case, without its parameters where it is generic."""
    kind = asset.media_type.strip().lower() if isinstance(asset.media_type, str) else ""
    return bare if (bare := kind.partition(";")[0].strip()) in GENERIC_TYPES else kind


def _suffix(asset: pystac.Asset) -> str:
    try:
        path = urlsplit(redact(str(asset.href))).path
    except ValueError:  # no URL; reading it says so
        return ""
    return PurePosixPath(unquote(path).replace("\\", "/")).suffix.lower()


def _declares(asset: pystac.Asset) -> bool:
    return any(isinstance(asset.extra_fields.get(k), list) for k in ("bands", "eo:bands", "raster:bands"))
