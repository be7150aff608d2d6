"""Positions known beforehand: what they reach, how far away a place is in their own terms, and what is no position."""

from __future__ import annotations

import math

import numpy as np
import pyproj
import pytest

from geoml.errors import InputError
from geoml.geolocation.matching.prior import Prior, limit

GEOD = pyproj.Geod(ellps="WGS84")


@pytest.mark.parametrize(
    ("lon", "lat", "variance"),
    [
        (math.nan, 50, 1.0),
        (3, math.nan, 1.0),
        (3, 50, math.nan),
        (3, 50, math.inf),
        (3, 50, 0.0),
        (181, 50, 1.0),
        (3, -91, 1.0),
    ],
)
def test_what_is_no_position_is_refused(lon, lat, variance) -> None:
    with pytest.raises(InputError, match="prior"):
        Prior(lon, lat, ((variance, 0.0), (0.0, 1.0)))


@pytest.mark.parametrize("matrix", [((1.0, 2.0), (2.0, 1.0)), ((1.0, 0.5), (0.0, 1.0)), ((-1.0, 0.0), (0.0, 1.0))])
def test_what_is_no_covariance_is_refused(matrix) -> None:
    with pytest.raises(InputError, match="no covariance"):
        Prior(3, 50, matrix)


def test_distances_are_those_of_the_ellipse() -> None:
    """Standard deviations 30 m to the north-east and 10 m across."""
    prior = Prior(3, 50, ((500.0, 400.0), (400.0, 500.0)))
    for azimuth, sigma in ((45, 30), (225, 30), (135, 10), (-45, 10)):
        lon, lat, _ = GEOD.fwd(3, 50, azimuth, 60)
        assert prior.distance(np.array([lon]), np.array([lat]))[0] == pytest.approx(60 / sigma, rel=1e-4)
    assert prior.distance(np.array([lon]), np.array([lat]), 300.0)[0] == pytest.approx(3, rel=1e-4)


def test_circles_that_touch_the_searched_part_are_reached() -> None:
    prior = Prior.circle(180, 50, 10)  # on the antimeridian
    edge = 10 * limit()
    for azimuth in (90, -90):
        lon, lat, _ = GEOD.fwd(180, 50, azimuth, edge + 100)
        reached = prior.reaches(np.array([lon, lon, lon]), np.array([lat] * 3), np.array([99.0, 101.0, np.inf]))
        assert reached.tolist() == [False, True, True]
    rng = np.random.default_rng(0)
    drawn = 10 * rng.normal(size=(100_000, 2))
    assert (np.hypot(*drawn.T) <= edge).mean() == pytest.approx(0.999, abs=3e-4)
