"""The threshold of inliers: its precision on fresh candidates, and what a clean split gives."""

from __future__ import annotations

import numpy as np
import pytest

from geoml.errors import DataError
from geoml.geolocation.matching.acceptance import LEAST, fit_acceptance


def drawn(count: int, seed: int):
    """Inliers and rightness whose true curve is a logistic one over the logarithm."""
    rng = np.random.default_rng(seed)
    inliers = np.expm1(rng.uniform(0, 7, count)).round().astype(int)
    p = 1 / (1 + np.exp(-(3 * np.log1p(inliers) - 10)))
    return inliers, rng.random(count) < p


def test_the_curve_is_the_true_one_and_the_precision_holds_on_others() -> None:
    found = fit_acceptance(*drawn(20000, 0), precision=0.99, margin=1.0)
    assert found.slope == pytest.approx(3, rel=0.1)
    inliers, right = drawn(20000, 1)
    assert right[inliers >= found.threshold].mean() >= 0.99
    assert found.probability(0) < 0.01
    assert found.probability(1000) > 0.999


def test_a_clean_split_is_cut_above_the_best_false_one() -> None:
    inliers = np.array([3, 4, 20, 200, 300, 250])
    found = fit_acceptance(inliers, inliers > 100)
    assert (found.threshold, found.highest) == (30, 20), "true ones do not move it: those of another date have fewer"
    assert found.probability(30) == pytest.approx(0.999)
    assert found.probability(20) < 0.999 < found.probability(200)
    clear = np.array([0, 0, 1, 90, 80, 85] * 10)
    assert fit_acceptance(clear, clear > 50).threshold >= LEAST


def test_one_kind_is_not_enough() -> None:
    with pytest.raises(DataError, match="0 false"):
        fit_acceptance(np.array([5, 6]), np.array([True, True]))
    with pytest.raises(DataError, match="no more inliers"):
        fit_acceptance(np.array([50, 60, 1, 2]), np.array([False, False, True, True]))


def test_kinds_that_hardly_differ_have_no_threshold() -> None:
    """A curve that is nearly flat would ask for more inliers than a float can hold."""
    rng, refused = np.random.default_rng(0), 0
    for _ in range(300):
        inliers = np.concatenate([rng.integers(4, 10, 30), rng.integers(4, 9, 30)])
        try:
            found = fit_acceptance(inliers, np.arange(60) < 30)
        except DataError:
            refused += 1
        else:
            assert found.threshold < 1e9
    assert 0 < refused < 300
