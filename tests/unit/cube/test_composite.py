"""Composites against numpy, and that they hold no more than they must."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from geoml.cube.composite import FirstLook, combine, first
from geoml.errors import InputError

SHAPE = (2, 3, 4)
EVERY = (slice(None), slice(None))


@given(
    st.integers(0, 6).flatmap(
        lambda n: st.tuples(hnp.arrays(np.uint8, (n, *SHAPE)), hnp.arrays(np.bool_, (n, *SHAPE[1:])))
    )
)
def test_against_masked_arrays(case) -> None:
    values, ok = case
    masked = np.ma.array(values, mask=np.broadcast_to(~ok[:, None], values.shape), dtype=np.float64)
    for name in ("mean", "median", "first"):
        data, count = combine(name, zip(values, ok, strict=True), SHAPE, np.dtype(np.uint8))
        np.testing.assert_array_equal(count, ok.sum(axis=0))
        assert data.dtype == np.uint8
        if name == "first":
            index = ok.argmax(axis=0) if len(ok) else np.zeros(SHAPE[1:], int)
            taken = np.take_along_axis(values, index[None, None], axis=0)[0] if len(ok) else np.zeros(SHAPE)
            expected = np.where(count > 0, taken, 0)
        else:
            exact = getattr(np.ma, name)(masked, axis=0) if len(ok) else np.ma.zeros(SHAPE)
            expected = np.floor(np.ma.filled(exact, 0) + 0.5)
        np.testing.assert_array_equal(data, expected)


def test_floats_stay_floats_and_nan_of_the_invalid_stays_out() -> None:
    values = np.array([np.nan, 1.0, 2.5], np.float32)[:, None, None, None] * np.ones((3, *SHAPE), np.float32)
    ok = np.array([False, True, True])[:, None, None] & np.ones((3, *SHAPE[1:]), bool)
    for name, expected in (("first", 1.0), ("mean", 1.75), ("median", 1.75)):
        data, count = combine(name, zip(values, ok, strict=True), SHAPE, np.dtype(np.float32))
        assert data.dtype == np.float32
        assert (data == np.float32(expected)).all()
        assert (count == 2).all()


def test_the_extremes_of_the_dtype_survive() -> None:
    values = np.full((3, *SHAPE), 65535, np.uint16)
    for name in ("first", "mean", "median"):
        data, _ = combine(name, [(v, np.ones(SHAPE[1:], bool)) for v in values], SHAPE, np.dtype(np.uint16))
        assert (data == 65535).all()


@pytest.mark.parametrize("name", ["first", "mean"])
def test_memory_does_not_grow_with_the_items(name) -> None:
    shape = (4, 200, 200)

    def peak(count: int) -> int:
        made = ((np.ones(shape, np.uint16), np.ones(shape[1:], bool)) for _ in range(count))
        tracemalloc.start()
        combine(name, made, shape, np.dtype(np.uint16))
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    assert peak(40) < 1.2 * peak(4)


def test_an_unknown_composite() -> None:
    with pytest.raises(InputError, match="did you mean 'median'"):
        combine("medain", [], SHAPE, np.dtype(np.uint8))


def test_the_first_is_asked_for_no_more_than_what_is_missing() -> None:
    shape, asked = (1, 2, 3), []
    left = np.array([[True, False, False]] * 2)

    def look(value: int, ok: np.ndarray):
        def answer(missing: np.ndarray) -> FirstLook:
            asked.append(missing.copy())
            return FirstLook(ok.copy(), [(EVERY, np.full(shape, value, np.uint8))] if (missing & ok).any() else [])

        return answer

    looks = [look(1, left), look(2, left), look(3, ~left), look(4, left | True)]
    data, count = first(looks, shape, np.dtype(np.uint8))
    np.testing.assert_array_equal(data[0], np.where(left, 1, 3))
    np.testing.assert_array_equal(count, np.where(left, 3, 2))
    assert [int(m.sum()) for m in asked] == [6, 4, 4, 0]
