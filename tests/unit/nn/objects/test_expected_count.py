"""Counts with an interval, against the truth of made ground."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from geoml.nn.objects.box_calibration import crossed, fitted
from geoml.nn.objects.expected_count import FEWEST, Correction


def ground(
    seed: int, squares: int, density: float = 8.0
) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.int64], NDArray[np.int64]]:
    """Of a detector that finds three quarters of what is there and as many wrong ones, by score, and by square:
    scores, hits, squares of candidates, true numbers. Squares are unlike in how much they hold."""
    random = np.random.default_rng(seed)
    truth = random.poisson(random.gamma(2, density / 2, squares))
    found, wrong = random.binomial(truth, 0.75), random.poisson(density * 0.75, squares)
    square = np.concatenate([np.repeat(np.arange(squares), n) for n in (found, wrong)])
    hit = np.arange(len(square)) < found.sum()
    score = np.where(hit, random.beta(4, 3, len(hit)), random.beta(1.5, 6, len(hit))) * 0.95 + 0.05
    return score, hit, square, truth


def learnt(seed: int, squares: int) -> tuple[Correction, NDArray[np.float64], NDArray[np.float64]]:
    score, hit, square, truth = ground(seed, squares)
    sums = np.bincount(square, weights=crossed(score, hit, square % 5), minlength=squares)
    return Correction(sums, truth.astype(float)), *fitted(score, hit)[1]


def test_intervals_hold_the_truth_and_expected_counts_are_not_biased() -> None:
    """Validation of 40 squares, then regions of 1, 10 and 100 squares of other ground."""
    errors, inside = [], []
    for seed in range(40):
        correction, x, y = learnt(1000 + seed, 40)
        assert correction.ratio is not None
        for k, squares in enumerate((1, 10, 100)):
            score, _, _, truth = ground(10_000 + 10 * seed + k, squares)
            confidence = np.interp(score, x, y)
            bounds = correction.interval(float(confidence.sum()), float((confidence**2).sum()))
            assert bounds is not None
            inside.append(bounds[0] <= truth.sum() <= bounds[1])
            if squares == 100:
                errors.append(correction.ratio * confidence.sum() / truth.sum() - 1)
                naive = float((score >= 0.4).sum()) / truth.sum() - 1
    assert abs(np.mean(errors)) < 0.03
    assert np.mean(inside) > 0.9
    assert abs(naive) > 0.1, "counting what is found is off"


def test_a_wider_region_has_a_narrower_share_and_the_draws_are_always_the_same() -> None:
    correction, *_ = learnt(5, 60)
    small, large = correction.interval(10.0, 6.0), correction.interval(1000.0, 600.0)
    assert small is not None
    assert large is not None
    assert (large[1] - large[0]) / 1000 < (small[1] - small[0]) / 10 / 2
    assert small[0] >= 0
    assert Correction(correction.sums, correction.truth).interval(10.0, 6.0) == small


def test_nothing_is_said_of_few_squares_or_without_truth() -> None:
    few = Correction.of([(3.0, 3)] * (FEWEST - 1))
    assert few.ratio == 1.0
    assert few.interval(10.0, 8.0) is None
    for nothing in ((), [(0.0, 0)] * 9, [(2.0, 0)] * 9, [(0.0, 3)] * 9):
        assert Correction.of(nothing).ratio is None
        assert Correction.of(nothing).interval(10.0, 8.0) is None


def test_a_perfect_detector_counts() -> None:
    correction = Correction.of([(5.0, 5)] * 20)
    assert correction.interval(40.0, 40.0) == pytest.approx((40, 40))
    assert correction.interval(0.0, 0.0) == (0, 0)
