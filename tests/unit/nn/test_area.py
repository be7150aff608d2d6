"""The worked example of the paper, and a map whose truth is known."""

from __future__ import annotations

import json

import numpy as np
import pytest

from geoml.errors import InputError
from geoml.nn.area import Z95, estimate

# Olofsson et al. 2014, Table 8: deforestation, forest gain, stable forest, stable non-forest, 30 m pixels
COUNTS = [[66, 0, 5, 4], [0, 55, 8, 12], [1, 0, 153, 11], [2, 1, 9, 313]]
MAPPED = [200_000, 150_000, 3_200_000, 6_450_000]


def test_the_worked_example_of_the_paper() -> None:
    found = estimate(COUNTS, MAPPED)
    hectares = found.area * 0.09
    assert hectares[0] == pytest.approx(21_158, abs=1)
    assert Z95 * found.area_error[0] * 0.09 == pytest.approx(6_158, abs=1)
    np.testing.assert_allclose(found.user, [0.88, 0.73, 0.93, 0.96], atol=0.005)
    np.testing.assert_allclose(Z95 * found.user_error, [0.07, 0.10, 0.04, 0.02], atol=0.005)
    np.testing.assert_allclose(found.producer, [0.75, 0.85, 0.93, 0.96], atol=0.005)
    assert found.overall == pytest.approx(0.95, abs=0.005)
    assert Z95 * found.overall_error == pytest.approx(0.02, abs=0.005)
    assert found.area.sum() == pytest.approx(sum(MAPPED))


@pytest.fixture(scope="module")
def repeats() -> tuple[np.ndarray, list]:
    """True areas of a map with known errors, and estimates from 2,000 stratified samples of it."""
    random = np.random.default_rng(3)
    confusion = np.array([[0.80, 0.05, 0.15], [0.10, 0.75, 0.15], [0.02, 0.01, 0.97]])  # rows: mapped
    # many places: the normal interval is too short where only a handful of omissions is found
    mapped, checked = np.array([40_000.0, 20_000.0, 940_000.0]), (300, 300, 3000)
    draws = [np.array([random.multinomial(n, p) for n, p in zip(checked, confusion, strict=True)]) for _ in range(2000)]
    return mapped @ confusion, [estimate(d, mapped) for d in draws]


def test_intervals_cover_the_truth_in_95_of_100_samples(repeats) -> None:  # type: ignore[no-untyped-def]
    truth, found = repeats
    inside = np.array([(f.interval()[:, 0] <= truth) & (truth <= f.interval()[:, 1]) for f in found])
    np.testing.assert_allclose(inside.mean(0), 0.95, atol=0.02)
    np.testing.assert_allclose(np.mean([f.area for f in found], 0), truth, rtol=0.01)


def test_standard_errors_are_the_spread_of_the_estimates(repeats) -> None:  # type: ignore[no-untyped-def]
    _, found = repeats
    for value, error in (
        ("area", "area_error"),
        ("user", "user_error"),
        ("producer", "producer_error"),
        ("overall", "overall_error"),
    ):
        spread = np.std([getattr(f, value) for f in found], axis=0)
        np.testing.assert_allclose(np.mean([getattr(f, error) for f in found], axis=0), spread, rtol=0.08)


def test_a_perfect_sample_has_the_mapped_areas_and_no_error() -> None:
    found = estimate(np.diag([10, 20]), [3.0, 7.0])
    np.testing.assert_allclose(found.area, [3, 7])
    assert not found.area_error.any()
    assert found.overall == 1.0


def test_a_class_that_is_not_mapped_has_no_user_accuracy() -> None:
    found = estimate([[50, 0, 2], [0, 40, 0], [0, 0, 0]], [10.0, 10.0, 0.0])
    assert found.area[2] == pytest.approx(10 * 2 / 52)
    value = found.as_json(["a", "b", "c"])
    assert json.loads(json.dumps(value)) == value
    assert value["classes"]["c"]["user"] is None
    assert value["classes"]["c"]["producer"] == 0.0
    assert value["classes"]["a"]["area_95"][0] < found.area[0] < value["classes"]["a"]["area_95"][1]


@pytest.mark.parametrize(
    ("counts", "mapped", "says"),
    [
        ([[1, 2]], [1.0], "shapes"),
        ([[9, 0], [0, 1]], [1.0, 1.0], r"1 of 2 mapped classes have fewer than two checked places: 1 has 1"),
        ([[9, -1], [0, 9]], [1.0, 1.0], "zero up"),
    ],
)
def test_what_cannot_be_estimated_is_refused(counts, mapped, says) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InputError, match=says):
        estimate(counts, mapped)


def test_of_a_hundred_samples_of_a_map_ninety_hold_every_area() -> None:
    """Places drawn from the pixels of a made map with a rare class, as `geoml area draw` shares them out."""
    random = np.random.default_rng(0)
    truth = random.choice(3, 400_000, p=[0.7, 0.25, 0.05])
    mapped = np.where(random.random(truth.size) < 0.85, truth, random.integers(0, 3, truth.size))
    size, real = np.bincount(mapped, minlength=3), np.bincount(truth, minlength=3)
    by_class = [np.flatnonzero(mapped == k) for k in range(3)]
    checked = 50 + np.round((600 - 150) * size / size.sum()).astype(int)
    held, naive = np.zeros(3, int), 0
    for seed in range(100):
        draw = np.random.default_rng(seed)
        at = [draw.choice(those, n, replace=False) for those, n in zip(by_class, checked, strict=True)]
        found = estimate([np.bincount(truth[places], minlength=3) for places in at], size)
        low, high = found.interval().T
        held += (low <= real) & (real <= high)
        naive += low[2] <= size[2] <= high[2]
    assert held.min() >= 90, held
    assert naive < 50, "what the map counts is not the area, and the intervals say so"
