"""Plane maps against arithmetic and shapely: what is a view of flat ground, and how well a fit knows a place."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shapely.geometry import Polygon

from geoml.grid.homography import apply, corners, covariance, middle, problem, scale_at, similarity

SHAPE = (300, 400)


@given(st.floats(0.01, 100), st.floats(-7, 7), st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_every_similarity_is_a_view(scale: float, angle: float, x: float, y: float) -> None:
    matrix = similarity(scale, angle, x, y)
    assert problem(matrix, SHAPE) is None
    assert scale_at(matrix, np.array([17.0, 5.0])) == pytest.approx(scale)
    assert Polygon(apply(matrix, corners(SHAPE))).area == pytest.approx(scale**2 * 300 * 400, rel=1e-5)


def test_apply_divides_by_the_depth() -> None:
    matrix = np.array([[2, 0, 1], [0, 3, -1], [0, 0.5, 1]], float)
    assert apply(matrix, np.array([[4.0, 2.0]])).tolist() == [[4.5, 2.5]]


@pytest.mark.parametrize(
    ("matrix", "why"),
    [
        (np.diag([1.0, -1.0, 1.0]), "mirrored"),
        (np.array([[1, 0, 0], [0, 1, 0], [-0.005, 0, 1.0]]), "folded"),
        (np.diag([10.0, 1.0, 1.0]), "stretched"),
        (np.diag([math.nan, 1.0, 1.0]), "not finite"),
        (np.diag([50.0, 50.0, 1.0]), "scale"),
    ],
)
def test_what_is_no_view_is_named(matrix, why) -> None:
    assert why in (problem(matrix, SHAPE, scales=(0.1, 20.0)) or "")


def test_north_up_coordinates_mirror_a_picture_and_pixels_do_not() -> None:
    north = np.diag([1.0, -1.0, 1.0])
    assert problem(north, SHAPE, mirrored=True) is None
    assert problem(np.eye(3), SHAPE, mirrored=True) is not None


def test_the_covariance_is_that_of_many_fits() -> None:
    cv2 = pytest.importorskip("cv2")
    rng = np.random.default_rng(0)
    truth = similarity(0.5, 0.4, 30, -20)
    truth[2, :2] = 2e-4, -1e-4
    source = rng.uniform(0, 300, (40, 2))
    places, told = [], []
    for _ in range(300):
        target = apply(truth, source) + rng.normal(0, 0.3, source.shape)
        found = cv2.findHomography(source, target, 0)[0]
        places.append(apply(found, middle(SHAPE))[0])
        told.append(covariance(found, source, target, middle(SHAPE)))
    assert np.mean(told, 0) == pytest.approx(np.cov(np.array(places).T), rel=0.25, abs=5e-4)


def test_too_few_points_know_nothing() -> None:
    points = np.array([[0.0, 0], [1, 1]])
    assert np.isinf(covariance(np.eye(3), points, points, np.array([[0.5, 0.5]]))).all()
