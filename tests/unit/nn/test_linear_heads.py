"""Heads against scikit-learn, and the temperature against a grid."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.neighbors import NearestCentroid

from geoml.nn.linear_heads import (
    HEADS,
    LANDMARKS,
    SHARP,
    STRENGTHS,
    Floats,
    Index,
    LinearHead,
    kernel,
    logistic,
    prototype,
    ridge,
    softmax,
    temperature,
)

every_head = pytest.mark.parametrize("name", sorted(HEADS))
every_linear_head = pytest.mark.parametrize("name", sorted(set(HEADS) - {"kernel"}))


def made(n: int = 60, features: int = 5, classes: int = 3, seed: int = 0) -> tuple[Floats, Index, Floats]:
    """Overlapping classes, and weights of mean 1."""
    random = np.random.default_rng(seed)
    y = np.arange(n) % classes
    x = random.normal(size=(classes, features))[y] + random.normal(size=(n, features))
    weight = random.uniform(0.2, 2, n)
    return x, y, weight / weight.mean()


def test_a_prototype_is_the_nearest_mean() -> None:
    x, y, _ = made()
    found = prototype(x, y, np.ones(len(y)), 3)
    assert (found.logits(x).argmax(1) == NearestCentroid().fit(x, y).predict(x)).all()
    means = np.stack([x[y == k].mean(0) for k in range(3)])
    away = ((x[:, None] - means) ** 2).sum(2)
    apart = found.logits(x)[:, :1] - found.logits(x)[:, 1:]
    np.testing.assert_allclose(apart, (away[:, 1:] - away[:, :1]) / (2 * np.sqrt(5)), atol=1e-9)


@pytest.mark.parametrize(("n", "features"), [(60, 5), (12, 40)])
@pytest.mark.parametrize("strength", STRENGTHS["ridge"])
def test_ridge_is_that_of_scikit_learn(n: int, features: int, strength: float) -> None:
    x, y, weight = made(n, features)
    other = Ridge(alpha=strength * features * weight.sum())
    other.fit(x, 2.0 * (y[:, None] == np.arange(3)) - 1, sample_weight=weight)
    found = ridge(x, y, weight, 3, strength)
    np.testing.assert_allclose(found.weight, other.coef_, atol=1e-8)
    np.testing.assert_allclose(found.bias, other.intercept_, atol=1e-8)


def test_a_kernel_head_is_ridge_on_the_likeness_of_scikit_learn() -> None:
    x, y, weight = made()
    other = Ridge(alpha=0.1 * len(x) * weight.sum())  # all rows are landmarks
    near = rbf_kernel(x, x[np.argsort(y, kind="stable")], gamma=SHARP / 5)
    other.fit(near, 2.0 * (y[:, None] == np.arange(3)) - 1, sample_weight=weight)
    np.testing.assert_allclose(kernel(x, y, weight, 3, 0.1).logits(x), other.predict(near), atol=1e-7)


def test_a_kernel_head_learns_what_no_line_parts_from_some_rows() -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=(2000, 2))
    y = (x[:, 0] * x[:, 1] > 0).astype(np.int64)
    found = kernel(x[:1000], y[:1000], np.ones(1000), 2, 1e-5)
    assert len(found.landmarks) == LANDMARKS
    assert (found.logits(x[1000:]).argmax(1) == y[1000:]).mean() > 0.95
    line = ridge(x[:1000], y[:1000], np.ones(1000), 2, 0.1)
    assert (line.logits(x[1000:]).argmax(1) == y[1000:]).mean() < 0.7
    rare = np.where(np.arange(1000) == 7, 2, y[:1000])
    assert (kernel(x[:1000], rare, np.ones(1000), 3, 0.1).landmarks == x[7]).all(1).any(), "a class has a landmark"


@pytest.mark.parametrize("classes", [2, 3])
def test_logistic_has_the_probabilities_of_scikit_learn(classes: int) -> None:
    x, y, weight = made(classes=classes)
    other = LogisticRegression(C=1 / (0.3 * 5 * weight.sum()), tol=1e-8, max_iter=2000).fit(x, y, sample_weight=weight)
    found = softmax(logistic(x, y, weight, classes, 0.3).logits(x))
    assert found.shape == (len(x), classes)
    np.testing.assert_allclose(found, other.predict_proba(x), atol=1e-3)


@every_linear_head
def test_a_weight_is_a_number_of_copies(name: str) -> None:
    x, y, _ = made(40)
    times = np.random.default_rng(1).integers(1, 4, len(y))
    copies = np.repeat(np.arange(len(y)), times)
    one = HEADS[name](x, y, times / times.mean(), 3, 0.3)
    # as many rows count as are there, so the mean weight of the copies is that of the rows
    two = HEADS[name](x[copies], y[copies], np.full(len(copies), len(y) / len(copies)), 3, 0.3)
    np.testing.assert_allclose(one.logits(x), two.logits(x), atol=2e-3)


@every_linear_head
def test_strength_shrinks_alike_for_any_number_of_rows(name: str) -> None:
    x, y, weight = made(40)
    one, two = (HEADS[name](np.tile(x, (k, 1)), np.tile(y, k), np.tile(weight, k), 3, 3.0) for k in (1, 5))
    np.testing.assert_allclose(one.logits(x), two.logits(x), atol=2e-3)
    if len(STRENGTHS[name]) > 1:
        heads = [HEADS[name](x, y, weight, 3, s) for s in sorted(STRENGTHS[name])]
        size = [np.abs(head.weight).max() for head in heads if isinstance(head, LinearHead)]
        assert size == sorted(size, reverse=True)


@pytest.mark.parametrize("name", ["ridge", "logistic"])
def test_strength_shrinks_alike_for_any_number_of_features(name: str) -> None:
    """Features that are there forty times say what they say once."""
    x, y, weight = made(40)
    strength = STRENGTHS[name][0]
    one, many = (HEADS[name](np.tile(x, (1, k)), y, weight, 3, strength).logits(np.tile(x, (1, k))) for k in (1, 40))
    np.testing.assert_allclose(one, many, atol=2e-3)


@every_head
def test_a_class_without_a_row_is_never_said(name: str) -> None:
    x, y, weight = made(classes=3)
    known = y != 1
    found = HEADS[name](x[known], y[known], weight[known], 4, 0.01)
    far = np.concatenate([x, 0 * x, 100 * x])
    for t in (0.02, 1.0, 50.0):
        said = softmax(found.tempered(t).logits(far))
        assert said[:, [1, 3]].max() < 1e-6
    assert set(found.logits(x).argmax(1)) == {0, 2}


@every_head
def test_one_row_a_class_is_enough(name: str) -> None:
    x = np.array([[0.0, 1.0], [1.0, 0.0], [-1.0, -1.0]])
    found = HEADS[name](x, np.arange(3), np.ones(3), 3, 0.3)
    assert (found.logits(x).argmax(1) == np.arange(3)).all()


@settings(max_examples=20)
@given(st.integers(0, 999), st.floats(0.1, 10))
def test_temperature_is_the_best_of_a_grid(seed: int, scale: float) -> None:
    random = np.random.default_rng(seed)
    logits = scale * random.normal(size=(200, 3))
    y = np.array([random.choice(3, p=p) for p in softmax(logits / (2 * scale))])
    weight = random.uniform(0.5, 1.5, 200)

    def loss(t: float) -> float:
        return float(-(weight * np.log(np.maximum(softmax(logits / t)[np.arange(200), y], 1e-12))).sum())

    grid = np.geomspace(0.02, 50, 100)
    assert loss(temperature(logits, y, weight)) <= min(map(loss, grid)) + 1e-3
    largest = min(50.0, 3 * temperature(logits, y, weight))
    assert temperature(3 * logits, y, weight) == pytest.approx(largest, rel=1e-2)


def test_a_tempered_head_says_the_same_class_less_surely() -> None:
    x, y, weight = made()
    head = ridge(x, y, weight, 3, 0.3)
    cool = head.tempered(4.0)
    assert isinstance(cool, LinearHead)
    assert (cool.logits(x).argmax(1) == head.logits(x).argmax(1)).all()
    np.testing.assert_allclose(cool.logits(x), head.logits(x) / 4)
