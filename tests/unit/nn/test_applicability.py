"""The dissimilarity against a plain double loop, and its threshold against the rule of the paper."""

from __future__ import annotations

import numpy as np
import pytest

from geoml.nn import applicability
from geoml.nn.applicability import Applicability, importance, nearest


def made(n: int = 40, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    return random.normal(size=(n, 4)), np.array([2.0, 0.5, 1.0, 0.0]), np.arange(n) % 4


def test_distances_are_those_of_a_double_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(applicability, "CHUNK", 7)
    x, weights, _ = made()
    z = x * weights
    plain = [min(float(np.linalg.norm(a - b)) for b in z[:15]) for a in z]
    np.testing.assert_allclose(nearest(z, z[:15]), plain, atol=1e-6)


def test_mean_and_threshold_are_those_of_the_paper() -> None:
    x, weights, fold = made()
    found = applicability.fit(x, weights, fold)
    z, pairs, other = x * weights, [], []
    for a in range(len(z)):
        away = [float(np.linalg.norm(z[a] - z[b])) for b in range(len(z))]
        pairs += [d for b, d in enumerate(away) if b != a]
        other.append(min(d for b, d in enumerate(away) if fold[b] != fold[a]))
    assert found.mean == pytest.approx(np.mean(pairs))
    index = np.array(other) / np.mean(pairs)
    low, high = np.percentile(index, (25, 75))
    assert found.threshold == pytest.approx(index[index <= high + 1.5 * (high - low)].max())
    np.testing.assert_allclose(found.index(x), 0, atol=1e-6)
    assert found.index(x + 100).min() > found.threshold
    far = x.copy()
    far[:, 3] = 1e3  # counts for nothing
    np.testing.assert_allclose(found.index(far), 0, atol=1e-6)


def test_neighbours_of_the_same_fold_do_not_widen_what_is_inside() -> None:
    """Pixels of one polygon are alike: what counts is how far another fold is."""
    random = np.random.default_rng(1)
    centers = random.normal(size=(8, 4))
    fold = np.repeat(np.arange(8), 20)
    x = centers[fold] + 0.01 * random.normal(size=(160, 4))
    by_fold = applicability.fit(x, np.ones(4), fold)
    at_random = applicability.fit(x, np.ones(4), np.arange(160) % 5)
    assert by_fold.threshold > 10 * at_random.threshold


def test_many_pixels_are_thinned_by_the_seed() -> None:
    x, weights, fold = made(2000)
    one, two, other = (applicability.fit(x, weights, fold, seed) for seed in (0, 0, 1))
    assert len(one.references) == applicability.REFERENCES
    np.testing.assert_array_equal(one.references, two.references)
    assert not np.array_equal(one.references, other.references)
    assert one.threshold == pytest.approx(other.threshold, rel=0.3)


def test_training_pixels_that_are_alike_are_inside() -> None:
    x = np.repeat([[0.0, 1.0], [1.0, 0.0]], 10, axis=0)
    for given in (x, np.zeros_like(x)):
        found = applicability.fit(given, np.ones(2), np.arange(20) % 2)
        assert isinstance(found, Applicability)
        assert found.threshold > 0
        assert (found.index(given) <= found.threshold).all()
        assert (found.index(given + 0.5) > found.threshold).all()


def test_what_counts_alike_for_all_classes_counts_for_none() -> None:
    weight = np.array([[1.0, 5.0, 0.0], [-1.0, 5.0, 0.0], [3.0, 5.0, 0.0]])
    assert importance(weight).tolist() == [3.0, 0.0, 0.0]
    assert importance(np.zeros((3, 4))).tolist() == [1.0] * 4
