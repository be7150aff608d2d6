"""Which areas touch which windows of a plane, for many of both: one tree of the areas, and no loop over all pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyproj
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from geoml.grid.plane import Plane, Window
from geoml.grid.region import project_all, squares_of

POLAR = 84.0
"""Degrees of latitude; a box around a pole is not a box in longitude and latitude."""

SLACK = 0.02
"""Degrees around a window in which an area is near: footprints of items are simplified."""

SIDE = 20
"""Points on each side of a window that are taken to degrees."""

METRES = 111_320.0
"""Of a degree at the equator."""

Indices = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Matches:
    """Pairs of a window and an area near it, by window and then by area."""

    window: Indices
    area: Indices
    touches: NDArray[np.bool_]
    """Whether the area as projected touches the window; never where it has no finite outline in the CRS."""
    outlines: NDArray[np.object_]
    """The area of each pair as projected, prepared."""

    def meet(self, squares: NDArray[np.object_]) -> NDArray[np.bool_]:
        """Of each pair that touches, whether the area also touches the square (in the CRS) of its window."""
        found = self.touches.copy()
        found[found] = shapely.intersects(self.outlines[found], squares[self.window[found]])
        return found


class Areas:
    """Areas in degrees, each split at the antimeridian, to be found by windows of any plane."""

    def __init__(self, areas: Sequence[BaseGeometry]) -> None:
        self.areas = np.empty(len(areas), dtype=object)
        self.areas[:] = areas
        parts, self._owner = shapely.get_parts(self.areas, return_index=True)
        self._tree = shapely.STRtree(parts)

    def near(self, plane: Plane, windows: Sequence[Window], reach: int = 0) -> Matches:
        """The areas within ``reach`` pixels and `SLACK` degrees of each window, and which of them touch it.

        What touches is what a loop over all pairs finds. Where a window has no box in degrees (near a pole), areas are
        near by their outlines in the plane, and one without an outline there is near all of these windows.
        """
        squares = squares_of(plane, windows)
        owner, boxes, known = _boxes(plane, [w.expand(reach) for w in windows])
        at, part = self._tree.query(boxes, predicate="intersects")
        pairs = [owner[at] * len(self.areas) + self._owner[part]]
        odd = np.flatnonzero(~known)
        if len(odd):
            pairs.append(self._near_in_plane(plane, squares, odd, reach))
        window, area = np.divmod(np.unique(np.concatenate(pairs)), max(len(self.areas), 1))
        used, where = np.unique(area, return_inverse=True)
        outlines = project_all(self.areas[used], plane.crs)
        finite = np.isfinite(shapely.bounds(outlines)).all(axis=1)
        shapely.prepare(outlines)
        touches = finite[where]
        touches[touches] = shapely.intersects(outlines[where][touches], squares[window[touches]])
        return Matches(window, area, touches, outlines[where])

    def _near_in_plane(self, plane: Plane, squares: NDArray[np.object_], odd: Indices, reach: int) -> Indices:
        """Keys of pairs of the windows ``odd``, by outlines in the plane."""
        outlines = project_all(self.areas, plane.crs)
        finite = np.isfinite(shapely.bounds(outlines)).all(axis=1)
        there, nowhere = np.flatnonzero(finite), np.flatnonzero(~finite)
        crs = pyproj.CRS(plane.crs)
        degree = METRES / crs.axis_info[0].unit_conversion_factor if crs.is_projected else 1.0
        around = shapely.bounds(squares[odd]) + np.array([-1, -1, 1, 1]) * (SLACK * degree + reach * plane.res)
        at, found = shapely.STRtree(outlines[there]).query(shapely.box(*around.T), predicate="intersects")
        count = len(self.areas)
        all_odd: Indices = (odd[:, None] * count + nowhere).ravel()
        return np.concatenate([odd[at] * count + there[found], all_odd])


def _boxes(plane: Plane, windows: Sequence[Window]) -> tuple[Indices, NDArray[np.object_], NDArray[np.bool_]]:
    """Boxes in degrees around the windows, two where one crosses the antimeridian: index of its window, box; and for
    each window whether it has any."""
    bounds = np.array([plane.bounds(w) for w in windows]).reshape(-1, 4)
    t = np.linspace(0, 1, SIDE + 1)[:-1]
    one, zero = np.ones_like(t), np.zeros_like(t)
    across, up = np.concatenate([t, one, 1 - t, zero]), np.concatenate([zero, t, one, 1 - t])
    left, bottom, right, top = (side[:, None] for side in bounds.T)
    x, y = left + across * (right - left), bottom + up * (top - bottom)
    move = pyproj.Transformer.from_crs(plane.crs, "EPSG:4326", always_xy=True)
    lon, lat = (np.asarray(v).reshape(x.shape) for v in move.transform(x.ravel(), y.ravel()))
    known = np.isfinite(lon).all(axis=1) & np.isfinite(lat).all(axis=1) & (np.abs(lat).max(axis=1) <= POLAR)
    n = np.flatnonzero(known)
    lon, lat = lon[n], lat[n]
    lon = np.where((np.ptp(lon, axis=1) > 180)[:, None], lon % 360, lon)
    known[n[np.ptp(lon, axis=1) > 180]] = False
    keep = known[n]
    n, lon, lat = n[keep], lon[keep], lat[keep]
    west, east = lon.min(axis=1) - SLACK, lon.max(axis=1) + SLACK
    south, north = lat.min(axis=1) - SLACK, lat.max(axis=1) + SLACK
    turns = [shapely.box(west + turn, south, east + turn, north) for turn in (-360, 0, 360)]
    reach = [(west + turn <= 180) & (east + turn >= -180) for turn in (-360, 0, 360)]
    owner = np.concatenate([n[r] for r in reach])
    return owner, np.concatenate([b[r] for b, r in zip(turns, reach, strict=True)]), known
