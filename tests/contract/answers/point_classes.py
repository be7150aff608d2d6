"""Of points, some of which may be several classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from geoml.elevation.accuracy.point_scores import PointScores
from tests.contract.cases import Answers, Parts

NAMES = ("ground", "vegetation", "building")


def make(name: str) -> Answers:
    random = np.random.default_rng(0)
    may = random.choice([1, 2, 4, 2 | 4, 0], 300, p=[0.4, 0.2, 0.2, 0.15, 0.05])
    right = np.array([2, 0, 1, 0, 2, 1, 1])[may]
    some = np.where(random.random(300) < 0.7, right, random.integers(0, 3, 300))
    parts: Parts = [(some[at : at + 100], may[at : at + 100]) for at in (200, 0, 100)]

    def shown(scores: Mapping[str, Any]) -> dict[str, Any]:
        return {**scores, "split": "test", "methods": {"made": dict(scores)}, "clouds": {"a.laz": dict(scores)}}

    return Answers(
        scores=lambda: PointScores(NAMES), best=1.0, perfect=[(right, may)], nothing=[(np.zeros(300, np.int64), may)],
        parts=parts, whole=[(some, may)], shown=shown,
    )  # fmt: skip
