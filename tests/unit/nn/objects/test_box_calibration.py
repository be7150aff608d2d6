"""Scores as chances: curves that never fall, the truth of made scores, thresholds worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

from geoml.nn.objects.box_calibration import (
    BINS,
    FEW,
    LEAST,
    Knots,
    at_precision,
    best_f1,
    crossed,
    curve_of,
    fitted,
    reliability,
)


def made(n: int, seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.float64]]:
    """Scores, which of them are true, and the chance of each: far from its score."""
    random = np.random.default_rng(seed)
    score = random.beta(1, 2, n) * 0.95 + 0.05
    chance = 1 / (1 + np.exp(-(2 * np.log(score / (1 - score)) + 1.5)))
    return score, random.random(n) < chance, chance


@pytest.mark.parametrize("n", [120, 6000])
def test_a_curve_never_falls_and_comes_near_the_truth(n: int) -> None:
    score, hit, chance = made(n)
    how, knots = fitted(score, hit)
    assert how == ("platt" if hit.sum() < FEW else "isotonic")
    assert len(knots.score) <= BINS + 2
    assert (np.diff(knots.score) > 0).all()
    assert (np.diff(knots.confidence) >= 0).all()
    assert np.abs(knots(score) - chance).mean() < (0.08 if n < 1000 else 0.03)
    assert np.abs(score - chance).mean() > 0.15


def test_groups_are_fitted_as_scipy_fits_them() -> None:
    score, hit, _ = made(BINS * 50)
    _, knots = fitted(score, hit)
    order = np.argsort(score)
    groups = hit[order].reshape(BINS, 50).mean(1)
    np.testing.assert_allclose(knots.confidence, isotonic_regression(groups).x, atol=1e-12)
    np.testing.assert_allclose(knots.score, score[order].reshape(BINS, 50).mean(1), atol=1e-12)


def test_equal_scores_are_worth_the_same_in_any_order() -> None:
    score, hit, _ = made(3000)
    score = score.round(2)
    again = np.random.default_rng(3).permutation(len(score))
    one, two = fitted(score, hit)[1], fitted(score[again], hit[again])[1]
    np.testing.assert_allclose(one.confidence, two.confidence, atol=1e-12)


def test_of_few_matches_nothing_is_said() -> None:
    score, hit = np.linspace(0.1, 0.9, 50), np.arange(50) >= 50 - LEAST + 1
    how, knots = fitted(score, hit)
    assert how == ""
    np.testing.assert_array_equal(knots(score), score)
    np.testing.assert_array_equal(crossed(score, hit, np.arange(50) % 5), score)


def test_what_is_said_of_a_box_hangs_on_other_boxes() -> None:
    score, hit, _ = made(2000)
    fold = np.arange(2000) % 5
    before = crossed(score, hit, fold)
    after = crossed(score, np.where(fold == 2, ~hit, hit), fold)
    np.testing.assert_array_equal(before[fold == 2], after[fold == 2])
    assert (before[fold != 2] != after[fold != 2]).any()


def test_points_of_a_card_are_a_curve() -> None:
    knots = Knots.of(((0.2, 0.1), (0.6, 0.9)))
    np.testing.assert_allclose(knots(np.array([0.1, 0.2, 0.4, 0.7])), [0.1, 0.1, 0.5, 0.9])
    assert Knots.of(())(np.array([0.3])).tolist() == [0.3]


def test_thresholds_of_a_case_worked_out_by_hand() -> None:
    """Of 4 true ones: hit, hit, miss, hit, miss. F1 2/5, 4/6, 4/7, 6/8, 6/9; precision 1, 1, 2/3, 3/4, 3/5."""
    score, hit = np.array([0.9, 0.8, 0.7, 0.5, 0.2]), np.array([True, True, False, True, False])
    curve = curve_of(score, hit)
    np.testing.assert_allclose(curve.precision(), [1, 1, 2 / 3, 3 / 4, 3 / 5])
    assert best_f1(curve, 4, 0.05) == pytest.approx(0.35)
    assert at_precision(curve, 0.75, 0.05) == pytest.approx(0.35)
    assert at_precision(curve, 0.9, 0.05) == pytest.approx(0.75)
    assert at_precision(curve, 0.6, 0.05) == pytest.approx(0.125)
    assert at_precision(curve_of(score, ~hit & (score < 0.5)), 0.5, 0.05) is None
    assert curve.thinned(3).score.tolist() == [0.9, 0.7, 0.2]
    assert len(curve_of(score[:0], hit[:0]).thinned(3).score) == 0


def test_the_calibration_error_of_a_case_worked_out_by_hand() -> None:
    confidence, hit = np.array([0.95, 0.97, 0.1, 0.12, 1.0]), np.array([True, False, False, False, True])
    found = reliability(confidence, hit)
    assert found.boxes.tolist() == [2, 3]
    assert found.error() == pytest.approx((2 * 0.11 + 3 * abs(2.92 / 3 - 2 / 3)) / 5)
    assert reliability(confidence[:0], hit[:0]).error() is None
