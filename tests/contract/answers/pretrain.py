"""Of views of places without labels, one of which is looked for by the other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from geoml.nn.vicreg import GROUP, RetrievalScores
from tests.contract.cases import Answers, Parts


def make(name: str) -> Answers:
    random = torch.Generator().manual_seed(0)
    one = torch.randn(3 * GROUP, 8, generator=random)
    two = one + torch.randn(one.shape, generator=random)
    same = torch.ones_like(one)
    parts: Parts = [(one[at : at + GROUP], two[at : at + GROUP]) for at in (2 * GROUP, 0, GROUP)]

    def shown(scores: Mapping[str, Any]) -> dict[str, Any]:
        return {**scores, "split": "held-out ground", "bands": 0.125}

    return Answers(
        scores=RetrievalScores, best=1.0, perfect=[(one, 3 * one)], nothing=[(same, same)], parts=parts,
        whole=[(one, two)], shown=shown,
    )  # fmt: skip
