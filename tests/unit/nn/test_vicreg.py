"""Two views of one thing look alike, and things do not all look the same."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from geoml.nn.vicreg import COVARIANCE, GROUP, INVARIANCE, VARIANCE, Projector, RetrievalScores, vicreg


def test_is_the_sum_of_the_parts_of_the_paper() -> None:
    random = np.random.default_rng(0)
    one, two = random.normal(size=(2, 40, 6))
    parts = [INVARIANCE * ((one - two) ** 2).mean()]
    for view in (one, two):
        parts.append(VARIANCE / 2 * np.maximum(0, 1 - np.sqrt(view.var(0, ddof=1) + 1e-4)).mean())
        covariance = np.cov(view.T)
        parts.append(COVARIANCE * (covariance[~np.eye(6, dtype=bool)] ** 2).sum() / 6)
    assert float(vicreg(*map(torch.from_numpy, (one, two)))) == pytest.approx(sum(parts))


def test_views_that_all_look_the_same_cost_more_than_views_that_are_known_again() -> None:
    same = torch.zeros(64, 8)
    known = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
    assert float(vicreg(known, known)) < float(vicreg(same, same))
    assert float(vicreg(known, known)) < float(vicreg(known, known.flip(0)))


def test_groups_are_counted_whole() -> None:
    rows = torch.randn(2 * GROUP + 5, 4, generator=torch.Generator().manual_seed(1))
    scores = RetrievalScores()
    scores.update(rows, rows * 2)
    assert scores.compute() == {"rows": 2 * GROUP, "retrieval": 1.0, "chance": 1 / GROUP}
    empty = RetrievalScores()
    empty.update(rows[: GROUP - 1], rows[: GROUP - 1])
    assert empty.compute()["retrieval"] is None
    moved = RetrievalScores()
    moved.update(rows[:GROUP], rows[:GROUP].roll(1, 0))
    assert moved.compute()["retrieval"] == 0.0


def test_a_projector_has_three_layers() -> None:
    assert [type(m).__name__ for m in Projector(4, 16)].count("Linear") == 3
    assert Projector(4, 16)(torch.randn(8, 4)).shape == (8, 16)
