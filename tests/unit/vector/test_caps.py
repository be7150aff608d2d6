"""Discs on the sphere: what lies in them is what is near enough, anywhere on the globe."""

from __future__ import annotations

import math

import numpy as np
import pytest
import shapely
from hypothesis import example, given
from hypothesis import strategies as st

from geoml.errors import InputError
from geoml.grid import sphere
from geoml.vector.caps import WORLD, cap

RANDOM = np.random.default_rng(0)
LON, LAT = RANDOM.uniform(-180, 180, 400), np.degrees(np.arcsin(RANDOM.uniform(-1, 1, 400)))


@given(st.floats(-180, 180), st.floats(-90, 90), st.floats(5, 20_000))
@example(0.0, 90.0, 1000.0)
@example(0.0, -90.0, 12_000.0)
@example(180.0, 0.0, 3000.0)
@example(-179.0, 85.0, 700.0)
@example(10.0, 45.0, 19_000.0)
def test_membership(lon: float, lat: float, km: float) -> None:
    shape = cap(lon, lat, km, 360)
    assert shape.is_valid
    assert shape.within(WORLD.buffer(1e-9))
    away = sphere.distance(lon, lat, LON, LAT)
    inside = shapely.contains_xy(shape, LON, LAT)
    # chords between vertices are straight in degrees, which bends them most beside a pole
    polar = np.abs(LAT) > 88
    assert inside[(away < km * 0.97 - 1) & ~polar].all()
    assert not inside[(away > km * 1.03 + 1) & ~polar].any()


def test_a_small_disc_is_a_circle_of_its_area() -> None:
    shape = cap(179.99, 60.0, 50.0, 720)
    assert len(shape.geoms) == 2
    area = shape.area * math.cos(math.radians(60)) * (math.pi / 180 * sphere.EARTH_RADIUS_KM) ** 2
    assert area == pytest.approx(float(sphere.cap_area(50.0)), rel=2e-3)


def test_all_and_nothing() -> None:
    assert cap(0, 0, 30_000).equals(WORLD)
    assert cap(0, 0, 0).is_empty
    with pytest.raises(InputError):
        cap(math.nan, 0, 1)
