"""The sphere against pyproj's geodesics on a sphere, with its seam, its poles and antipodes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyproj import Geod

from geoml.errors import InputError
from geoml.grid import sphere

GLOBE = Geod(a=6371008.8, b=6371008.8)
HALF = np.pi * sphere.EARTH_RADIUS_KM

lons = st.one_of(st.floats(-180, 180), st.sampled_from([-180.0, 180.0, 179.9999999, -179.9999999, 0.0, 90.0]))
lats = st.one_of(st.floats(-90, 90), st.sampled_from([-90.0, 90.0, 89.9999999, -89.9999999, 0.0]))
places = st.tuples(lons, lats)


@given(places, places)
def test_distance_is_that_of_another_program(a: tuple[float, float], b: tuple[float, float]) -> None:
    expected = GLOBE.inv(*a, *b)[2] / 1000
    assert sphere.distance(*a, *b) == pytest.approx(expected, abs=1e-6, rel=1e-11)
    assert sphere.distance(*a, *b) == sphere.distance(*b, *a)


@given(places, st.floats(0, 360), st.floats(1e-6, 1e-2))
def test_distance_is_exact_beside_a_place_and_beside_its_antipode(
    a: tuple[float, float], turn: float, km: float
) -> None:
    lon, lat, _ = GLOBE.fwd(*a, turn, km * 1000)
    assert sphere.distance(*a, lon, lat) == pytest.approx(km, abs=1e-8)
    assert sphere.distance(a[0], a[1], lon + 180, -lat) == pytest.approx(HALF - km, abs=1e-8)


@given(places)
def test_unit_vectors_there_and_back(a: tuple[float, float]) -> None:
    xyz = sphere.to_xyz(*a)
    assert np.linalg.norm(xyz) == pytest.approx(1)
    lon, lat = sphere.to_lonlat(3.7 * xyz)
    assert -180 <= lon < 180
    assert sphere.distance(*a, lon, lat) < 1e-9


def test_axes() -> None:
    found = sphere.to_xyz([0, 90, 180, 0], [0, 0, 0, 90])
    np.testing.assert_allclose(found, [[1, 0, 0], [0, 1, 0], [-1, 0, 0], [0, 0, 1]], atol=1e-15)


@given(st.one_of(st.floats(-1e6, 1e6), st.sampled_from([180.0, -180.0, 540.0, -1e-300, -180 - 1e-14])))
def test_wrap_keeps_the_meridian(lon: float) -> None:
    found = float(sphere.wrap(lon))
    assert -180 <= found < 180
    turns = (found - lon) / 360
    assert turns == pytest.approx(round(turns), abs=1e-9)


@given(places, st.floats(0, 360), st.floats(0, 20000))
def test_destinations_are_those_of_another_program(a: tuple[float, float], turn: float, km: float) -> None:
    lon, lat = sphere.destination(*a, turn, km)
    x, y, _ = GLOBE.fwd(*a, turn, km * 1000)
    assert sphere.distance(lon, lat, x, y) < 1e-6
    assert -180 <= lon < 180


def test_shapes_broadcast() -> None:
    lon, lat = np.array([0.0, 10, 20]), np.array([[0.0], [5]])
    assert sphere.distance(lon, lat, 0, 0).shape == (2, 3)
    assert sphere.to_xyz(lon, lat).shape == (2, 3, 3)
    assert sphere.destination(lon, 0, np.zeros((2, 1)), 100)[0].shape == (2, 3)


@given(places, st.integers(3, 8), st.floats(1, 5000))
def test_the_mean_of_a_ring_is_its_centre(centre: tuple[float, float], n: int, km: float) -> None:
    turns = np.arange(n) * 360 / n
    lon, lat = sphere.destination(*centre, turns, km)
    assert sphere.distance(*sphere.mean(lon, lat), *centre) < 1e-6


def test_the_mean_across_the_antimeridian_stays_there() -> None:
    lon, lat = sphere.mean([179.0, -179.0], [10.0, 10.0])
    assert abs(lon) == pytest.approx(180)
    assert lat == pytest.approx(10.0015, abs=1e-3)


def test_antipodes_have_no_mean_and_give_one_of_them() -> None:
    assert sphere.mean([0, 180], [0, 0]) in [(0, 0), (-180, 0)]
    lon, lat = sphere.mean([10, -170], [20, -20], [1, 2])
    assert sphere.distance(lon, lat, -170, -20) < 1e-6


@given(st.floats(0, HALF))
def test_area_of_a_cap(km: float) -> None:
    exact = 2 * np.pi * sphere.EARTH_RADIUS_KM**2 * (1 - np.cos(km / sphere.EARTH_RADIUS_KM))
    assert sphere.cap_area(km) == pytest.approx(exact, rel=1e-6, abs=1e-3)
    assert sphere.cap_area(3 * HALF) == pytest.approx(4 * np.pi * sphere.EARTH_RADIUS_KM**2)


@given(st.lists(places, min_size=1, max_size=5), st.lists(places, min_size=1, max_size=5))
def test_angles_are_distances(a: list[tuple[float, float]], b: list[tuple[float, float]]) -> None:
    p, q = np.array(a), np.array(b)
    found = sphere.angles(sphere.to_xyz(*p.T), sphere.to_xyz(*q.T)) * sphere.EARTH_RADIUS_KM
    np.testing.assert_allclose(found, sphere.distance(p[:, :1], p[:, 1:], q[:, 0], q[:, 1]), atol=1e-6)
    half = sphere.chord(found) / 2
    np.testing.assert_allclose(2 * np.arcsin(np.clip(half, 0, 1)) * sphere.EARTH_RADIUS_KM, found, atol=1e-3)


@pytest.mark.parametrize(
    ("lon", "lat", "weight"),
    [([], [], None), ([0, 1], [0], None), ([0], [91], None), ([np.nan], [0], None), ([0], [0], [0]), ([0], [0], [-1])],
)
def test_no_mean_of_nonsense(lon: list[float], lat: list[float], weight: list[float] | None) -> None:
    with pytest.raises(InputError, match=r"lon, lat|weight"):
        sphere.mean(lon, lat, weight)
