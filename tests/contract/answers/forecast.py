"""Of forecasts with quantiles of two leads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from geoml.nn.forecast.levels import LEVELS
from geoml.nn.forecast.scores import LeadScores
from tests.contract.cases import Answers, Parts

LEADS = ("PT1H", "PT3H")


def make(name: str) -> Answers:
    random = np.random.default_rng(0)
    truth = random.normal(10, 3, (90, 2))
    sure = np.repeat(truth[:, :, None], len(LEVELS), 2)
    spread = np.sort(random.normal(10, 3, (90, 2, len(LEVELS))), -1)
    parts: Parts = [(spread[at : at + 30], truth[at : at + 30]) for at in (60, 0, 30)]

    def shown(scores: Mapping[str, Any]) -> dict[str, Any]:
        rows = {"made": dict(scores), "persistence": dict(scores)}
        skill = {"mae": {"best": "persistence", "error": 1.0, "skill": 0.25}}
        return {
            "crps": scores["crps"], "mae": scores["mae"], "levels": list(LEVELS), "name": "made", "methods": rows,
            "skill": {lead: {"crps": skill["mae"], **skill} for lead in LEADS}, "split": "test", "variable": "pm25",
            "unit": "ug m-3", "times": 90, "places": 1,
        }  # fmt: skip

    return Answers(
        scores=lambda: LeadScores(LEADS, LEVELS), best=0.0, perfect=[(sure, truth)],
        nothing=[(np.full_like(spread, 1000.0), truth)], parts=parts, whole=[(spread, truth)], shown=shown,
    )  # fmt: skip
