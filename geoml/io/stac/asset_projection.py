"""What an item says of the place of an asset: the fields of the STAC projection extension.

Specification: https://github.com/stac-extensions/projection. Both its versions are read (``proj:epsg`` was a number).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pyproj
import pystac
from affine import Affine

from geoml.io.crs import crs_name, parse_crs
from geoml.io.georef import Projection

KEYS = ("proj:code", "proj:epsg", "proj:wkt2", "proj:projjson")


def levels(item: pystac.Item, asset: pystac.Asset | None) -> list[Mapping[str, Any]]:
    """Fields of the asset, then of the item: the nearer one counts."""
    return [*([asset.extra_fields] if asset is not None else []), item.properties]


def said(item: pystac.Item, asset: pystac.Asset | None) -> tuple[list[pyproj.CRS], list[object]]:
    """What the nearest level that names a CRS understood says (each different spelling once), and the values, null
    among them, that say nothing."""
    silent: list[object] = []
    for level in levels(item, asset):
        given = {k: level[k] for k in KEYS if k in level}
        found = [c for k, v in given.items() if (c := parse_crs(v)) is not None]
        silent += [v for v in given.values() if parse_crs(v) is None]
        if found:
            return found, silent
    return [], silent


def projection(item: pystac.Item, asset: pystac.Asset) -> Projection | None:
    """The item's word on the place of a file that has none itself; None where it says nothing."""
    found, _ = said(item, asset)
    transform, shape = None, None
    for level in levels(item, asset):
        size = numbers(level.get("proj:shape"), 2)
        shape = shape or ((int(size[0]), int(size[1])) if size and min(size) >= 1 else None)
        transform = transform or affine(level.get("proj:transform"))
        box = numbers(level.get("proj:bbox"), 4)
        if transform is None and box and size and shape and box[0] < box[2] and box[1] < box[3]:
            (west, south, east, north), (height, width) = box, shape
            transform = Affine((east - west) / width, 0, west, 0, (south - north) / height, north)
    if not found and transform is None:
        return None
    return Projection(crs_name(found[0]) if found else None, tuple(transform)[:6] if transform else None, shape)


def affine(value: object) -> Affine | None:
    """Six (or nine) numbers as an affine transform that can be inverted; None for anything else."""
    given = numbers(value, 9) or numbers(value, 6)
    found = Affine(*given[:6]) if given else None
    return None if found is None or found.is_degenerate else found


def numbers(value: object, count: int) -> list[float] | None:
    """``count`` finite numbers; None for anything else."""
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != count:
        return None
    if not all(isinstance(v, int | float) and not isinstance(v, bool) and abs(v) < 1e15 for v in value):
        return None
    return [float(v) for v in value if math.isfinite(v)] if all(map(math.isfinite, value)) else None
