"""Motion of made fields, and what a frame becomes as it moves on, beside scipy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from geoml.cube.motion import MotionField, fit_motion, moved, paths
from geoml.errors import NothingFound
from geoml.grid.plane import Window
from geoml.testing.radar import showers

SPEED = (1.5, -2.0)
FRAMES = showers(range(4), (120, 160), SPEED)
WHOLE = Window(-40, 7, 80, 167)


def rotation() -> MotionField:
    """About the pixel (20, 90), two degrees a step."""
    y, x = np.meshgrid(np.arange(-40, 81, 8.0), np.arange(7, 168, 8.0), indexing="ij")
    turn = np.radians(2)
    return MotionField(np.stack([turn * (x - 90), -turn * (y - 20)]), -40, 7, 8)


def test_the_speed_of_showers_is_found_where_there_are_some() -> None:
    found = fit_motion(FRAMES, 0.1, 0, 0)
    wet = FRAMES[-1][::8, ::8] > 1
    rows, columns = wet.shape
    speed = found.velocity[:, :rows, :columns][:, wet]
    assert np.abs(np.median(speed, axis=1) - SPEED).max() < 0.2


def test_frames_that_are_missing_or_empty_move_nothing() -> None:
    gap = FRAMES.copy()
    gap[1] = np.nan
    assert np.abs(np.median(fit_motion(gap, 0.1).velocity, axis=(1, 2)) - SPEED).max() < 1
    gap[3] = np.nan
    with pytest.raises(NothingFound, match="no two neighbours have data"):
        fit_motion(gap, 0.1)
    assert fit_motion(np.zeros_like(FRAMES), 0.1).fastest == 0


@settings(max_examples=30, deadline=None)
@given(st.integers(-40, 60), st.integers(7, 150), st.integers(1, 20), st.integers(1, 17))
def test_paths_do_not_hang_on_the_window(y: int, x: int, height: int, width: int) -> None:
    motion = rotation()
    part = Window(y, x, min(y + height, 80), min(x + width, 167))
    frame = FRAMES[0]
    for all_of, some in zip(paths(motion, WHOLE, 6), paths(motion, part, 6), strict=True):
        here = part.slices(WHOLE)
        np.testing.assert_array_equal(all_of[:, *here], some)
        whole, piece = moved(frame, WHOLE, all_of, WHOLE), moved(frame, WHOLE, some, part)
        np.testing.assert_array_equal(whole[here], piece)


def test_paths_of_a_rotation_are_circles() -> None:
    back = list(paths(rotation(), WHOLE, 10))[-1]
    y, x = np.meshgrid(np.arange(-40, 80), np.arange(7, 167), indexing="ij")
    turn = np.radians(20)
    dy, dx = y - 20, x - 90
    inner = np.hypot(dy, dx) < 35
    from_y = 20 + dy * np.cos(turn) - dx * np.sin(turn)
    from_x = 90 + dx * np.cos(turn) + dy * np.sin(turn)
    np.testing.assert_allclose((y - back[0])[inner], from_y[inner], atol=0.05)
    np.testing.assert_allclose((x - back[1])[inner], from_x[inner], atol=0.05)


def test_what_has_moved_is_interpolated_as_scipy_does_and_unknown_from_beyond() -> None:
    back = np.stack([np.full((120, 160), 3.25, np.float32), np.full((120, 160), -7.5, np.float32)])
    origin = Window(0, 0, 120, 160)
    found = moved(FRAMES[0], origin, back, origin)
    y, x = np.mgrid[:120, :160]
    expected = ndimage.map_coordinates(FRAMES[0], [y - 3.25, x + 7.5], order=1, mode="constant", cval=np.nan)
    np.testing.assert_allclose(found[4:, :152], expected[4:, :152], rtol=1e-5, atol=1e-6)
    assert np.isnan(found[:3]).all()
    assert np.isnan(found[:, 153:]).all()
    holed = FRAMES[0].copy()
    holed[50, 60] = np.nan
    unknown = np.isnan(moved(holed, origin, back, origin)) & ~np.isnan(found)
    assert {tuple(p) for p in np.argwhere(unknown)} == {(53, 52), (53, 53), (54, 52), (54, 53)}


def test_a_frame_that_stays_is_itself() -> None:
    still = MotionField(np.zeros((2, 16, 21)), 0, 0, 8)
    origin = Window(0, 0, 120, 160)
    (back,) = paths(still, origin, 1)
    np.testing.assert_array_equal(moved(FRAMES[0], origin, back, origin), FRAMES[0])
