"""Outlines in units of a projected plane in longitude and latitude, and their areas on the ellipsoid."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pyproj
import shapely
from numpy.typing import NDArray

from geoml.grid.plane import Plane
from geoml.vector.rings import Rings

Geometries = NDArray[np.object_]
Numbers = NDArray[np.float64]


def placed(pixels: Geometries, plane: Plane) -> tuple[Geometries, Numbers]:
    """Polygons in pixels of a plane in degrees, as `lonlat` gives them, and their m², as `areas` does.

    Neighbours share their vertices, so each place is projected once.
    """
    rings = Rings.of(pixels)
    places, at = _places(rings.coords)
    ground = (places + plane.anchor) * [plane.res, -plane.res]
    world = np.column_stack(_to_degrees(plane.crs).transform(*ground.T))
    flat = rings.moved(world[at]).polygons()
    centres = _centres(shapely.bounds(flat))
    area = np.empty(len(pixels))
    owner = rings.owner(np.arange(len(at)))
    names, centre = np.unique(centres, axis=0, return_inverse=True)
    for k, (lon, lat) in enumerate(names.tolist()):
        mine = centre.ravel() == k
        if len(names) == 1:
            area = shapely.area(rings.moved(_equal_area(plane.crs, lon, lat, ground)[at]).polygons())
            break
        here = np.unique(at[mine[owner]])
        equal = np.full(places.shape, np.nan)
        equal[here] = _equal_area(plane.crs, lon, lat, ground[here])
        area[mine] = shapely.area(Rings.of(pixels[mine]).moved(equal[at[mine[owner]]]).polygons())
    return _on_earth(flat), area


def areas(ground: Geometries, crs: str) -> Numbers:
    """m² of outlines in units of ``crs`` on the WGS 84 ellipsoid.

    In an equal-area projection centred on the whole degree next to each, where short edges stay straight. Agrees with
    geodesic areas to a millionth and costs one projection of all vertices instead of a geodesic for each.
    """
    centres = _centres(shapely.bounds(shapely.transform(ground, _to_degrees(crs).transform, interleaved=False)))
    area = np.empty(len(ground))
    names, centre = np.unique(centres, axis=0, return_inverse=True)
    for k, (lon, lat) in enumerate(names.tolist()):
        mine = centre.ravel() == k
        area[mine] = shapely.area(
            shapely.transform(ground[mine], lambda c, x=lon, y=lat: _equal_area(crs, x, y, c))  # type: ignore[misc]
        )
    return area


def lonlat(ground: Geometries, crs: str) -> Geometries:
    """Outlines in units of ``crs`` in degrees: cut at the antimeridian, outer rings counterclockwise."""
    return _on_earth(shapely.transform(ground, _to_degrees(crs).transform, interleaved=False))


def _places(coords: Numbers) -> tuple[Numbers, NDArray[np.int64]]:
    """The places (n, 2) of vertices on the lattice of pixels, each once, and which of them each vertex is."""
    if not len(coords):
        return coords, np.empty(0, np.int64)
    whole = coords.astype(np.int64)
    if (whole != coords).any():  # simplified outlines keep to the lattice, so these come from elsewhere
        places, at = np.unique(coords, axis=0, return_inverse=True)
        return places, at.ravel()
    low = whole.min(axis=0)
    width = int(whole[:, 0].max() - low[0]) + 1
    key = (whole[:, 1] - low[1]) * width + whole[:, 0] - low[0]
    names, at = np.unique(key, return_inverse=True)
    return np.column_stack([names % width + low[0], names // width + low[1]]).astype(np.float64), at


def _centres(bounds: Numbers) -> Numbers:
    """(n, 2) whole degrees next to the middle of bounds in degrees, also over the antimeridian."""
    west, south, east, north = bounds.reshape(-1, 4).T
    lon = np.where(east - west > 180, 180.0, np.round((west + east) / 2))
    return np.column_stack([lon, np.round((south + north) / 2)]) + 0.0  # no -0


@lru_cache(64)
def _to_degrees(crs: str) -> pyproj.Transformer:
    return pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True)


@lru_cache(256)
def _to_equal(crs: str, lon: int, lat: int) -> pyproj.Transformer:
    equal = pyproj.CRS.from_dict({"proj": "laea", "lat_0": lat, "lon_0": lon, "ellps": "WGS84", "units": "m"})
    return pyproj.Transformer.from_crs(crs, equal, always_xy=True)


def _equal_area(crs: str, lon: float, lat: float, ground: Numbers) -> Numbers:
    return np.column_stack(_to_equal(crs, round(lon), round(lat)).transform(*ground.T))


def _on_earth(world: Geometries) -> Geometries:
    """Outlines in degrees, cut at the antimeridian."""
    west, _, east, _ = shapely.bounds(world).reshape(-1, 4).T
    for k in np.flatnonzero(east - west > 180):
        unrolled = shapely.transform(world[k], lambda c: np.column_stack([c[:, 0] % 360, c[:, 1]]))
        here = shapely.intersection(unrolled, shapely.box(0, -90, 180, 90))
        there = shapely.intersection(unrolled, shapely.box(180, -90, 360, 90))
        sides = [here, shapely.transform(there, lambda c: c - [360, 0])]
        world[k] = shapely.multipolygons([p for p in shapely.get_parts(sides) if p.area > 0])
    fixed: Geometries = shapely.orient_polygons(world)
    return fixed
