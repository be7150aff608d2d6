"""Priors against almanacs, pyproj and symmetry; none of them ever rules a place out."""

from __future__ import annotations

import datetime as dt
import math

import numpy as np
import pyproj
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geoml.errors import InputError
from geoml.geolocation.density import priors
from geoml.geolocation.density.sun import elevation, subsolar
from geoml.grid import sphere

NOON = dt.datetime(2024, 6, 20, 12, tzinfo=dt.UTC)
LON, LAT = st.floats(-180, 180), st.floats(-90, 90)
TIMES = st.datetimes(dt.datetime(1950, 1, 1), dt.datetime(2090, 1, 1)).map(lambda t: t.replace(tzinfo=dt.UTC))


def almanac(time: dt.datetime) -> tuple[float, float]:
    """The low-precision formulas of the Astronomical Almanac (page C5; Michalsky 1988), another way to the same sun."""
    n = (time - dt.datetime(2000, 1, 1, 12, tzinfo=dt.UTC)) / dt.timedelta(days=1)
    long, g = 280.460 + 0.9856474 * n, math.radians(357.528 + 0.9856003 * n)
    ecliptic = math.radians(long + 1.915 * math.sin(g) + 0.020 * math.sin(2 * g))
    tilt = math.radians(23.439 - 4e-7 * n)
    right = math.degrees(math.atan2(math.cos(tilt) * math.sin(ecliptic), math.cos(ecliptic)))
    sidereal = 280.46061837 + 360.98564736629 * n
    return float(sphere.wrap(right - sidereal)), math.degrees(math.asin(math.sin(tilt) * math.sin(ecliptic)))


@given(TIMES)
def test_the_sun_is_where_the_almanac_has_it(time: dt.datetime) -> None:
    assert sphere.distance(*subsolar(time), *almanac(time)) < 6.0  # 0.05°


@pytest.mark.parametrize(
    ("time", "declination"),
    [("2024-03-20T03:06", 0.0), ("2024-06-20T20:51", 23.437), ("2024-09-22T12:44", 0.0), ("2024-12-21T09:20", -23.437)],
)
def test_equinoxes_and_solstices(time: str, declination: float) -> None:
    assert subsolar(dt.datetime.fromisoformat(f"{time}+00:00"))[1] == pytest.approx(declination, abs=0.01)


@pytest.mark.parametrize(
    ("day", "minutes"), [("02-11", -14.2), ("05-14", 3.65), ("07-26", -6.5), ("11-03", 16.45), ("04-15", 0.0)]
)
def test_the_sundial(day: str, minutes: float) -> None:
    lon, _ = subsolar(dt.datetime.fromisoformat(f"2024-{day}T12:00:00+00:00"))
    assert -4 * lon == pytest.approx(minutes, abs=0.15)  # minutes that the sun is ahead of the clock


def test_sunrise_and_sunset_are_symmetric() -> None:
    noon_lon = subsolar(NOON)[0]
    for hours in (1.0, 4.0, 7.5):
        west, east = elevation(NOON, [noon_lon - 15 * hours, noon_lon + 15 * hours], [48.0, 48.0])
        assert west == pytest.approx(east)
    assert elevation(NOON, noon_lon, subsolar(NOON)[1]) == pytest.approx(90)
    with pytest.raises(InputError, match="no zone"):
        subsolar(NOON.replace(tzinfo=None))


def every(hours: float = 2.0) -> dict[str, priors.LogPrior]:
    return {
        "utc_offset": priors.utc_offset(hours),
        "daylight": priors.daylight(NOON),
        "near": priors.near(179.9, -17.0, 50),
        "places": priors.places([(16.4, 48.2, 3, 20), (-77.3, 38.9, 1, 5)]),
        "altitude": priors.altitude(500, lambda lon, lat: np.asarray(lat, float) * 30),
    }


@given(LON, LAT)
def test_bounded_above_and_below_and_over_the_seam(lon: float, lat: float) -> None:
    for name, prior in every().items():
        value = float(prior(lon, lat))
        assert -20.01 <= value <= math.log(2), name
        assert value == pytest.approx(float(prior(lon + 360, lat)), abs=1e-6), name
    together = priors.both(*every().values())
    assert float(together(lon, lat)) == pytest.approx(sum(float(p(lon, lat)) for p in every().values()))


def test_shapes_broadcast() -> None:
    lon, lat = np.linspace(-180, 179, 7)[:, None], np.linspace(-80, 80, 5)
    for name, prior in {**every(), "none": priors.both(), "no place": priors.places([])}.items():
        if name != "altitude":
            assert prior(lon, lat).shape == (7, 5), name
        assert prior(np.zeros(0), np.zeros(0)).shape == (0,), name


@pytest.mark.parametrize(
    ("city", "lon", "hours"),
    [
        ("Vienna", 16.4, 1),
        ("Vienna", 16.4, 2),
        ("Vigo", -8.7, 2),
        ("Kashgar", 76.0, 8),
        ("Delhi", 77.2, 5.5),
        ("Auckland", 174.8, 13),
        ("Kiritimati", -157.4, 14),
        ("Suva", 178.4, 12),
        ("Apia", -171.8, 13),
        ("Honolulu", -157.9, -10),
        ("Anchorage", -149.9, -8),
        ("Boston", -71.1, -5),
        ("Urumqi", 87.6, 6),
    ],
)
def test_real_zones_fit_and_far_places_do_not(city: str, lon: float, hours: float) -> None:
    prior = priors.utc_offset(hours)
    assert prior(lon, 0.0) > -1.5, city
    assert prior(lon + 100, 0.0) < -3.5, city
    assert prior(lon - 100, 0.0) < -3.5, city


def test_daylight_is_where_the_sun_is_up() -> None:
    x, y = subsolar(NOON)
    day = priors.daylight(NOON)
    assert day(x, y) > -0.1
    assert day(x + 180, -y) == pytest.approx(-3, abs=1e-3)


@given(st.floats(-180, 180), st.floats(-85, 85), st.floats(0, 360), st.floats(0, 60_000))
def test_a_known_position_is_normal_in_metres(lon: float, lat: float, way: float, metres: float) -> None:
    prior = priors.near(lon, lat, 20.0, floor=-1e6)
    ball = pyproj.Geod(a=6371008.8, b=6371008.8)
    x, y, _ = ball.fwd(lon, lat, way, metres)
    assert prior(x, y) == pytest.approx(-0.5 * (metres / 20_000) ** 2, rel=1e-4, abs=1e-4)


def test_places_of_a_caption() -> None:
    prior = priors.places([(16.4, 48.2, 3, 20), (-77.3, 38.9, 1, 5)])
    vienna, virginia, fiji = prior([16.4, -77.3, 178.0], [48.2, 38.9, -18.0])
    assert vienna == pytest.approx(math.log1p(math.exp(-4)))
    assert vienna - virginia == pytest.approx(math.log(3), abs=0.06)
    assert fiji == pytest.approx(-4, abs=1e-6)


def test_ground_without_a_height_counts_neither_way() -> None:
    prior = priors.altitude(500, lambda lon, lat: np.array([500.0, np.nan, 4000.0]))
    fits, unknown, wrong = prior(np.zeros(3), np.zeros(3))
    assert fits > unknown == -2 > wrong
