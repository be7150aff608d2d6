"""Exact search by cosines, against numpy in float64."""

from __future__ import annotations

import numpy as np
import pytest

from geoml.vector import nearest
from geoml.vector.nearest import best, cosines, unit

RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int8])
def test_cosines_are_those_of_float64_whatever_is_stored(dtype: type, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nearest, "ROWS", 7)  # of which 100 is not a multiple
    vectors = np.clip(RANDOM.normal(0, 40, (100, 16)), -127, 127).astype(dtype)
    query = unit(RANDOM.normal(size=(1, 16)).astype(np.float32))[0]
    exact = vectors.astype(np.float64)
    exact = exact @ query.astype(np.float64) / np.linalg.norm(exact, axis=1)
    np.testing.assert_allclose(cosines(vectors, query), exact, atol=1e-6)
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1)
    np.testing.assert_allclose(cosines(vectors, query, units=True), exact * lengths, rtol=1e-4, atol=1e-3)


def test_a_vector_of_zeros_is_like_nothing() -> None:
    zeros = np.zeros((2, 4), np.float32)
    assert not unit(zeros).any()
    assert not cosines(zeros, np.array([1, 0, 0, 0], np.float32)).any()


def test_the_best_come_first_and_of_equal_ones_the_first() -> None:
    scores = np.array([0.5, 0.9, 0.5, 0.1, 0.5, 0.9], np.float32)
    assert best(scores, 4).tolist() == [1, 5, 0, 2]
    assert best(scores, 4, scores < 0.9).tolist() == [0, 2, 4, 3]
    assert best(scores, 99).tolist() == [1, 5, 0, 2, 4, 3]
    assert best(scores, 2, np.zeros(6, bool)).tolist() == []
    many = RANDOM.integers(0, 9, 1000).astype(np.float32)
    assert best(many, 50).tolist() == np.lexsort((np.arange(1000), -many))[:50].tolist()
