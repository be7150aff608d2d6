"""Where an asset lies by its item: the fields of the STAC projection extension.

Specification: https://github.com/stac-extensions/projection. Both its versions are read (``proj:epsg`` was a number).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyproj
import pystac
from affine import Affine

from geoml.io.crs import crs_name, parse_crs
from geoml.io.projection import Projection

KEYS = ("proj:code", "proj:epsg", "proj:wkt2", "proj:projjson")


def levels(item: pystac.Item, asset: pystac.Asset | None) -> list[Mapping[str, object]]:
    """Fields of the asset, then of the item: the nearer one counts."""
    return [*([asset.extra_fields] if asset is not None else []), item.properties]


def declared_crs(item: pystac.Item, asset: pystac.Asset | None) -> tuple[list[pyproj.CRS], list[object]]:
    """The CRSs of the nearest level that names a known one, and the values on the way that name none (also null)."""
    silent: list[object] = []
    for level in levels(item, asset):
        values = [level[k] for k in KEYS if k in level]
        silent += [v for v in values if parse_crs(v) is None]
        if crs := [c for v in values if (c := parse_crs(v)) is not None]:
            return crs, silent
    return [], silent


def projection(item: pystac.Item, asset: pystac.Asset) -> Projection | None:
    """Where the item places a file that does not say it itself; None if it says nothing."""
    crs, _ = declared_crs(item, asset)
    transform, shape = None, None
    for level in levels(item, asset):
        size = numbers(level.get("proj:shape"), 2)
        shape = shape or ((int(size[0]), int(size[1])) if size and min(size) >= 1 else None)
        transform = transform or parse_affine(level.get("proj:transform"))
        box = numbers(level.get("proj:bbox"), 4)
        if transform is None and box and size and shape and box[0] < box[2] and box[1] < box[3]:
            (west, south, east, north), (height, width) = box, shape
            transform = Affine((east - west) / width, 0, west, 0, (south - north) / height, north)
    if not crs and transform is None:
        return None
    return Projection(crs_name(crs[0]) if crs else None, tuple(transform)[:6] if transform else None, shape)


def parse_affine(value: object) -> Affine | None:
    """Six (or nine) numbers as an affine transform that can be inverted; None for anything else."""
    values = numbers(value, 9) or numbers(value, 6)
    transform = Affine(*values[:6]) if values else None
    return None if transform is None or transform.is_degenerate else transform


def numbers(value: object, count: int) -> list[float] | None:
    """``count`` finite numbers; None for anything else."""
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != count:
        return None
    if not all(isinstance(v, int | float) and not isinstance(v, bool) and abs(v) < 1e15 for v in value):
        return None
    return [float(v) for v in value]
