"""Heights of the ground from a raster in degrees, for priors by altitude."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import ArrayLike, NDArray
from rasterio.enums import Resampling
from rasterio.errors import RasterioError

from geoml.errors import InputError
from geoml.grid import sphere
from geoml.io.stores.store import sha256

MOST = 2700
"""Pixels of a side that are kept: some 15 km on the ground for the whole world, where cells are wider."""


@dataclass(frozen=True, eq=False)
class Heights:
    """``values`` (H, W) float32 metres, NaN where unknown, between ``bounds`` W S E N in degrees; ``sha256`` of the
    file."""

    values: NDArray[np.float32]
    bounds: tuple[float, float, float, float]
    sha256: str

    def __call__(self, lon: ArrayLike, lat: ArrayLike) -> NDArray[np.float64]:
        """Metres at places (the nearest pixel), NaN outside; shapes broadcast."""
        x, y = np.broadcast_arrays(sphere.wrap(np.asarray(lon, float)), np.asarray(lat, float))
        west, south, east, north = self.bounds
        height, width = self.values.shape
        x = np.where(x < west, x + 360, x)
        column = np.floor((x - west) / (east - west) * width)
        row = np.floor((north - y) / (north - south) * height)
        column, row = np.where(x == east, width - 1, column), np.where(y == south, height - 1, row)
        inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
        at = self.values[row.clip(0, height - 1).astype(int), column.clip(0, width - 1).astype(int)]
        return np.where(inside, at, np.nan).astype(np.float64)


def read(path: str | Path) -> Heights:
    """Read a GeoTIFF of heights in metres, in degrees and north up, made coarser where it is fine.

    Raises InputError for another file, DataError if it cannot be read.
    """
    digest = sha256(Path(path))
    try:
        with rasterio.open(path, driver="GTiff") as file:
            t = file.transform
            if file.crs is None or not file.crs.is_geographic or t.b or t.d or t.a <= 0 or t.e >= 0:
                raise InputError(f"heights: {path}; expected a raster in degrees, north up")
            scale = max(1.0, file.height / MOST, file.width / (2 * MOST))
            shape = (max(1, int(file.height / scale)), max(1, int(file.width / scale)))
            band = file.read(1, out_shape=shape, resampling=Resampling.average, masked=True).astype(np.float32)
            bounds = (file.bounds.left, file.bounds.bottom, file.bounds.right, file.bounds.top)
    except RasterioError as err:
        raise InputError(f"heights: {path}; expected a GeoTIFF ({err})") from err
    return Heights(band.filled(np.nan), bounds, digest)
