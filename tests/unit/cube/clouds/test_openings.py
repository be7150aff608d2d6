"""Heights above openings: those of scipy's grey opening where every cell has a point, and of no far point."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import grey_opening

from geoml.cube.clouds.openings import heights_above_openings, reach


def test_a_box_on_a_slope_stands_out_where_the_window_is_wider_than_it() -> None:
    y, x = np.mgrid[0:60, 0:60]
    ground = 100 * x
    z = ground + 5_000 * ((np.abs(x - 30) <= 4) & (np.abs(y - 30) <= 4))
    points = np.stack([x * 1000 + 500, y * 1000 + 500, z], 2).reshape(-1, 3).astype(np.int64)
    found = heights_above_openings(points, 1000, (2, 6)).reshape(60, 60, 2)
    for k, radius in enumerate((2, 6)):
        inner = slice(2 * radius, -2 * radius)
        wanted = z - grey_opening(z, (2 * radius + 1,) * 2)
        assert (found[inner, inner, k] == wanted[inner, inner]).all()
    assert found[30, 30, 0] == 0
    assert found[30, 30, 1] >= 4_000


@given(st.integers(0, 2**32 - 1), st.sampled_from([(1,), (1, 3)]))
def test_points_beyond_the_reach_change_nothing(seed: int, radii: tuple[int, ...]) -> None:
    random = np.random.default_rng(seed)
    points = random.integers(-9_000, 9_000, (80, 3))
    points[:, 2] //= 4
    middle = (np.abs(points[:, :2]) <= 1_000).all(1)
    near = (np.abs(points[:, :2]) <= 1_000 + reach(1000, radii)).all(1)
    if middle.any():
        whole = heights_above_openings(points, 1000, radii)
        assert (heights_above_openings(points[near], 1000, radii)[middle[near]] == whole[middle]).all()


def test_what_no_point_is_below_stands_on_itself() -> None:
    assert heights_above_openings(np.array([[5, 5, 7], [90_000, 5, 9]]), 1000, (4,)).tolist() == [[0], [0]]
