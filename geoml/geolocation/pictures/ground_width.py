"""How wide the ground of a raster is by its own CRS and pixel size: a picture that says so need not be guessed at."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pyproj
import rasterio
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.io import DatasetReader, MemoryFile
from rasterio.transform import from_gcps

from geoml.grid.ellipsoid import WGS84

_STEPS = 33
"""Points along the middle row: geodesics between them follow the row."""


def square_km(data: bytes) -> float | None:
    """Width in km of the middle square of a GeoTIFF, along its middle row; None for a file that does not say.

    The square is what a locator looks at: as wide as the shorter side. Ground control points count as a georeference.
    """
    if not data.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return None
    try:
        with warnings.catch_warnings():  # also of a file without georeference, which is no fault here
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.Env(), MemoryFile(data) as memory, memory.open(driver="GTiff") as file:
                return _along(file)
    except (RasterioError, pyproj.exceptions.ProjError, ValueError):
        return None


def _along(file: DatasetReader) -> float | None:
    transform, crs = file.transform, file.crs
    points, of_points = file.gcps
    if crs is None and len(points) >= 3:
        transform, crs = from_gcps(points), of_points
    if crs is None or transform.is_identity:
        return None
    side = min(file.height, file.width)
    column = file.width / 2 + np.linspace(-side / 2, side / 2, _STEPS)
    x, y = transform @ np.stack([column, np.full(_STEPS, file.height / 2)])
    source = pyproj.CRS.from_wkt(crs.to_wkt())
    to_degrees = pyproj.Transformer.from_crs(source, "EPSG:4326", always_xy=True)
    lon, lat = to_degrees.transform(x, y)
    if not (np.isfinite(lon).all() and np.isfinite(lat).all() and np.abs(lat).max() <= 90):
        return None
    km = WGS84.line_length(lon, lat) / 1000
    return float(km) if math.isfinite(km) and km > 0 else None
