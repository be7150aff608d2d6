"""Conformal sets keep their promise on exchangeable pictures, whatever the model."""

from __future__ import annotations

import numpy as np
import pytest

from geoml.errors import InputError
from geoml.geolocation.nn import conformal


def drawn(rng: np.random.Generator, count: int, sharpness: float) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of a model that is too sure (or not enough), and true cells of the real law."""
    law = rng.dirichlet(np.full(12, 0.5), count)
    true = (law.cumsum(1) > rng.random((count, 1))).argmax(1)
    told = law**sharpness
    return told / told.sum(1, keepdims=True), true


@pytest.mark.parametrize("sharpness", [0.3, 1.0, 3.0])
def test_sets_cover_what_they_promise_also_for_a_badly_calibrated_model(sharpness):
    rng = np.random.default_rng(5)
    covered = []
    for trial in range(20):
        p, true = drawn(rng, 500, sharpness)
        limit = conformal.quantile(p, true, 0.1, seed=trial)
        q, other = drawn(rng, 500, sharpness)
        covered.append(conformal.coverage(conformal.sets(q, limit, seed=100 + trial), other))
    assert 0.885 <= np.mean(covered) <= 0.93


def test_an_aps_score_by_hand():
    p = np.array([[0.5, 0.3, 0.2]])
    share = np.random.default_rng(0).random((1, 1))[0, 0]
    assert conformal.scores(p)[0] == pytest.approx([share * 0.5, 0.5 + share * 0.3, 0.8 + share * 0.2])


def test_too_few_pictures_promise_nothing_but_everything():
    p = np.full((5, 3), 1 / 3)
    limit = conformal.quantile(p, np.zeros(5, int), 0.1)
    assert limit == np.inf
    assert conformal.sets(p, limit).all()


def test_the_likeliest_cell_is_in_every_set():
    p, _ = drawn(np.random.default_rng(1), 50, 1.0)
    inside = conformal.sets(p, -1.0)
    assert inside.sum() == 50
    assert inside[np.arange(50), p.argmax(1)].all()


def test_what_is_no_probability_or_no_share_is_refused():
    with pytest.raises(InputError, match="sum to 1"):
        conformal.scores(np.ones((2, 3)))
    with pytest.raises(InputError, match="alpha"):
        conformal.quantile(np.full((5, 2), 0.5), np.zeros(5, int), 1.0)


def test_a_seed_for_each_picture_gives_what_it_gives_alone() -> None:
    p = np.random.default_rng(0).dirichlet(np.ones(7), 5)
    together = conformal.sets(p, 0.6, [3, 1, 4, 1, 5])
    alone = [conformal.sets(row[None], 0.6, seed)[0] for row, seed in zip(p, (3, 1, 4, 1, 5), strict=True)]
    np.testing.assert_array_equal(together, alone)
