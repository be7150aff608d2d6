"""Regions on the ground: longitude/latitude polygons, split at the antimeridian and into UTM zones."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.coords import CoordinateSequence
from shapely.geometry import MultiPolygon, Polygon, box, shape
from shapely.geometry.base import BaseGeometry

from geoml.errors import InputError
from geoml.grid.plane import Block, Plane, Window, blocks_touching

if TYPE_CHECKING:
    import pyproj

MAX_VERTICES = 100_000
"""A region with more vertices is simplified by its owner, not by us."""


def from_bbox(west: float, south: float, east: float, north: float) -> MultiPolygon:
    """A region from a box in degrees; ``west > east`` crosses the antimeridian.

    Raises InputError for values that are not finite, out of range, empty or upside down.
    """
    text = f"bbox: {west} {south} {east} {north}"
    degrees = abs(south) <= 180 and abs(north) <= 180 and abs(west) <= 90 and abs(east) <= 90 and west < east
    swapped = f"; did you mean {south} {west} {north} {east}, longitude first?" if degrees else ""
    if not all(math.isfinite(v) for v in (west, south, east, north)):
        raise InputError(f"{text}: not finite; expected west south east north in degrees")
    if south >= north:
        raise InputError(f"{text}: south is not below north; expected west south east north in degrees")
    if south < -90 or north > 90:
        raise InputError(f"{text}: a latitude is outside -90..90{swapped}")
    if not (-180 <= west <= 180 and -180 <= east <= 180):
        raise InputError(f"{text}: a longitude is outside -180..180; a box over the antimeridian has west > east")
    if west == east:
        raise InputError(f"{text}: empty, west equals east")
    if west < east:
        return MultiPolygon([box(west, south, east, north)])
    parts = [box(west, south, 180.0, north), box(-180.0, south, east, north)]
    return MultiPolygon([p for p in parts if p.area > 0])


def from_geometry(geometry: Mapping[str, object] | BaseGeometry) -> MultiPolygon:
    """A region from a GeoJSON mapping or a shapely geometry with polygons, in degrees.

    Rings may run past ±180 or jump across it (a step of more than 180° of longitude); both are split there.
    """
    try:
        geom = geometry if isinstance(geometry, BaseGeometry) else shape(geometry)
    except Exception as err:  # shapely raises many kinds for malformed GeoJSON
        raise InputError(f"region: not a GeoJSON geometry ({err}); expected a Polygon or MultiPolygon") from err
    polygons = [g for g in getattr(geom, "geoms", [geom]) if isinstance(g, Polygon) and not g.is_empty]
    if not polygons:
        raise InputError(f"region: a {geom.geom_type} has no area; expected a Polygon or MultiPolygon")
    if (count := int(shapely.get_num_coordinates(geom))) > MAX_VERTICES:
        raise InputError(f"region: {count} vertices; expected at most {MAX_VERTICES}, simplify it first")
    coords = shapely.get_coordinates(geom)
    if not bool((abs(coords) < 1e4).all()):  # NaN compares False
        raise InputError("region: a coordinate is not finite; expected longitude and latitude in degrees")
    if abs(coords[:, 1]).max() > 90 or abs(coords[:, 0]).max() > 540:
        raise InputError("region: coordinates are out of range; expected longitude and latitude in degrees (EPSG:4326)")
    if len(polygons) == 1 and _plain(polygons[0]):
        return polygons_of(shapely.normalize(shapely.force_2d(polygons[0])))
    world: list[BaseGeometry] = []
    for polygon in polygons:
        fixed = shapely.make_valid(_unwrapped(polygon))
        for shift in (-360, 0, 360):
            part = shapely.intersection(fixed, box(-180 + shift, -90, 180 + shift, 90))
            if part.area > 0:
                world.append(shapely.transform(part, lambda c, s=shift: c - [s, 0]))
    return polygons_of(shapely.normalize(shapely.union_all(world)))


def _plain(polygon: Polygon) -> bool:
    """True where there is nothing to mend, unwrap or split, as of nearly all footprints; an overlay takes ten times as
    long to find that."""
    coords = shapely.get_coordinates(polygon)
    west, east = coords[:, 0].min(), coords[:, 0].max()
    if polygon.interiors or west < -180 or east > 180 or east - west > 180:
        return False
    return bool(np.diff(coords, axis=0).any(axis=1).all()) and bool(shapely.is_valid(polygon))


def _unwrapped(polygon: Polygon) -> Polygon:
    """The polygon with every step of more than 180° of longitude taken the short way round."""

    def ring(points: CoordinateSequence) -> list[tuple[float, float]]:
        out: list[tuple[float, float]] = []
        before, turns = None, 0
        for x, y in [(p[0], p[1]) for p in points]:
            if before is not None and 180 < abs(x - before) < 360:  # a full turn is a box around the world
                turns -= round((x - before) / 360)
            before = x
            out.append((x + 360 * turns, y))
        return out

    return Polygon(ring(polygon.exterior.coords), [ring(r.coords) for r in polygon.interiors])


def polygons_of(geom: BaseGeometry) -> MultiPolygon:
    """Its polygons with an area, in their order."""
    parts = shapely.get_parts(shapely.get_parts(geom))  # a collection may hold multipolygons
    return MultiPolygon([g for g in parts if isinstance(g, Polygon) and g.area > 0])


def polygonal(shapes: NDArray[np.object_]) -> NDArray[np.object_]:
    """Polygons as they are, of others their polygons: an overlay leaves lines where edges run along each other."""
    out = shapes.copy()
    kinds = shapely.get_type_id(out)
    others = (kinds != shapely.GeometryType.POLYGON) & (kinds != shapely.GeometryType.MULTIPOLYGON)
    for row in np.flatnonzero(others):
        out[row] = polygons_of(out[row])
    return out


def utm_crs(lon: float, lat: float) -> str:
    """EPSG code of the UTM zone of a place (UPS beyond 84° N and 80° S), as ``EPSG:32621``."""
    if lat >= 84:
        return "EPSG:32661"
    if lat < -80:
        return "EPSG:32761"
    zone = min(60, int((lon + 180) // 6) + 1)
    return f"EPSG:{(32600 if lat >= 0 else 32700) + zone}"


def zones(region: MultiPolygon) -> dict[str, MultiPolygon]:
    """The region cut along UTM zones: CRS -> its part in degrees. The parts share borders and nothing else."""
    west, _, east, _ = region.bounds
    parts: dict[str, MultiPolygon] = {}
    bands = [(-90.0, -80.0), (-80.0, 0.0), (0.0, 84.0), (84.0, 90.0)]
    for low, high in bands:
        polar = low in (-90.0, 84.0)
        width = 360 if polar else 6
        for k in range(int((west + 180) // width), int((east + 180 - 1e-12) // width) + 1):
            cell = box(-180 + k * width, low, -180 + (k + 1) * width, high)
            part = polygons_of(shapely.normalize(shapely.intersection(region, cell)))
            if not part.is_empty:
                parts[utm_crs(-180 + (k + 0.5) * width, (low + high) / 2)] = part
    return parts


def plane_of(crs: str, gsd: float, anchor: float = 0.0) -> Plane:
    """The plane of a CRS at ``gsd`` metres; a geographic CRS gets the same length in degrees at the equator."""
    import pyproj

    try:
        parsed = pyproj.CRS.from_user_input(crs)
    except pyproj.exceptions.CRSError as err:
        raise InputError(f"crs: {crs!r} is not known; expected 'utm', 'data' or a code such as EPSG:32633") from err
    try:
        pyproj.Transformer.from_crs("EPSG:4326", parsed, always_xy=True)
        placed = parsed.is_geographic or parsed.is_projected
    except pyproj.exceptions.ProjError:  # of another body, or of no body
        placed = False
    if not placed:
        raise InputError(f"crs: {crs[:80]!r} does not describe places on the Earth; expected a code such as EPSG:32633")
    if parsed.is_geographic:
        return Plane(crs, gsd / 111_319.490793, anchor)
    return Plane(crs, gsd / parsed.axis_info[0].unit_conversion_factor, anchor)


@lru_cache(maxsize=256)
def _to(crs: str) -> pyproj.Transformer:
    """From degrees, one for each thread inside; making one takes a thousand times as long as projecting a point."""
    import pyproj

    return pyproj.Transformer.from_crs("EPSG:4326", crs, always_xy=True)


def project(part: BaseGeometry, crs: str) -> BaseGeometry:
    """A longitude/latitude geometry in ``crs``; edges are densified every 0.05 degrees, so they bend with it."""
    (moved,) = project_all([part], crs)
    return moved


def project_all(parts: Sequence[BaseGeometry] | NDArray[np.object_], crs: str) -> NDArray[np.object_]:
    """`project` for many at once."""
    to = _to(crs)

    def move(coords: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.column_stack(to.transform(coords[:, 0], coords[:, 1]))

    dense = shapely.segmentize(np.asarray(parts, dtype=object), 0.05)
    moved: NDArray[np.object_] = shapely.make_valid(shapely.transform(dense, move))
    return moved


def squares_of(plane: Plane, windows: Sequence[Window]) -> NDArray[np.object_]:
    """The windows as boxes, in units of the plane's CRS."""
    bounds = np.array([plane.bounds(w) for w in windows]).reshape(-1, 4)
    boxes: NDArray[np.object_] = shapely.box(*bounds.T)
    return boxes


def blocks_of(part: BaseGeometry, plane: Plane, size: int) -> list[Block]:
    """Blocks of the plane that the longitude/latitude ``part`` touches, row by row."""
    outline = project(part, plane.crs)
    shapely.prepare(outline)
    found = blocks_touching(plane, size, plane.window(*outline.bounds))
    squares = squares_of(plane, [b.window for b in found])
    touched = shapely.intersects(outline, squares)
    edge = touched & ~shapely.contains_properly(outline, squares)  # an overlay takes a thousand times as long
    touched[edge] = shapely.area(shapely.intersection(outline, squares[edge])) > 0
    return [b for b, wanted in zip(found, touched, strict=True) if wanted]
