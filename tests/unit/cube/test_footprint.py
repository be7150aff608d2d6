"""Which items touch a grid: shifted boxes, the antimeridian, poles, and items that do not say where they are."""

from __future__ import annotations

from datetime import UTC, datetime

import pystac
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj import Transformer
from shapely.geometry import box, mapping

from geoml.cube.footprint import footprint, touches

GRID = GeoBox((1000, 1000), Affine(10, 0, 500_000, 0, -10, 5_000_000), "EPSG:32632")


def item(bounds: tuple[float, float, float, float] | None, *, geometry: bool = True) -> pystac.Item:
    shape = mapping(box(*bounds)) if bounds and geometry else None
    return pystac.Item("i", shape, list(bounds) if bounds else None, datetime(2024, 1, 1, tzinfo=UTC), {})


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        ((9.0, 45.0, 9.2, 45.2), True),
        ((8.0, 44.0, 8.9, 46.0), False),
        ((9.2, 45.0, 10.0, 45.2), False),
        ((9.05, 45.06, 9.06, 45.07), True),
        ((-171.0, 45.0, -170.8, 45.2), False),
        (None, True),
    ],
)
def test_by_geometry_and_by_bbox(bounds, expected) -> None:
    outline = footprint(GRID)
    assert touches(item(bounds), outline) is expected
    assert touches(item(bounds, geometry=False), outline) is expected


def test_the_outline_is_that_of_the_grid() -> None:
    west, south, east, north = footprint(GRID).bounds
    exact = Transformer.from_crs(32632, 4326, always_xy=True).transform_bounds(500_000, 4_990_000, 510_000, 5_000_000)
    assert (west, south, east, north) == pytest.approx(exact, abs=1e-6)


def test_across_the_antimeridian() -> None:
    grid = GeoBox((100, 100), Affine(5000, 0, 0, 0, -5000, 8_000_000), "EPSG:32601")
    outline = footprint(grid)
    assert outline.bounds[0] == -180
    assert outline.bounds[2] == 180
    assert touches(item((178.0, 70.0, 179.0, 71.0)), outline)
    assert touches(item((-179.0, 70.0, -178.0, 71.0)), outline)
    assert touches(item((179.0, 70.0, -179.0, 71.0), geometry=False), outline)
    assert not touches(item((0.0, 70.0, 1.0, 71.0)), outline)


def test_at_a_pole_everything_may_touch() -> None:
    grid = GeoBox((100, 100), Affine(5000, 0, 1_750_000, 0, -5000, 2_250_000), "EPSG:32661")
    assert footprint(grid) is None
    assert touches(item((0.0, 0.0, 1.0, 1.0)), None)
