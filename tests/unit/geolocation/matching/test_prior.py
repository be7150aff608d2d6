"""Positions known beforehand: what they reach, how far away a place is in their own terms, and what is no position."""

from __future__ import annotations

import math

import numpy as np
import pyproj
import pytest

from geoml.errors import InputError
from geoml.geolocation.matching.prior import LIMIT, Prior

GEOD = pyproj.Geod(ellps="WGS84")


@pytest.mark.parametrize(
    ("lon", "lat", "sigma"),
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
def test_what_is_no_position_is_refused(lon, lat, sigma) -> None:
    with pytest.raises(InputError, match="prior"):
        Prior(lon, lat, sigma)


def test_distances_are_in_standard_deviations() -> None:
    prior = Prior(3, 50, 30.0)
    for azimuth in (45, 170, 300):
        lon, lat, _ = GEOD.fwd(3, 50, azimuth, 60)
        assert prior.distance(lon, lat) == pytest.approx(2, rel=1e-6)
    assert prior.distance(lon, lat, 700.0) == pytest.approx(1.5, rel=1e-6)


def test_circles_that_touch_the_searched_part_are_reached() -> None:
    prior = Prior(180, 50, 10)  # on the antimeridian
    edge = 10 * LIMIT
    for azimuth in (90, -90):
        lon, lat, _ = GEOD.fwd(180, 50, azimuth, edge + 100)
        reached = prior.reaches(np.array([lon, lon, lon]), np.array([lat] * 3), np.array([99.0, 101.0, np.inf]))
        assert reached.tolist() == [False, True, True]
    rng = np.random.default_rng(0)
    drawn = 10 * rng.normal(size=(100_000, 2))
    assert (np.hypot(*drawn.T) <= edge).mean() == pytest.approx(0.999, abs=3e-4)
