"""Of land cover from few labels: classes, whose F1 is the mean of those that are there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from geoml import testing
from geoml.engine.contract import pixel_output
from geoml.engine.inference.predict import stored
from geoml.nn.metrics import MacroScores
from geoml.outputs.classes import STEPS
from geoml.outputs.landcover import TINY
from tests.contract.cases import Answers, Parts

NAMES = TINY["classes"]
CARD = testing.card("made", ["red"], **{**TINY, "classes": NAMES})


def right(target: Tensor) -> Tensor:
    """Raw output that is sure of the truth and of the other model, on ground that was taught."""
    logits = 50.0 * nn.functional.one_hot(target, len(NAMES)).movedim(-1, 1)
    return torch.cat([logits, torch.zeros_like(logits[:, :1]), logits], 1)


def decoded(raw: Tensor, target: Tensor) -> tuple[Any, ...]:
    """Classes and confidence, and the truth: (B, y, x)."""
    output = pixel_output(CARD)
    found = output.answer(stored(output, raw, np.ones(target.shape, np.bool_)))
    return *(a.reshape(target.shape) for a in found), target.numpy()


def make(name: str) -> Answers:
    random = torch.Generator().manual_seed(0)
    raw = torch.randn(3, 2 * len(NAMES) + 1, 16, 12, generator=random)
    target = torch.randint(0, len(NAMES), (3, 16, 12), generator=random)
    whole = decoded(raw, target)
    commonest = torch.full_like(target, int(target.flatten().mode().values))
    cells = [{"name": n, "mean": 0.5, "deviation": 0.125} for n in ("bands, ridge", "commonest class")]

    def shown(scores: Mapping[str, Any]) -> dict[str, Any]:
        by_name = {k: dict(zip(NAMES, scores[k], strict=True)) for k in ("iou", "f1", "precision", "recall")}
        sets = {"level": 0.9, "places": 40, "least": 20, "limit": 0.25, "coverage": 0.9, "size": 1.5}
        learnt = {
            "chosen": "bands, ridge", "other": "", "rows": cells, "kind": "point", "places": 40, "folds": 5,
            "repeats": 3, "ground": 250.0, "sets": sets, "said": ["3 points left out: without data."],
            "curve": [{"labels": 5, "draws": 10, "macro_f1": cells}],
        }  # fmt: skip
        base = {"class": NAMES[0], "overall_accuracy": 0.4, "miou": 0.13}
        support = {n: {"pixels": 99, "places": 13} for n in NAMES}
        return {"split": "held-out labels", **scores, **by_name, "baseline": base, "support": support, "learnt": learnt}

    parts: Parts = [tuple(v[part] for v in whole) for part in (slice(2, 3), slice(0, 1), slice(1, 2))]
    return Answers(
        scores=lambda: MacroScores(len(NAMES), STEPS),
        best=1.0,
        perfect=[decoded(right(target), target)],
        nothing=[decoded(right(commonest), target)],
        parts=parts,
        whole=[whole],
        shown=shown,
    )
