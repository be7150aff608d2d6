"""Lengths, bearings and areas on the WGS 84 ellipsoid: geodesics by Karney, https://doi.org/10.1007/s00190-012-0578-z."""

from __future__ import annotations

import numpy as np
import pyproj
from affine import Affine
from shapely.geometry.base import BaseGeometry

WGS84 = pyproj.Geod(ellps="WGS84")


def area(geometry: BaseGeometry) -> float:
    """Square metres of a polygon in degrees; rings in either direction."""
    return abs(float(WGS84.geometry_area_perimeter(geometry)[0]))


def pixel_metres(transform: Affine, shape: tuple[int, int], crs: str) -> tuple[float, float]:
    """Metres on the ground of a pixel in the middle of a grid: along a row, and along a column.

    Not finite where the CRS does not reach. Raises pyproj's ProjError for a CRS without a place on the Earth.
    """
    row, col = shape[0] / 2, shape[1] / 2
    ends = (col - 0.5, row), (col + 0.5, row), (col, row - 0.5), (col, row + 0.5)
    x, y = np.array([transform @ at for at in ends]).T
    to = pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    lon, lat = (np.asarray(v) for v in to.transform(x, y))
    if not (np.isfinite(lon).all() and np.isfinite(lat).all()):
        return float("nan"), float("nan")
    _, _, apart = WGS84.inv(lon[::2], lat[::2], lon[1::2], lat[1::2])
    return float(apart[0]), float(apart[1])
