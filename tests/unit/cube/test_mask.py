"""Quality masks by value and by bit."""

from __future__ import annotations

import numpy as np
import pytest

from geoml.cube.mask import clear
from geoml.errors import DataError
from geoml.io.stac.bands import BandSpec, MaskSpec

BAND = BandSpec("item", "scl", "scl.tif", "scl")
ALL = np.ones((2, 3), bool)


def test_bad_values() -> None:
    values = np.array([[4, 8, 9], [5, 3, 0]], np.uint8)
    spec = MaskSpec(BAND, "values", bad_values=(0, 3, 8, 9))
    assert clear(values, ALL, spec).tolist() == [[True, False, False], [True, False, False]]


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16])
def test_bad_bits(dtype) -> None:
    values = np.array([[0, 1, 2], [8, 64, 66]], dtype)
    spec = MaskSpec(BAND, "bits", bad_bits=(1, 3))
    assert clear(values, ALL, spec).tolist() == [[True, True, False], [False, True, False]]


def test_the_highest_bit_of_a_signed_band() -> None:
    values = np.array([[-32768, 0, 1]] * 2, np.int16)
    assert clear(values, ALL, MaskSpec(BAND, "bits", bad_bits=(15,))).tolist() == [[False, True, True]] * 2


def test_where_the_quality_is_unknown_nothing_is_clear() -> None:
    valid = np.array([[True, False, True]] * 2)
    spec = MaskSpec(BAND, "values", bad_values=(9,))
    assert clear(np.zeros((2, 3), np.uint8), valid, spec).tolist() == valid.tolist()


def test_what_is_no_quality_band() -> None:
    with pytest.raises(DataError, match="item item, asset scl: float32"):
        clear(np.zeros((2, 3), np.float32), ALL, MaskSpec(BAND, "values", bad_values=(1,)))
    with pytest.raises(DataError, match="bits"):
        clear(np.zeros((2, 3), np.uint8), ALL, MaskSpec(BAND, "bits", bad_bits=(8,)))
