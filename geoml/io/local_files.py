"""GDAL's configuration for rasters of this machine, such as those of a run."""

from __future__ import annotations

import rasterio

from geoml.settings import settings


def local_files() -> rasterio.Env:
    """No other file beside a raster counts, and the cache has the bound of the settings; GDAL's own is a share of all
    memory."""
    bound = settings().cache_bytes
    return rasterio.Env(GDAL_CACHEMAX=bound, GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR", GDAL_PAM_ENABLED="NO")
