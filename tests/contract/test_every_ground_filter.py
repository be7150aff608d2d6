"""What every file in geoml/cube/clouds/filters promises; a new file gets these tests without another edit."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from geoml.cube.clouds.ground import FILTERS
from geoml.errors import InputError

every_filter = pytest.mark.parametrize("name", FILTERS.names())

Points = NDArray[np.float64]
"""(n, 3) x, y and z."""
CORNER = np.array([512_345.0, 5_400_020.0, 0.0])


def town(side: float, seed: int = 0, slope: float = 0.0, density: float = 4.0) -> tuple[Points, NDArray[np.bool_]]:
    """A plane with houses of 12 m and trees, and which points are of the plane."""
    rng = np.random.default_rng(seed)
    n = int(side * side * density)
    xy = rng.random((n, 2)) * side
    over = np.zeros(n)
    for x, y in rng.random((int(side * side / 900), 2)) * side:
        over[np.maximum(abs(xy[:, 0] - x), abs(xy[:, 1] - y)) < 6] = 7.0
    for x, y in rng.random((int(side * side / 400), 2)) * side:
        crown = np.hypot(xy[:, 0] - x, xy[:, 1] - y) < 3
        over[crown] = np.maximum(over[crown], rng.uniform(2, 9, crown.sum()))
    z = 100 + slope * xy[:, 0] + over + rng.normal(0, 0.03, n)
    return np.column_stack([xy, z]) + CORNER, over == 0


def ground(name: str, points: Points) -> NDArray[np.bool_]:
    return FILTERS.build(name, {}).ground(*points.T)


@every_filter
@pytest.mark.parametrize(("slope", "lost"), [(0.0, 0.02), (0.3, 0.08)])
def test_tells_a_plane_from_houses_and_trees(name: str, slope: float, lost: float) -> None:
    points, bare = town(120, slope=slope)
    found = ground(name, points)
    assert (found & ~bare).sum() / (~bare).sum() < 0.02
    assert (~found & bare).sum() / bare.sum() < lost


@every_filter
@pytest.mark.parametrize("size", [64.0, 200.0, 37.0])
def test_does_not_depend_on_the_cut(name: str, size: float) -> None:
    side = 230.0
    points, _ = town(side, seed=3, slope=0.2, density=1.5)
    points[::97, 2] += np.random.default_rng(5).normal(0, 8, len(points[::97]))  # echoes above and below
    whole = ground(name, points)
    around = FILTERS.build(name, {}).halo
    x, y = points[:, 0] - CORNER[0], points[:, 1] - CORNER[1]
    for left in np.arange(0, side, size):
        for bottom in np.arange(0, side, size):
            own = (x >= left) & (x < left + size) & (y >= bottom) & (y < bottom + size)
            near = (x >= left - around) & (x < left + size + around)
            near &= (y >= bottom - around) & (y < bottom + size + around)
            part = np.zeros(len(points), bool)
            part[near] = ground(name, points[near])
            assert np.array_equal(part[own], whole[own])


@every_filter
def test_what_lies_beyond_the_halo_does_not_count(name: str) -> None:
    """Nor does what is there, and the same among the points does, so the test can fail."""
    points, _ = town(60, seed=1)
    around = FILTERS.build(name, {}).halo
    rng = np.random.default_rng(2)
    beside = rng.random((4000, 3)) * [40, 200, 60] + points.min(axis=0) + [60 + around, -70, -30]
    alone, both = ground(name, points), ground(name, np.concatenate([points, beside]))
    assert np.array_equal(alone, both[: len(points)])
    assert not np.array_equal(
        alone, ground(name, np.concatenate([points, beside - [around + 30, 0, 0]]))[: len(points)]
    )


@every_filter
def test_the_order_of_points_does_not_count(name: str) -> None:
    points, _ = town(60, seed=4)
    order = np.random.default_rng(0).permutation(len(points))
    assert np.array_equal(ground(name, points)[order], ground(name, points[order]))


@every_filter
def test_a_single_echo_from_below_is_no_ground_and_takes_none_away(name: str) -> None:
    points, bare = town(60, seed=6)
    at = int(np.flatnonzero(bare)[len(points) // 3])
    low = points.copy()
    low[at, 2] -= 30
    found = ground(name, low)
    assert not found[at]
    others = np.arange(len(points)) != at
    assert (found != ground(name, points))[others].mean() < 0.001


@every_filter
def test_odd_clouds(name: str) -> None:
    assert ground(name, np.zeros((0, 3))).shape == (0,)
    assert ground(name, np.tile(CORNER, (50, 1))).all()  # one place
    line = CORNER + np.column_stack([np.arange(0, 80, 0.3), np.zeros(267), np.zeros(267)])
    assert ground(name, line).all()  # one scan line
    with pytest.raises(InputError, match="spread over"):
        ground(name, np.array([[0.0, 0, 0], [1e6, 1e6, 0]]))


@every_filter
def test_has_defaults_of_metres_and_refuses_what_it_does_not_know(name: str) -> None:
    assert 0 < FILTERS.build(name, {}).halo <= 128
    with pytest.raises(InputError, match="windw"):
        FILTERS.configure(name, {"windw": 3})
    assert FILTERS.summary(name)
