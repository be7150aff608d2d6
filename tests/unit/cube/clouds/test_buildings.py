"""Footprints of made houses: as large as they are, the same in any cut, and no walls."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from geoml.cube.clouds.buildings import BUILDING, footprints, reach
from geoml.grid.plane import Plane, Window
from geoml.io.points.cloud import Cloud, joined

EAST, NORTH, SIDE = 512_345.0, 5_400_020.0, 60.0
HOUSES = ((5.0, 5.0, 15.0, 12.0), (30.0, 20.0, 52.0, 41.0))
WALL = (5.0, 30.0, 25.0, 30.4)


def town(density: float = 9.0) -> Cloud:
    rng = np.random.default_rng(0)
    n = int(SIDE * SIDE * density)
    x, y = rng.random((2, n)) * SIDE
    built = np.zeros(n, bool)
    for left, low, right, top in (*HOUSES, WALL):
        built |= (x >= left) & (x < right) & (y >= low) & (y < top)
    built &= rng.random(n) < 0.97  # chimneys, aerials, birds
    byte = np.ones(n, np.uint8)
    classes = np.where(built, BUILDING, 2).astype(np.uint8)
    made = Cloud(x + EAST, y + NORTH, 7.0 * built, classes, byte, byte, byte.astype(np.uint16), np.zeros(n, bool))
    return joined([made])


def plane_and_window(res: float) -> tuple[Plane, Window]:
    plane = Plane("EPSG:32632", res)
    return plane, plane.window(EAST, NORTH, EAST + SIDE, NORTH + SIDE)


def truth(plane: Plane, window: Window) -> NDArray[np.bool_]:
    x = (np.arange(window.x0, window.x1) + 0.5) * plane.res - EAST
    y = -(np.arange(window.y0, window.y1) + 0.5)[:, None] * plane.res - NORTH
    inside = [(x >= left) & (x < right) & (y >= low) & (y < top) for left, low, right, top in HOUSES]
    return np.logical_or.reduce(inside)


@pytest.mark.parametrize("res", [0.5, 1.0])
def test_houses_are_as_large_as_they_are_and_walls_are_none(res: float) -> None:
    plane, window = plane_and_window(res)
    found, expected = footprints(town(), plane, window), truth(plane, window)
    assert (found & expected).sum() / (found | expected).sum() > 0.95


@pytest.mark.parametrize(("res", "size"), [(0.5, 37), (1.0, 16), (0.25, 64)])
def test_the_cut_does_not_count(res: float, size: int) -> None:
    points = town(3.0)
    plane, whole = plane_and_window(res)
    expected = footprints(points, plane, whole)
    for y in range(whole.y0, whole.y1, size):
        for x in range(whole.x0, whole.x1, size):
            part = Window(y, x, y + size, x + size).intersect(whole)
            left, bottom, right, top = plane.bounds(part)
            near = (points.x >= left - reach(res)) & (points.x < right + reach(res))
            near &= (points.y > bottom - reach(res)) & (points.y <= top + reach(res))
            found = footprints(points.take(near), plane, part)
            assert np.array_equal(found, expected[part.slices(whole)])


def test_without_classes_there_are_none() -> None:
    plane, window = plane_and_window(1.0)
    points = town()
    assert not footprints(points.take(points.classification != BUILDING), plane, window).any()
    assert not footprints(Cloud.empty(), plane, window).any()
