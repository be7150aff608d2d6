"""Lengths, bearings and areas on the WGS 84 ellipsoid: geodesics by Karney, https://doi.org/10.1007/s00190-012-0578-z."""

from __future__ import annotations

import pyproj
from shapely.geometry.base import BaseGeometry

WGS84 = pyproj.Geod(ellps="WGS84")


def area(geometry: BaseGeometry) -> float:
    """Square metres of a polygon in degrees; rings in either direction."""
    return abs(float(WGS84.geometry_area_perimeter(geometry)[0]))
