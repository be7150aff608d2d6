"""Two files of heights against each other: the shift between them, and how far they are apart before and after it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import rasterio.warp
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.transform import Affine
from rasterio.warp import Resampling, calculate_default_transform, reproject

from geoml.elevation.accuracy.coregister import coregistered
from geoml.grid.region import utm_crs
from geoml.io.dem import heights_of, opened

Floats = NDArray[np.float64]
Grid = tuple[CRS, Affine, tuple[int, int]]


def compared(reference: str | Path, other: str | Path) -> dict[str, Any]:
    """The `Displacement` that lays ``other`` on ``reference``, as plain data with its ``crs`` and ``res``.

    Both are read bilinearly on the grid of the reference, or in the UTM zone of its middle where that is not in metres;
    their heights must be above one datum, and count as metres (`geoml.io.dem.heights_of`). Raises DataError for a file
    that cannot be read, InputError as `coregistered` does and for a file that is missing or without a CRS.
    """
    with opened(reference, "reference") as one, opened(other, "other") as two:
        grid = _grid(one)
        shift = coregistered(_on(one, grid), _on(two, grid), (-grid[1].e, grid[1].a))
    return {"crs": grid[0].to_string(), "res": [-grid[1].e, grid[1].a], **shift.plain()}


def _grid(file: rasterio.DatasetReader) -> Grid:
    box = file.transform
    metres = file.crs.is_projected and file.crs.linear_units_factor[1] == 1
    if metres and box.b == box.d == 0 and box.a > 0 > box.e:
        return file.crs, box, file.shape
    west, south, east, north = rasterio.warp.transform_bounds(file.crs, "EPSG:4326", *file.bounds)
    crs = CRS.from_user_input(utm_crs((west + east) / 2, (south + north) / 2))
    transform, width, height = calculate_default_transform(file.crs, crs, file.width, file.height, *file.bounds)
    return crs, transform, (height, width)


def _on(file: rasterio.DatasetReader, grid: Grid) -> Floats:
    """(y, x) heights on the grid, NaN where nothing is known."""
    heights = heights_of(file)
    if (file.crs, file.transform, file.shape) == grid:
        return np.asarray(heights)
    out = np.full(grid[2], np.nan)
    reproject(
        heights,
        out,
        src_transform=file.transform,
        src_crs=file.crs,
        dst_transform=grid[1],
        dst_crs=grid[0],
        src_nodata=np.nan,
        dst_nodata=np.nan,
        resampling=Resampling.bilinear,
    )
    return out
