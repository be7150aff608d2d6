"""Normalisation is the card's formula, and nodata is nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geoml.cube.normalise import coefficients, normalise
from geoml.errors import InputError
from geoml.io.cards.map_card import Band, ClassInfo, MapCard


def card(*bands: Band) -> MapCard:
    classes = (ClassInfo(value=0, name="land", color="#00ff00"),)
    return MapCard(name="m", architecture="unet", bands=bands, gsd=10, chip_size=64, classes=classes)


@given(st.floats(-5, 5), st.floats(0.01, 10), st.floats(1e-5, 10), st.floats(-100, 100), st.integers(0, 65535))
def test_one_multiplication_is_the_whole_formula(mean, std, scale, offset, number) -> None:
    mul, add = coefficients(card(Band(name="b", mean=mean, std=std)), [scale], [offset])
    got = normalise(np.full((1, 1, 1), number, np.uint16), np.ones((1, 1), bool), mul, add)
    exact = (number * scale + offset - mean) / std
    size = abs(number * scale / std) + abs(offset / std) + abs(mean / std)
    assert got[0, 0, 0] == pytest.approx(exact, rel=1e-6, abs=1e-6 * size + 1e-6)


def test_shapes_dtypes_and_nodata() -> None:
    mul, add = coefficients(card(Band(name="r", mean=0.1, std=0.2), Band(name="n", mean=0.3)), (1e-4, 1e-4), (-0.1, 0))
    assert mul.dtype == add.dtype == np.float32
    data = np.random.default_rng(0).integers(0, 9999, (2, 5, 6)).astype(np.uint16)
    valid = np.random.default_rng(1).random((5, 6)) < 0.5
    out = normalise(data, valid, mul, add)
    assert out.dtype == np.float32
    assert (out[:, ~valid] == 0).all()
    np.testing.assert_allclose(out[0][valid], (data[0][valid] * 1e-4 - 0.1 - 0.1) / 0.2, rtol=1e-5, atol=1e-5)
    floats = data.astype(np.float32)
    floats[:, ~valid] = np.nan
    np.testing.assert_array_equal(normalise(floats, valid, mul, add), out)


def test_another_number_of_bands() -> None:
    with pytest.raises(InputError, match="expected 1"):
        coefficients(card(Band(name="b")), (1.0, 1.0), (0.0, 0.0))
