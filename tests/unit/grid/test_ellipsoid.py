"""Areas on the ellipsoid against the formula of a zone between two parallels."""

from __future__ import annotations

import math

import pytest
import shapely

from geoml.grid.ellipsoid import WGS84, area


def zone(degrees: float) -> float:
    """m² of WGS 84 from the equator to a parallel: the integral of a surface of revolution (Snyder 1987, 3-12)."""
    e, sine = math.sqrt(WGS84.es), math.sin(math.radians(degrees))
    q = sine / (1 - (e * sine) ** 2) + math.atanh(e * sine) / e
    return math.pi * WGS84.b**2 * q


@pytest.mark.parametrize(("south", "north"), [(0, 1), (44, 45), (-61, -60), (79, 80)])
def test_the_area_of_a_cell_is_its_part_of_the_zone_whichever_way_its_ring_goes(south: float, north: float) -> None:
    cell = shapely.segmentize(shapely.box(10, south, 11, north), 0.01)  # edges that follow the parallels
    wanted = (zone(north) - zone(south)) / 360
    assert area(cell) == pytest.approx(wanted, rel=1e-6)
    assert area(shapely.reverse(cell)) == area(cell)


def test_holes_do_not_count() -> None:
    cell, hole = shapely.box(10, 44, 11, 45), shapely.box(10.2, 44.2, 10.7, 44.7)
    assert area(cell.difference(hole)) == pytest.approx(area(cell) - area(hole))
