"""Outlines in units of a projected plane in longitude and latitude, and their areas on the ellipsoid."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyproj
import shapely
from numpy.typing import NDArray

from geoml.grid.plane import Plane
from geoml.io.tables import wkb
from geoml.vector.rings import Rings

Geometries = NDArray[np.object_]
Numbers = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Placed:
    """Outlines in degrees, as `lonlat` gives them: WKB, (n, 4) bounds, m² as of `areas`, which are multipolygons."""

    wkb: pa.Array
    bounds: Numbers
    area: Numbers
    several: NDArray[np.bool_]


def placed(rings: Rings, plane: Plane) -> Placed:
    """Polygons in pixels of a plane on the ground, as `Rings.normalized` has them.

    Neighbours share their vertices, so each place is projected once.
    """
    places, at = _places(rings.coords)
    ground = (places + plane.anchor) * [plane.res, -plane.res]
    world = rings.moved(np.column_stack(_to_degrees(plane.crs).transform(*ground.T))[at])
    bounds = world.bounds()
    area = _areas(rings, at, ground, plane.crs, bounds)
    turned = bounds[:, 2] - bounds[:, 0] > 180  # over the antimeridian
    wrong = np.where(world.outer(), 1, -1) * world.signed() <= 0
    turned[world.polygon_of_ring()[wrong]] = True
    plain = wkb.of_rings(world)
    if not turned.any():
        return Placed(plain, bounds, area, turned)
    odd = _on_earth(world.take(turned).polygons())
    bounds[turned] = shapely.bounds(odd)
    encoded = plain.to_numpy(zero_copy_only=False)
    encoded[turned] = shapely.to_wkb(odd)
    turned[turned] = shapely.get_type_id(odd) == shapely.GeometryType.MULTIPOLYGON
    return Placed(pa.array(encoded, pa.binary()), bounds, area, turned)


def _areas(rings: Rings, at: NDArray[np.int64], ground: Numbers, crs: str, bounds: Numbers) -> Numbers:
    """m² of polygons whose vertices lie ``at`` places on the ground; ``bounds`` are in degrees."""
    centres, centre = np.unique(_centres(bounds), axis=0, return_inverse=True)
    if len(centres) == 1:
        return rings.moved(_equal_area(crs, centres[0, 0], centres[0, 1], ground)[at]).areas()
    area = np.empty(len(bounds))
    vertex = centre.ravel()[rings.owner(np.arange(len(at)))]
    for k, (lon, lat) in enumerate(centres.tolist()):
        here, again = np.unique(at[vertex == k], return_inverse=True)
        mine = np.flatnonzero(centre.ravel() == k)
        area[mine] = rings.take(mine).moved(_equal_area(crs, lon, lat, ground[here])[again.ravel()]).areas()
    return area


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
        equal = shapely.transform(ground[mine], _to_equal(crs, round(lon), round(lat)).transform, interleaved=False)
        area[mine] = shapely.area(equal)
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
