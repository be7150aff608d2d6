"""Outlines on the ground: against pyproj's geodesics and shapely, wherever they are and whatever lies around them."""

from __future__ import annotations

import numpy as np
import pyproj
import pytest
import shapely

from geoml.grid.plane import Plane
from geoml.io.tables.ground import areas, lonlat, placed
from geoml.vector.rings import Rings, bend


def squares(*corners: tuple[int, int], side: int = 200) -> Rings:
    boxes = np.array([shapely.box(x, y, x + side, y + side) for x, y in corners])
    holed = [shapely.difference(b, shapely.box(*np.add(b.bounds, (20, 30, -50, -40)))) for b in boxes]
    return bend(Rings.of(shapely.orient_polygons(np.array(holed))).normalized(), 64)


@pytest.mark.parametrize(
    ("crs", "res", "corners"),
    [
        ("EPSG:32621", 10.0, [(30_000, -720_000), (61_000, -690_000), (-3_000, -720_300)]),  # degrees apart
        ("EPSG:32760", 10.0, [(79_000, -720_000)]),
        ("EPSG:3031", 10.0, [(150_000, -150_000), (9_000, 3_000)]),
        ("EPSG:4326", 0.001, [(-60_000, 10_000), (179_900, -10_000)]),
    ],
)
def test_placed_is_what_shapely_and_geodesics_say(crs: str, res: float, corners: list[tuple[int, int]]) -> None:
    rings, plane = squares(*corners), Plane(crs, res)
    found = placed(rings, plane)
    ground = shapely.transform(rings.polygons(), lambda c: c * [res, -res])
    expected = lonlat(ground, crs)
    assert found.wkb.to_pylist() == shapely.to_wkb(expected).tolist()
    np.testing.assert_array_equal(found.bounds, shapely.bounds(expected))
    np.testing.assert_array_equal(found.area, areas(ground, crs))
    assert found.several.tolist() == [g.geom_type == "MultiPolygon" for g in expected]
    geod = pyproj.Geod(ellps="WGS84")
    dense = lonlat(shapely.segmentize(ground, 8 * res), crs)
    exact = [sum(abs(geod.geometry_area_perimeter(p)[0]) for p in getattr(g, "geoms", [g])) for g in dense]
    np.testing.assert_allclose(found.area, exact, rtol=2e-5 if crs == "EPSG:4326" else 2e-6)


def test_an_area_does_not_hang_on_what_else_there_is() -> None:
    plane = Plane("EPSG:32621", 10.0)
    corners = [(30_000, -720_000), (61_000, -690_000), (45_000, -650_000)]
    together = placed(squares(*corners), plane)
    for k, corner in enumerate(corners):
        alone = placed(squares(corner), plane)
        assert alone.area[0] == together.area[k]
        assert alone.wkb[0] == together.wkb[k]


def test_nothing_is_placed_nowhere() -> None:
    none = placed(Rings.joined([]), Plane("EPSG:32621", 10.0))
    assert len(none.wkb) == len(none.bounds) == len(none.area) == 0
