"""Of tasks that give every pixel a value and its spread."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from geoml import testing
from geoml.engine.task import find_pixel_task
from tests.contract.cases import Answers, PixelCase


def right(target: Tensor) -> Tensor:
    """Raw output that is sure of the truth."""
    return torch.stack([target, torch.full_like(target, -50.0)], dim=1)


def case(name: str) -> PixelCase:
    made: Any = find_pixel_task(name)
    random = torch.Generator().manual_seed(0)
    raw = torch.randn(3, 2, 16, 12, generator=random)
    target = torch.randint(-30, 30, (3, 16, 12), generator=random) / 10  # in steps
    card = testing.card("made", ["red"], [], task=name, channels=2, made={"name": "height", "unit": "m"})
    return PixelCase(made(), card, raw, target, right, float("nan"))


def make(name: str) -> Answers:
    made = case(name)
    target = made.target
    whole = made.decoded(made.raw, target)

    def shown(scores: Mapping[str, Any]) -> dict[str, Any]:
        return {"split": "test", **scores, "baseline": {"mae": 1.5, "rmse": 2.0}, "linear": {"mae": 1.0}}

    return Answers(
        scores=made.task.scores,
        best=0.0,
        perfect=[made.decoded(right(target), target)],
        nothing=[made.decoded(right(torch.full_like(target, float(target.median()))), target)],
        parts=[tuple(v[part] for v in whole) for part in (slice(2, 3), slice(0, 1), slice(1, 2))],
        whole=[whole],
        shown=shown,
    )
