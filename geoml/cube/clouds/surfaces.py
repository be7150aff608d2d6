"""Terrain, surface, height and their support, from the points of a window.

Everything is decided by the points within `halo` metres, so any block that is read with that much around it has the
same bytes as the whole cloud.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from geoml.cube.clouds import first_surface, local_plane
from geoml.cube.clouds.cells import Flags, Floats, Ints, cell_of, counted, extreme, summarised
from geoml.cube.clouds.distance import capped
from geoml.cube.clouds.morphology import dilated
from geoml.cube.clouds.tin import sampled, triangulated
from geoml.grid.plane import Plane, Window

if TYPE_CHECKING:
    from geoml.io.points.cloud import Cloud

WATER = 9
LAYERS = ("dtm", "dsm", "height", "count", "distance", "spread", "lowest", "highest")
RIM = 2
"""Cells beside one without a plane whose points may be corners of its triangle."""

EDGE = RIM + local_plane.REACH + 2


@dataclass(frozen=True)
class SurfaceOptions:
    """What surfaces may bridge; all in metres."""

    reach: float = 30.0
    """Largest circumradius of a triangle of the terrain, which is bridged under what is up to twice as wide."""
    void: float = 6.0
    """Terrain has no value farther than this from any point but of water; the largest circumradius of the surface."""
    farthest: float = 30.0
    """Distances to ground stop here."""


def halo(options: SurfaceOptions, res: float) -> float:
    """Metres around a window whose points `surfaces` needs, of cells of ``res`` metres."""
    terrain = 2 * options.reach + options.void + EDGE * res
    return max(terrain, first_surface.reach(options.void, res), options.farthest + 2 * res)


def surfaces(
    cloud: Cloud, ground: Flags, plane: Plane, window: Window, options: SurfaceOptions
) -> dict[str, NDArray[np.float32]]:
    """`LAYERS` of the window's cells, float32 (y, x), NaN where there is nothing to say.

    ``cloud`` holds all points of the window and `halo` metres around it, ``ground`` (n,) which of them are ground;
    ``plane`` is in metres. ``dtm`` is terrain at cell centres, ``dsm`` the highest first return of a cell, ``height``
    their difference; ``count`` is of measured points (0 where none), ``lowest``, ``highest`` and ``spread`` (standard
    deviation) of the heights of all; ``distance`` is metres to the nearest cell with a measured ground point, at most
    ``options.farthest``. Raises MissingExtra if startinpy is not installed.
    """
    wide = window.expand(math.ceil(halo(options, plane.res) / plane.res))
    if len(cloud):  # cells far from all points are as good as none
        held = plane.window(cloud.x.min(), cloud.y.min(), cloud.x.max(), cloud.y.max())
        wide = window.union(wide.intersect(held.expand(math.ceil(options.void / plane.res) + EDGE)))
    here = window.slices(wide)
    cell = cell_of(plane, wide, cloud.x, cloud.y)
    ground = ground & (cloud.classification != WATER)
    dtm = terrain(cloud, ground, cell, plane, wide, options)[here]
    first = cloud.returned <= 1  # 0 where a file does not say
    dsm = first_surface.first_surface(
        cell[first], cloud.x[first], cloud.y[first], cloud.z[first], options.void, plane, wide
    )[here]
    known = counted(cell, wide, ground & ~cloud.synthetic) > 0
    cells = summarised(cell_of(plane, window, cloud.x, cloud.y), cloud.z, window)
    return {
        "dtm": dtm.astype(np.float32),
        "dsm": dsm.astype(np.float32),
        "height": dsm.astype(np.float32) - dtm.astype(np.float32),
        "count": counted(cell, wide, ~cloud.synthetic)[here].astype(np.float32),
        "distance": capped(known, plane.res, options.farthest)[here].astype(np.float32),
        "spread": cells.spread.astype(np.float32),
        "lowest": cells.lowest.astype(np.float32),
        "highest": cells.highest.astype(np.float32),
    }


def terrain(cloud: Cloud, ground: Flags, cell: Ints, plane: Plane, window: Window, options: SurfaceOptions) -> Floats:
    """(y, x) heights of ground at the window's cell centres, NaN in voids.

    Where ground is smooth and points lie all around it is their plane, see `local_plane`, elsewhere the linear
    interpolation of the Delaunay triangles among the points beside such places: all of them beside a cell without one,
    elsewhere the one of each cell that is nearest to its centre.
    """
    x, y, z, at = cloud.x[ground], cloud.y[ground], cloud.z[ground], cell[ground]
    smooth = local_plane.fitted(at, x, y, z, plane, window)
    land = counted(cell, window, cloud.classification != WATER) > 0
    open_ = np.isnan(smooth) & (capped(land, plane.res, 2 * options.void) <= options.void)
    rim = (at >= 0) & dilated(open_, RIM).ravel()[at]
    rim[rim] = _needed(at[rim], x[rim], y[rim], counted(at, window) == 0, plane, window)
    bridged = sampled(triangulated(x[rim], y[rim], z[rim], options.reach), plane, window, open_)
    return np.where(open_, bridged, smooth)


def _needed(cell: Ints, x: Floats, y: Floats, empty: Flags, plane: Plane, window: Window) -> Flags:
    """(n,) the point of each cell that is nearest to its centre; all points beside a cell that is ``empty``."""
    u, v = x / plane.res - plane.anchor, -y / plane.res - plane.anchor
    far = (u - np.floor(u) - 0.5) ** 2 + (v - np.floor(v) - 0.5) ** 2
    nearest = extreme(cell, far, window, np.fmin)
    return np.asarray((far == nearest.ravel()[cell]) | dilated(empty, 1).ravel()[cell])
