"""Which items can touch a grid, from their metadata alone. In doubt they do: reading them costs a header."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pyproj
import pystac
from odc.geo.geobox import GeoBox
from shapely.geometry import MultiPolygon, Polygon

from geoml.errors import InputError
from geoml.grid.region import from_bbox, from_geometry
from geoml.io.crs import in_degrees

POLAR = 84.0
"""Degrees of latitude; a box around a pole is not a polygon in longitude and latitude."""

SLACK = 0.01
"""Degrees; STAC footprints are simplified."""


@lru_cache(maxsize=256)
def _to_degrees(crs: str) -> pyproj.Transformer:
    return pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True)


def footprint(geobox: GeoBox) -> MultiPolygon | None:
    """The grid's outline in degrees, split at the antimeridian; None if it has none (near a pole)."""
    height, width = geobox.shape
    t = np.linspace(0, 1, 21)[:-1]
    one, zero = np.ones_like(t), np.zeros_like(t)
    cols = np.concatenate([t, one, 1 - t, zero]) * width
    rows = np.concatenate([zero, t, one, 1 - t]) * height
    a = geobox.affine
    move = _to_degrees(str(geobox.crs))
    x, y = a.a * cols + a.b * rows + a.c, a.d * cols + a.e * rows + a.f
    lon, lat = move.transform(x, y)
    if not (np.isfinite(lon).all() and np.isfinite(lat).all()) or np.abs(lat).max() > POLAR:
        return None
    try:
        return in_degrees(Polygon(np.column_stack([x, y])), move)
    except InputError:
        return None


def touches(item: pystac.Item, outline: MultiPolygon | None) -> bool:
    """False only when the item's geometry (else its bbox) is known to lie elsewhere."""
    return reaches(area_of(item), outline)


def area_of(item: pystac.Item) -> MultiPolygon | None:
    """Where the item says that it is, in degrees; None if it does not."""
    try:
        if item.geometry:
            return from_geometry(item.geometry)
        if item.bbox:
            west, south, east, north = item.bbox if len(item.bbox) == 4 else (*item.bbox[:2], *item.bbox[3:5])
            return from_bbox(west, south, east, north)
    except (InputError, ValueError):
        pass
    return None


def reaches(area: MultiPolygon | None, outline: MultiPolygon | None) -> bool:
    """False only when the two are known to lie apart."""
    return area is None or outline is None or bool(area.is_empty or area.distance(outline) <= SLACK)
