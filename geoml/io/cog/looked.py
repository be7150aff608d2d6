"""How much of some outlines had data in a run, by the valid counts of its blocks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyproj
import rasterio
import shapely
from numpy.typing import NDArray
from rasterio.errors import RasterioError
from rasterio.windows import Window as Part
from shapely.geometry.base import BaseGeometry

from geoml.errors import DataError
from geoml.grid.plane import Block, Plane
from geoml.io.local_files import local_files

BATCH = 4096
"""Outlines whose pixels are in memory at a time."""

Geometries = NDArray[np.object_]
Pixels = NDArray[np.int64]


def looked_share(
    outlines: Geometries, zones: Sequence[tuple[Plane, BaseGeometry]], size: int, valid: Callable[[Block], Path | None]
) -> NDArray[np.float64]:
    """(n,) share, 0 to 1, of the pixels of outlines (degrees) inside the region that had data; 0 of one outside.

    ``zones`` are planes with their part of the region in degrees, ``size`` is that of their blocks, and ``valid`` gives
    the valid count of a block, whose nodata is outside the region; None of one that was not done.
    Raises DataError for a count that cannot be read.
    """
    had, asked = np.zeros(len(outlines)), np.zeros(len(outlines))
    for plane, part in zones:
        shapely.prepare(part)
        ground, mine = _pixels_of(outlines, plane, part)
        centre = shapely.get_coordinates(shapely.centroid(ground)) // size
        order = np.lexsort((centre[:, 0], centre[:, 1]))
        for rows in (order[k : k + BATCH] for k in range(0, len(order), BATCH)):
            owner, y, x = _inside(ground[rows])
            counted, some = _counts(plane, size, y, x, valid)
            np.add.at(asked, mine[rows[owner]], counted)
            np.add.at(had, mine[rows[owner]], some)
    return np.divide(had, asked, out=np.zeros(len(had)), where=asked > 0)


def _pixels_of(outlines: Geometries, plane: Plane, part: BaseGeometry) -> tuple[Geometries, NDArray[np.intp]]:
    """What of the outlines lies in a part of the region, in pixels of the plane, and which they are."""
    mine = np.flatnonzero(shapely.intersects(part, outlines))
    here = outlines[mine]
    cut = ~shapely.covers(part, here)
    here[cut] = shapely.intersection(here[cut], part)
    moved = pyproj.Transformer.from_crs("EPSG:4326", plane.crs, always_xy=True).transform
    ground = shapely.transform(here, moved, interleaved=False)
    pixels: Geometries = shapely.transform(ground, lambda c: c / [plane.res, -plane.res] - plane.anchor)
    there = ~shapely.is_empty(pixels)
    return pixels[there], mine[there]


def _inside(outlines: Geometries) -> tuple[NDArray[np.intp], Pixels, Pixels]:
    """(row of the outline, y, x) of the pixels whose centre lies in each; of one without any that of its own centre."""
    owner, at = [np.empty(0, np.intp)], [np.empty((0, 2), np.int64)]
    for k, outline in enumerate(outlines):
        left, top, right, bottom = shapely.bounds(outline)
        y, x = np.mgrid[int(np.floor(top)) : int(np.ceil(bottom)), int(np.floor(left)) : int(np.ceil(right))]
        y, x = y.ravel(), x.ravel()
        inside = shapely.contains_xy(outline, x + 0.5, y + 0.5)
        found = np.column_stack([y[inside], x[inside]])
        if not len(found):
            found = np.floor(shapely.get_coordinates(shapely.point_on_surface(outline))[:, ::-1]).astype(np.int64)
        owner.append(np.full(len(found), k, np.intp))
        at.append(found)
    y, x = np.concatenate(at).T
    return np.concatenate(owner), y, x


def _counts(
    plane: Plane, size: int, y: Pixels, x: Pixels, valid: Callable[[Block], Path | None]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which pixels of a plane are asked for, as far as that is known, and which of them had data."""
    asked, had = np.ones(len(y), np.bool_), np.zeros(len(y), np.bool_)
    blocks, of = np.unique(np.column_stack([y // size, x // size]), axis=0, return_inverse=True)
    for k, (iy, ix) in enumerate(blocks.tolist()):
        block = Block(plane, size, iy, ix)
        if (path := valid(block)) is None:
            continue
        rows = np.flatnonzero(of.ravel() == k)
        row, col = y[rows] - block.window.y0, x[rows] - block.window.x0
        top, left = int(row.min()), int(col.min())
        part = Part(left, top, int(col.max()) - left + 1, int(row.max()) - top + 1)
        try:
            with local_files(), rasterio.open(path, driver="GTiff") as file:
                count, outside = file.read(1, window=part), file.nodata
        except (OSError, RasterioError) as err:
            raise DataError(f"{path}: the count of valid observations cannot be read ({err})") from err
        value = count[row - top, col - left]
        asked[rows] = value != outside
        had[rows] = (value != outside) & (value > 0)
    return asked, had
