"""Which items can touch a grid, from their metadata alone. In doubt they do: reading them costs a header."""

from __future__ import annotations

import numpy as np
import pyproj
import pystac
from odc.geo.geobox import GeoBox
from shapely.geometry import MultiPolygon, Polygon

from geoml.errors import InputError
from geoml.grid.region import from_bbox, from_geometry

POLAR = 84.0
"""Degrees of latitude; a box around a pole is no polygon in longitude and latitude."""

SLACK = 0.01
"""Degrees; STAC footprints are simplified."""


def footprint(geobox: GeoBox) -> MultiPolygon | None:
    """The grid's outline in degrees, split at the antimeridian; None where it has none (near a pole)."""
    height, width = geobox.shape
    t = np.linspace(0, 1, 21)[:-1]
    one, zero = np.ones_like(t), np.zeros_like(t)
    cols = np.concatenate([t, one, 1 - t, zero]) * width
    rows = np.concatenate([zero, t, one, 1 - t]) * height
    a = geobox.affine
    move = pyproj.Transformer.from_crs(str(geobox.crs), "EPSG:4326", always_xy=True)
    lon, lat = move.transform(a.a * cols + a.b * rows + a.c, a.d * cols + a.e * rows + a.f)
    if not (np.isfinite(lon).all() and np.isfinite(lat).all()) or np.abs(lat).max() > POLAR:
        return None
    try:
        return from_geometry(Polygon(np.column_stack([lon, lat])))
    except InputError:
        return None


def touches(item: pystac.Item, outline: MultiPolygon | None) -> bool:
    """False only when the item's geometry (else its bbox) is known to lie elsewhere."""
    if outline is None:
        return True
    try:
        if item.geometry:
            area = from_geometry(item.geometry)
        elif item.bbox:
            west, south, east, north = item.bbox if len(item.bbox) == 4 else (*item.bbox[:2], *item.bbox[3:5])
            area = from_bbox(west, south, east, north)
        else:
            return True
    except (InputError, ValueError):
        return True
    return bool(area.is_empty or area.distance(outline) <= SLACK)
