"""Terrain, surface, height and what they rest on, of the points of a window.

Everything is decided by the points within `halo` metres, so any block that is read with that much around it has the
same bytes as the whole cloud.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geoml.cube.clouds.cells import Flags, cell_of, extreme, summarised
from geoml.cube.clouds.distance import capped
from geoml.cube.clouds.tin import sampled, triangulated
from geoml.grid.plane import Plane, Window

if TYPE_CHECKING:
    from geoml.io.points.cloud import Cloud

WATER = 9
LAYERS = ("dtm", "dsm", "height", "count", "distance", "spread", "lowest", "highest")


@dataclass(frozen=True)
class SurfaceOptions:
    """What surfaces may bridge; all in metres."""

    reach: float = 30.0
    """Largest circumradius of a triangle: terrain is bridged under what is up to twice as wide."""
    void: float = 6.0
    """Terrain and surface have no value farther than this from any point; for terrain, water is none."""
    farthest: float = 30.0
    """Distances to ground stop here."""


def halo(options: SurfaceOptions, res: float) -> float:
    """Metres around a window whose points `surfaces` needs, of cells of ``res`` metres."""
    return max(2 * options.reach, options.void, options.farthest) + 2 * res


def surfaces(
    cloud: Cloud, ground: Flags, plane: Plane, window: Window, options: SurfaceOptions
) -> dict[str, NDArray[np.float32]]:
    """`LAYERS` of the window's cells, float32 (y, x), NaN where there is nothing to say.

    ``cloud`` holds all points of the window and `halo` metres around it, ``ground`` (n,) which of them are ground;
    ``plane`` is in metres. ``dtm`` is the linear TIN of ground at cell centres, ``dsm`` the highest first return of a
    cell, ``height`` their difference; ``count`` of measured points (0 where none), ``lowest``, ``highest`` and
    ``spread`` (highest - lowest) of all points; ``distance`` metres to the nearest cell with a measured ground point,
    at most ``options.farthest``. Raises MissingExtra where startinpy is not installed.
    """
    wide = window.expand(math.ceil(halo(options, plane.res) / plane.res))
    here = window.slices(wide)
    cell = cell_of(plane, wide, cloud.x, cloud.y)
    cells = summarised(cell, cloud.z, wide)
    measured = cell_counts(cell, ~cloud.synthetic, wide)
    near_land = capped(cell_counts(cell, cloud.classification != WATER, wide) > 0, plane.res, 2 * options.void)
    dtm = sampled(triangulated(cloud.x[ground], cloud.y[ground], cloud.z[ground], options.reach), plane, window)
    dtm[near_land[here] > options.void] = np.nan
    first = cloud.returned <= 1
    dsm = extreme(cell[first & (cell >= 0)], cloud.z[first & (cell >= 0)], wide, np.fmax)[here]
    distance = capped(cell_counts(cell, ground & ~cloud.synthetic, wide) > 0, plane.res, options.farthest)
    out: dict[str, NDArray[Any]] = {"dtm": dtm, "dsm": dsm, "height": dsm.astype(np.float32) - dtm.astype(np.float32)}
    out |= {"count": measured[here], "distance": distance[here], "spread": cells.spread[here]}
    out |= {"lowest": cells.lowest[here], "highest": cells.highest[here]}
    return {name: layer.astype(np.float32) for name, layer in out.items()}


def cell_counts(cell: NDArray[np.int64], chosen: Flags, window: Window) -> NDArray[np.int64]:
    """(y, x) how many of the ``chosen`` (n,) points lie in each cell."""
    height, width = window.shape
    return np.bincount(cell[chosen & (cell >= 0)], minlength=height * width).reshape(height, width)
