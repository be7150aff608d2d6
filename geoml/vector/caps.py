"""Discs on the sphere as polygons in degrees, over the antimeridian and the poles."""

from __future__ import annotations

import numpy as np
import shapely
from shapely.geometry import MultiPolygon, Polygon

from geoml.errors import InputError
from geoml.grid import sphere
from geoml.grid.region import polygons_of

WORLD = shapely.box(-180, -90, 180, 90)
_QUARTER = sphere.EARTH_RADIUS_KM * np.pi / 2


def cap(lon: float, lat: float, km: float, vertices: int = 72) -> MultiPolygon:
    """All within the great-circle distance ``km`` of a position, cut at the antimeridian. Raises InputError for NaN."""
    if not (np.isfinite([lon, lat, km]).all() and km >= 0 and abs(lat) <= 90):
        raise InputError(f"cap: {lon}, {lat}, {km} km; expected degrees and a distance")
    if km >= 2 * _QUARTER:
        return MultiPolygon([WORLD])
    if km > _QUARTER:  # the rest is the smaller one
        other = cap(float(sphere.wrap(lon + 180)), -lat, 2 * _QUARTER - km, vertices)
        return polygons_of(WORLD.difference(other))
    around = np.linspace(0, 360, vertices, endpoint=False)
    x, y = sphere.destination(np.full(vertices, lon), np.full(vertices, lat), around, np.full(vertices, km))
    x = lon + sphere.wrap(x - lon)
    if abs(lat) + km / _QUARTER * 90 > 90:  # a pole lies inside, so each meridian is crossed once
        order = np.argsort(x)
        x, y = x[order], y[order]
        x, y = np.append(x, x[0] + 360), np.append(y, y[0])
        pole = 90.0 if lat > 0 else -90.0
        x, y = np.append(x, [x[-1], x[0]]), np.append(y, [pole, pole])
    flat = Polygon(np.column_stack([x, y])).buffer(0)
    parts = [
        shapely.transform(flat, lambda c, k=k: c + np.array([360.0 * k, 0.0])).intersection(WORLD)
        for k in (-2, -1, 0, 1, 2)
    ]
    return polygons_of(shapely.union_all(parts))
