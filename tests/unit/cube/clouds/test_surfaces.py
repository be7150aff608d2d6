"""Surfaces have the same bytes in any cut, agree with a triangulation of scipy, and say nothing in voids."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.interpolate import LinearNDInterpolator

from geoml.cube.clouds.surfaces import LAYERS, WATER, SurfaceOptions, halo, surfaces
from geoml.grid.plane import Plane, Window
from geoml.io.points.cloud import Cloud, joined

Layers = dict[str, NDArray[np.float32]]
EAST, NORTH = 512_345.0, 5_400_020.0
GROUND = 2
SMALL = SurfaceOptions(reach=8.0, void=4.0, farthest=10.0)


def cloud(
    points: NDArray[np.float64],
    classes: NDArray[np.uint8] | int = GROUND,
    returned: NDArray[np.uint8] | int = 1,
    synthetic: bool = False,
) -> Cloud:
    """Points (n, 3) beside a corner of a UTM zone."""
    n = len(points)
    x, y, z = points.astype(float).T
    columns = [np.broadcast_to(np.uint8(c), n).copy() for c in (classes, returned)]
    ones = np.ones(n, np.uint8)
    made = Cloud(x + EAST, y + NORTH, z, *columns, ones, ones.astype(np.uint16), np.full(n, synthetic))
    return joined([made])


def layers(points: Cloud, window: Window, res: float = 1.0, options: SurfaceOptions = SMALL) -> Layers:
    return surfaces(points, points.classification == GROUND, Plane("EPSG:32632", res), window, options)


def window(side: float, res: float = 1.0, margin: float = 5.0) -> Window:
    return Plane("EPSG:32632", res).window(EAST - margin, NORTH - margin, EAST + side + margin, NORTH + side + margin)


def by_blocks(points: Cloud, whole: Window, size: int, res: float, options: SurfaceOptions) -> Layers:
    """Layers of blocks of ``size`` cells, each of the points near it, in reverse order."""
    plane = Plane("EPSG:32632", res)
    out = {name: np.full(whole.shape, -1, np.float32) for name in LAYERS}
    around = halo(options, res)
    for y in reversed(range(whole.y0 // size * size, whole.y1, size)):
        for x in range(whole.x0 // size * size, whole.x1, size):
            part = Window(y, x, y + size, x + size).intersect(whole)
            left, bottom, right, top = plane.bounds(part)
            near = (points.x >= left - around) & (points.x < right + around)
            near &= (points.y > bottom - around) & (points.y <= top + around)
            for name, values in layers(points.take(near), part, res, options).items():
                out[name][part.slices(whole)] = values
    return out


def same(one: Layers, other: Layers) -> None:
    for name in LAYERS:
        assert one[name].dtype == np.float32
        assert one[name].tobytes() == other[name].tobytes(), name


def scene(side: float, density: float, seed: int) -> Cloud:
    """Rolling ground, houses, a pond without points, trees with late returns, birds, and water in a corner."""
    rng = np.random.default_rng(seed)
    n = int(side * side * density)
    x, y = rng.random((2, n)) * side
    z = 2200 + 3 * np.sin(x / 9) + y / 20 + rng.normal(0, 0.03, n)
    classes = np.where(rng.random(n) < 0.8, GROUND, 5)
    house = (x // 12 % 3 == 0) & (y // 12 % 2 == 0)
    classes[house], z[house] = 6, z[house] + 7
    late = (classes == 5) & (rng.random(n) < 0.5)
    z[classes == 5] += rng.uniform(0, 9, (classes == 5).sum())
    z[::501] += 40
    classes[(x < side / 5) & (y < side / 5)] = WATER
    kept = np.hypot(x - side / 2, y - side / 3) > side / 8
    points = np.column_stack([x, y, z])[kept]
    return cloud(points, classes[kept].astype(np.uint8), np.where(late, 2, 1)[kept].astype(np.uint8))


@pytest.mark.parametrize(("density", "res"), [(0.3, 1.0), (3.0, 1.0), (3.0, 0.3), (12.0, 2.0)])
def test_the_cut_does_not_count(density: float, res: float) -> None:
    side = 45.0
    points = scene(side, density, seed=1)
    whole = window(side, res)
    expected = layers(points, whole, res)
    assert 0.2 < np.isfinite(expected["dtm"]).mean() < 0.95
    for size in (23, 64):
        same(by_blocks(points, whole, size, res, SMALL), expected)


@pytest.mark.slow
@pytest.mark.parametrize("size", [64, 200, 512])
def test_the_cut_of_a_kilometre_does_not_count(size: int) -> None:
    points = scene(900.0, 1.0, seed=2)
    whole = window(900.0)
    options = SurfaceOptions()
    same(by_blocks(points, whole, size, 1.0, options), layers(points, whole, 1.0, options))


@settings(max_examples=8, deadline=None)
@given(
    step=st.sampled_from([0.5, 1.0, 1.5, 3.0]),
    shift=st.floats(0, 1),
    size=st.integers(8, 20),
    seed=st.integers(0, 9),
)
def test_a_grid_full_of_cocircular_points_is_cut_alike(step: float, shift: float, size: int, seed: int) -> None:
    across = np.arange(0, 25, step) + shift
    x, y = (v.ravel() for v in np.meshgrid(across, across))
    points = cloud(np.column_stack([x, y, np.random.default_rng(seed).random(len(x))]))
    whole = window(25.0)
    same(by_blocks(points, whole, size, 1.0, SMALL), layers(points, whole))


def test_the_order_of_files_does_not_count() -> None:
    points = scene(40.0, 2.0, seed=3)
    parts = [points.take(np.arange(len(points)) % 3 == k) for k in (2, 0, 1)]
    same(layers(joined(parts), window(40.0)), layers(points, window(40.0)))


def test_terrain_is_the_linear_surface_of_a_triangulation() -> None:
    """Of rough ground with a point a cell, where no plane fits: the triangles of scipy, inside their hull."""
    rng = np.random.default_rng(0)
    corners = np.indices((30, 30)).reshape(2, -1).T
    points = np.column_stack([corners + rng.uniform(0.01, 0.99, corners.shape), rng.random(900) * 8])
    points = points[rng.random(900) < 0.8]
    whole = window(30.0)
    found = layers(cloud(points), whole, options=SurfaceOptions(reach=30.0, void=30.0))["dtm"]
    x = np.arange(whole.x0, whole.x1) + 0.5 - EAST
    y = -(np.arange(whole.y0, whole.y1) + 0.5) - NORTH
    expected = LinearNDInterpolator(points[:, :2], points[:, 2])(*np.meshgrid(x, y))
    inner = np.isfinite(expected) & (np.hypot(*np.meshgrid(x - 15, y - 15)) < 13)
    assert inner.sum() > 500
    assert abs(found - expected)[inner].max() < 0.02  # coordinates are rounded to a quarter of a millimetre


def test_a_plane_is_met_exactly_wherever_it_is_seen() -> None:
    rng = np.random.default_rng(1)
    xy = rng.random((4000, 2)) * 50
    points = cloud(np.column_stack([xy, 100 + 0.3 * xy[:, 0] - 0.2 * xy[:, 1]]))
    whole = window(50.0, 0.5)
    found = layers(points, whole, 0.5)["dtm"]
    x = (np.arange(whole.x0, whole.x1) + 0.5) * 0.5 - EAST
    y = -(np.arange(whole.y0, whole.y1) + 0.5) * 0.5 - NORTH
    expected = 100 + 0.3 * x[None] - 0.2 * y[:, None]
    assert np.isfinite(found).sum() > 9000
    assert np.nanmax(abs(found - expected)) < 5e-4


def test_cells_are_half_open() -> None:
    """A point on the left and upper edge of a cell is its own; on the right and lower one it is not."""
    one = Window(int(-NORTH), int(EAST), int(-NORTH) + 1, int(EAST) + 1)  # its corner is the place (0, 0)
    edge = cloud(np.array([[0, 0, 1.0], [1, 0, 2], [0, -1, 3], [0.999, -0.999, 4]]))
    found = layers(edge, one)
    assert found["count"].item() == 2
    assert (found["lowest"].item(), found["highest"].item()) == (1.0, 4.0)
    assert found["spread"].item() == pytest.approx(1.5)


def flat(side: float, step: float = 0.5) -> NDArray[np.float64]:
    x, y = (v.ravel() for v in np.meshgrid(*2 * [np.arange(0.25, side, step)]))
    return np.column_stack([x, y, np.zeros(len(x))])


def test_a_bird_is_no_surface_and_a_small_house_is() -> None:
    points = flat(30)
    bird = np.array([[10.3, 10.3, 40.0], [20.3, 20.3, 25.0], [20.4, 20.2, 60.0]])
    house = points[(abs(points[:, 0] - 25) < 1.5) & (abs(points[:, 1] - 5) < 1.5)] + [0.01, 0.01, 12]
    found = layers(cloud(np.concatenate([points, bird, house])), window(30.0, margin=0))["dsm"]
    assert np.nanmax(found) == 12
    assert (found == 12).sum() >= 9
    assert (found[15:] == 0).sum() >= 15 * 30 - 25


def test_a_lone_point_stays_where_nothing_speaks_against_it() -> None:
    found = layers(cloud(np.array([[3.3, 3.3, 40.0]])), window(6.0))["dsm"]
    assert found[np.isfinite(found)].tolist() == [40.0]


def test_water_and_what_nobody_measured_are_void() -> None:
    points = flat(60)
    pond = np.hypot(points[:, 0] - 20, points[:, 1] - 20) < 12
    classes = np.where(pond, WATER, GROUND).astype(np.uint8)
    whole = window(60.0, margin=0)
    wet = layers(cloud(points, classes), whole)
    dry = layers(cloud(points[~pond]), whole)
    row, col = 60 - 1 - 20, 20
    assert np.isnan(wet["dtm"][row, col])
    assert wet["dsm"][row, col] == 0
    assert np.isnan(dry["dtm"][row, col])
    assert np.isnan(dry["dsm"][row, col])
    assert dry["distance"][row, col] == pytest.approx(10.0)  # no farther than this
    assert dry["distance"][5, 50] == 0
    assert dry["count"][row, col] == 0


def test_terrain_goes_under_houses_but_not_beyond_its_reach() -> None:
    points = flat(70)
    for half, known in ((5.0, True), (20.0, False)):
        house = np.maximum(abs(points[:, 0] - 35), abs(points[:, 1] - 35)) < half
        raised = points + np.where(house, 9, 0)[:, None] * [0, 0, 1]
        found = layers(cloud(raised, np.where(house, 6, GROUND).astype(np.uint8)), window(70.0, margin=0))
        assert np.isfinite(found["dtm"][35, 35]) == known
        assert found["dsm"][35, 35] == 9
        if known:
            assert found["height"][35, 35] == 9


@pytest.mark.parametrize(
    "points",
    [
        np.zeros((0, 3)),
        np.tile([[5.0, 5.0, 3.0]], (40, 1)),
        np.column_stack([np.arange(0, 30, 0.1), np.full(300, 5.0), np.arange(300)]),
    ],
    ids=["none", "one place", "one scan line"],
)
def test_no_terrain_where_there_is_no_area(points: NDArray[np.float64]) -> None:
    found = layers(cloud(points), window(30.0))
    assert np.isnan(found["dtm"]).mean() > 0.96
    assert found["count"].sum() == len(np.unique(points, axis=0)) or len(points) > 40


def test_no_ground_leaves_the_surface() -> None:
    found = layers(cloud(flat(20), 5), window(20.0, margin=0))
    assert np.isnan(found["dtm"]).all()
    assert np.isnan(found["height"]).all()
    assert (found["dsm"] == 0).all()
    assert (found["distance"] == np.float32(SMALL.farthest)).all()


def test_synthetic_points_are_no_density() -> None:
    found = layers(cloud(flat(20), synthetic=True), window(20.0, margin=0))
    assert (found["count"] == 0).all()
    assert (found["distance"] == np.float32(SMALL.farthest)).all()
    assert (found["dtm"] == 0).all()
