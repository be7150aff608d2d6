"""Maps of matched points: those that are there come back, and points that fix none give none, with every method."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from geoml.cube.homography_fit import fit
from geoml.grid.homography import apply, covariance, fixed, problem

LINE = np.linspace(0.0, 100.0, 40)
DEGENERATE = {
    "on one line": np.c_[LINE, 2 * LINE + 3],
    "level": np.c_[LINE, np.full(40, 7.0)],
    "nearly on one line": np.c_[LINE, 2 * LINE] + np.random.default_rng(0).normal(0, 1e-3, (40, 2)),
    "on one line but for one": np.r_[np.c_[LINE, 2 * LINE], [[10.0, 80.0]]],
    "one place": np.full((40, 2), 5.0),
    "two places": np.repeat([[1.0, 1.0], [50.0, 3.0]], 20, axis=0),
    "three places": np.repeat([[1.0, 1.0], [50.0, 3.0], [20.0, 70.0]], 15, axis=0),
}
TURN = np.array([[1.5, 0.1, 3.0], [-0.1, 1.4, 4.0], [1e-4, 2e-4, 1.0]])


@pytest.mark.parametrize("name", DEGENERATE)
def test_points_that_fix_no_homography_give_none(name: str) -> None:
    source = DEGENERATE[name]
    assert fit(source, apply(TURN, source)) is None
    assert fit(apply(TURN, source), source) is None


@pytest.mark.parametrize("method", [0, cv2.RANSAC, cv2.LMEDS, cv2.RHO, cv2.USAC_MAGSAC])
@pytest.mark.parametrize("name", ["on one line", "level", "one place"])
def test_what_opencv_says_of_such_points_is_no_map(name: str, method: int) -> None:
    """None, or a matrix that is singular: neither may be taken for a map."""
    source = DEGENERATE[name]
    found, _ = cv2.findHomography(source, apply(TURN, source), method, 3.0)
    if found is not None:
        assert np.linalg.matrix_rank(found) < 3
        assert problem(found, (50, 60)) is not None
        assert not fixed(found, source)


def test_targets_on_one_line_are_no_map() -> None:
    rng = np.random.default_rng(2)
    source = rng.uniform(0, 100, (30, 2))
    assert fit(source, np.c_[source[:, 0], 2 * source[:, 0]]) is None
    assert fit(source, np.full((30, 2), 9.0)) is None


def test_points_that_fix_no_map_know_no_place() -> None:
    at = np.array([[50.0, 10.0]])
    source = DEGENERATE["on one line"]
    assert np.isinf(covariance(TURN, source, apply(TURN, source), at)).all()
    spread = np.random.default_rng(3).uniform(0, 100, (40, 2))
    noisy = apply(TURN, spread) + np.random.default_rng(4).normal(0, 0.5, (40, 2))
    known = covariance(TURN, spread, noisy, at)
    assert 0 < known[0, 0] < 1


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.floats(0, 6.28), st.floats(0.2, 5), st.floats(-2e-4, 2e-4))
def test_a_map_comes_back_through_wrong_matches(seed: int, turn: float, scale: float, tilt: float) -> None:
    rng = np.random.default_rng(seed)
    c, s = scale * np.cos(turn), scale * np.sin(turn)
    true = np.array([[c, -s, 20.0], [s, c, -30.0], [tilt, tilt / 2, 1.0]])
    source = rng.uniform(0, 400, (80, 2))
    target = apply(true, source)
    target[:25] = rng.uniform(target.min(), target.max(), (25, 2))
    found = fit(source, target)
    assert found is not None
    assert np.abs(apply(found.matrix, source[25:]) - target[25:]).max() < 0.5


@settings(max_examples=40, deadline=None)
@example([(1.0, -379468.0), (1.0, 0.0), (0.0, 0.0), (0.0, 0.0), (0.0, 0.001953125)], False)
@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6)), max_size=12), st.booleans())
def test_any_points_give_a_map_or_none(points: list[tuple[float, float]], level: bool) -> None:
    source = np.array(points, float).reshape(-1, 2) * ([1, 0] if level else [1, 1])
    found = fit(source, source[::-1].copy())
    assert found is None or np.isfinite(found.matrix).all()


@settings(max_examples=100, deadline=None)
@example([1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1e-164], [])
@given(
    st.lists(st.floats(-1e25, 1e25), min_size=9, max_size=9),
    st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6)), max_size=8),
)
def test_any_matrix_is_judged(entries: list[float], points: list[tuple[float, float]]) -> None:
    matrix, source = np.reshape(entries, (3, 3)), np.reshape(points, (-1, 2))
    assert problem(matrix, (50, 60)) is None or isinstance(problem(matrix, (50, 60)), str)
    assert not fixed(matrix, source) or len(source) >= 4
    assert covariance(matrix, source, source, np.array([[1.0, 2.0]])).shape == (2, 2)
