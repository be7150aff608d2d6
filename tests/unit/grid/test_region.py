"""Regions on the ground; shapely and pyproj are the oracles."""

from __future__ import annotations

import math

import numpy as np
import pyproj
import pytest
import shapely
from hypothesis import assume, given
from hypothesis import strategies as st
from shapely.geometry import LineString, MultiPolygon, Point, Polygon, box, mapping

from geoml.errors import InputError
from geoml.grid.plane import Plane
from geoml.grid.region import (
    MAX_VERTICES,
    blocks_of,
    from_bbox,
    from_geometry,
    plane_of,
    polygonal,
    polygons_of,
    project,
    utm_crs,
    zones,
)

lon = st.floats(-180, 180).map(lambda v: round(v, 6))
lat = st.floats(-90, 90).map(lambda v: round(v, 6))
WGS84 = pyproj.Geod(ellps="WGS84")


def spheric(geom: shapely.Geometry) -> float:
    """Area of longitude/latitude boxes in degrees x sine of latitude: exact, however it is cut."""
    return sum((p.bounds[2] - p.bounds[0]) * (p.bounds[3] - p.bounds[1]) for p in shapely.get_parts(geom))


@given(lon, lat, lon, lat)
def test_bbox_covers_what_it_says(west: float, south: float, east: float, north: float) -> None:
    assume(north - south > 1e-6)
    assume(abs(west - east) > 1e-6)
    region = from_bbox(west, south, east, north)
    width = east - west if west < east else east - west + 360
    assert spheric(region) == pytest.approx(width * (north - south), rel=1e-6)
    assert region.bounds[0] >= -180
    assert region.bounds[2] <= 180


@pytest.mark.parametrize(
    ("bbox", "word"),
    [
        ((0, 10, 1, 5), "south"),
        ((0, 5, 1, 5), "south"),
        ((1, 0, 1, 5), "empty"),
        ((0, -91, 1, 5), "latitude"),
        ((0, 0, 1, 90.5), "latitude"),
        ((-181, 0, 1, 5), "longitude"),
        ((170, 0, 190, 5), "antimeridian"),
        ((math.nan, 0, 1, 5), "finite"),
        ((0, 0, math.inf, 5), "finite"),
    ],
)
def test_bbox_that_is_none(bbox: tuple[float, float, float, float], word: str) -> None:
    with pytest.raises(InputError, match="bbox") as err:
        from_bbox(*bbox)
    assert word in str(err.value)


@given(st.floats(-179, 179), st.floats(-80, 80), st.floats(0.01, 20), st.floats(0.01, 5))
def test_a_box_is_the_same_by_bbox_past_180_and_jumping(west: float, south: float, width: float, height: float) -> None:
    north = min(south + height, 90.0)
    east = west + width
    plain = Polygon([(west, south), (east, south), (east, north), (west, north)])
    turned = Polygon([((x + 180) % 360 - 180, y) for x, y in plain.exterior.coords])
    expected = from_bbox(west, south, east if east <= 180 else east - 360, north)
    for given_as in (plain, turned, mapping(plain)):
        found = from_geometry(given_as)
        assert found.symmetric_difference(expected).area < 1e-6


def test_a_box_around_the_world_is_not_a_crossing() -> None:
    assert from_geometry(box(-180, -90, 180, 90)).area == pytest.approx(360 * 180)


def test_holes_and_parts_survive_the_antimeridian() -> None:
    ring = Point(180, 0).buffer(10).difference(Point(180, 0).buffer(5))
    found = from_geometry(MultiPolygon([ring, box(10, 10, 20, 20)]))
    assert found.area == pytest.approx(ring.area + 100)
    assert not found.intersects(Point(179, 0))
    assert not found.intersects(Point(-179, 0))
    assert found.intersects(Point(173, 0))
    assert found.intersects(Point(-173, 0))


def test_overlapping_parts_count_once() -> None:
    assert from_geometry(MultiPolygon([box(0, 0, 2, 2), box(1, 0, 3, 2)])).area == pytest.approx(6)


def _not_finite() -> Polygon:
    with np.errstate(invalid="ignore"):
        return Polygon([(0, 0), (math.nan, 1), (1, 1)])


@pytest.mark.parametrize(
    ("geometry", "word"),
    [
        ({"type": "Polygon"}, "GeoJSON"),
        ({"type": "Sphere", "coordinates": []}, "GeoJSON"),
        ({}, "GeoJSON"),
        (mapping(LineString([(0, 0), (1, 1)])), "area"),
        (mapping(Point(0, 0)), "area"),
        ({"type": "Polygon", "coordinates": []}, "area"),
        (Polygon([(0, 0), (1e12, 1), (1, 1)]), "finite"),
        (_not_finite(), "finite"),
        (box(500_000, 4_000_000, 600_000, 4_100_000), "finite|range|degrees"),
        (box(0, 0, 10, 91), "range"),
        (box(0, 0, 600, 10), "range"),
    ],
)
def test_geometry_that_is_no_region(geometry: object, word: str) -> None:
    with pytest.raises(InputError, match="region") as err:
        from_geometry(geometry)  # type: ignore[arg-type]
    assert any(w in str(err.value) for w in word.split("|")), err.value


def test_too_many_vertices_are_refused() -> None:
    turn = np.linspace(0, 2 * np.pi, MAX_VERTICES + 1)
    circle = Polygon(np.column_stack([np.cos(turn), np.sin(turn)]))
    with pytest.raises(InputError, match="vertices"):
        from_geometry(circle)


def test_utm_zone_of_places() -> None:
    for place, code in (
        ((-54.59, -25.41), 32721),
        ((9.0, 48.0), 32632),
        ((-180.0, 0.0), 32601),
        ((180.0, 0.0), 32660),
        ((179.99, -0.01), 32760),
        ((20.0, 84.5), 32661),
        ((20.0, -80.5), 32761),
        ((20.0, -80.0), 32734),
    ):
        assert utm_crs(*place) == f"EPSG:{code}"


@given(st.floats(-180, 179), st.floats(-79, 83))
def test_utm_zone_is_that_of_pyproj(x: float, y: float) -> None:
    zone = pyproj.CRS(utm_crs(x, y))
    west, south, east, north = zone.area_of_use.bounds if zone.area_of_use else (0, 0, 0, 0)
    assert west - 1e-9 <= x <= east + 1e-9
    assert south - 1e-9 <= y <= north + 1e-9


@given(lon, lat, lon, lat)
def test_zones_cover_without_overlap(west: float, south: float, east: float, north: float) -> None:
    assume(north - south > 0.01)
    assume(abs(west - east) > 0.01)
    region = from_bbox(west, south, east, north)
    parts = zones(region)
    assert sum(p.area for p in parts.values()) == pytest.approx(region.area, rel=1e-9)
    assert shapely.union_all(list(parts.values())).symmetric_difference(region).area < 1e-6
    for crs, part in parts.items():
        inner = part.representative_point()
        assert utm_crs(inner.x, inner.y) == crs


def test_zones_of_a_shape_share_borders_only() -> None:
    region = from_geometry(Point(-54, 0).buffer(4))
    parts = list(zones(region).values())
    assert len(parts) == 4
    for i, a in enumerate(parts):
        for b in parts[i + 1 :]:
            assert a.intersection(b).area == 0


def test_a_plane_in_metres_and_in_degrees() -> None:
    assert plane_of("EPSG:32621", 10).res == 10
    degrees = plane_of("EPSG:4326", 10).res
    assert WGS84.inv(0, 0, degrees, 0)[2] == pytest.approx(10)
    assert plane_of("EPSG:2263", 10).res == pytest.approx(10 / 0.3048006096)  # US survey feet
    with pytest.raises(InputError, match="crs"):
        plane_of("EPSG:999999", 10)


def test_project_bends_long_edges() -> None:
    """The middle of an edge along a parallel is where pyproj puts it, not on the chord."""
    part = box(-56, 59, -52, 60)
    move = pyproj.Transformer.from_crs("EPSG:4326", "EPSG:32621", always_xy=True)
    outline = project(part, "EPSG:32621")
    middle = move.transform(-54.0 - 2 / 7, 59.0)
    assert outline.exterior.distance(Point(middle)) < 5
    chord = LineString([move.transform(-56, 59), move.transform(-52, 59)])
    assert chord.distance(Point(middle)) > 500


@given(
    st.floats(-56.5, -54.5), st.floats(-30, 30), st.floats(0.02, 0.5), st.floats(0.02, 0.5), st.sampled_from([64, 200])
)
def test_blocks_of_a_region_hold_all_of_it(x: float, y: float, w: float, h: float, size: int) -> None:
    part = from_geometry(Polygon([(x, y), (x + w, y + h / 3), (x + w / 2, y + h)]))
    plane = Plane("EPSG:32621", 100.0)
    found = blocks_of(part, plane, size)
    outline = project(part, plane.crs)
    boxes = [box(*plane.bounds(b.window)) for b in found]
    assert len(set(found)) == len(found)
    assert all(b.intersection(outline).area > 0 for b in boxes)
    assert sum(b.intersection(outline).area for b in boxes) == pytest.approx(outline.area, rel=1e-6)


def test_blocks_skip_what_a_region_only_surrounds() -> None:
    ring = from_geometry(Point(-57, 1).buffer(0.5).difference(Point(-57, 1).buffer(0.45)))
    plane = Plane("EPSG:32621", 100.0)
    found = blocks_of(ring, plane, 64)
    west, south, east, north = project(ring, plane.crs).bounds
    all_of_it = math.ceil((east - west) / 6400 + 1) * math.ceil((north - south) / 6400 + 1)
    assert 0 < len(found) < 0.6 * all_of_it
    assert np.isfinite([plane.bounds(b.window) for b in found]).all()


def test_polygons_in_a_collection_in_a_collection_are_kept() -> None:
    two = shapely.MultiPolygon([shapely.box(0, 0, 1, 1), shapely.box(2, 0, 4, 1)])
    mixed = shapely.GeometryCollection([two, shapely.LineString([(0, 0), (9, 9)])])
    assert polygons_of(mixed).area == 3
    line = shapely.LineString([(0, 0), (9, 9)])
    found = polygonal(np.array([mixed, line, two.geoms[0]]))
    assert [g.geom_type for g in found] == ["MultiPolygon", "MultiPolygon", "Polygon"]
    assert shapely.area(found).tolist() == [3, 0, 1]
