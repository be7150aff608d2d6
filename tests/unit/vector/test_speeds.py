"""Speeds are fits over a third of a second or more, and their standard deviation is what they are off."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from geoml.vector.speeds import LEAST, WINDOW, Path, Scatter, Velocity

AREA = 9.0


def velocities(times: NDArray[np.float64], xy: NDArray[np.float64], path: Path | None = None) -> list[Velocity]:
    path = path or Path(Scatter(), 0.1)
    found: list[Velocity] = []
    for time, (x, y) in zip(times.tolist(), xy.tolist(), strict=True):
        found += path.add(time, x, y, AREA)
    return found + path.end()


@pytest.mark.parametrize("fps", [30, 10, 3, 2])
def test_each_position_has_the_slope_of_the_line_through_its_neighbours(fps: int) -> None:
    random = np.random.default_rng(fps)
    times = np.cumsum(random.uniform(0.9, 1.1, 40)) / fps
    xy = np.column_stack([8 * times, np.sin(times)]) + random.normal(0, 0.05, (40, 2))
    found = velocities(times, xy)
    assert len(found) == 40
    for k, velocity in enumerate(found):
        near = np.abs(times - times[k]) <= WINDOW / 2
        near[max(k - 1, 0) : k + 2] = True
        while np.ptp(times[near]) < LEAST:  # at an end: the next nearest one
            rest = np.flatnonzero(~near)
            near[rest[np.argmin(np.abs(times[rest] - times[k]))]] = True
        slope = np.polyfit(times[near], xy[near], 1)[0]
        assert (velocity.x, velocity.y) == pytest.approx(tuple(slope), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("fps", [30, 10, 3])
def test_the_deviation_is_that_of_the_speeds(fps: int) -> None:
    """Of independent errors it is an upper one, since real errors are not independent."""
    random = np.random.default_rng(0)
    scatter, ratios = Scatter(), []
    for _ in range(40):
        times = np.arange(4 * fps) / fps
        xy = np.column_stack([10 * times, 0 * times]) + random.normal(0, 0.1, (len(times), 2))
        path = Path(scatter, 0.1)
        ratios += [math.hypot(v.x - 10, v.y) / v.sd for v in velocities(times, xy, path)]
    # the length of a two-dimensional error of one standard deviation along each axis
    assert 0.35 * math.sqrt(2) < np.sqrt(np.mean(np.square(ratios))) < 1.25 * math.sqrt(2)


def test_what_stands_does_not_move_and_what_drives_does() -> None:
    random = np.random.default_rng(3)
    times = np.arange(90) / 30
    noise = random.normal(0, 0.05, (90, 2))
    standing = velocities(times, noise)
    driving = velocities(times, noise + np.column_stack([3 * times, 3 * times]))
    assert np.mean([v.moving for v in standing]) < 0.1
    assert all(v.moving for v in driving)
    assert np.mean([v.heading for v in driving]) == pytest.approx(45, abs=2)


def test_speeds_need_a_third_of_a_second() -> None:
    times = np.arange(5) / 30
    assert all(math.isnan(v.speed) and not v.moving for v in velocities(times, np.zeros((5, 2))))
    (alone,) = velocities(np.array([0.0]), np.zeros((1, 2)))
    assert math.isnan(alone.sd)


def test_a_speed_comes_as_soon_as_its_window_is_known_and_little_is_held() -> None:
    path = Path(Scatter(), 0.1)
    given = 0
    for k in range(900):
        given += len(path.add(k / 30, k / 3, 0.0, AREA))
        if k > 30:
            assert k - given <= 7
    held = [len(value) for name in path.__slots__ if hasattr(value := getattr(path, name), "popleft")]
    assert max(held) < 30
