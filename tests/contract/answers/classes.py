"""Of tasks that give every pixel a class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from geoml import testing
from geoml.engine.task import find_pixel_task
from geoml.nn.losses import LOSSES
from geoml.nn.metrics import IGNORE
from geoml.nn.support import Support
from geoml.tasks._classes import named
from tests.contract.cases import Answers, PixelCase

CLASSES = 4
NAMES = [f"class {k}" for k in range(CLASSES)]


def right(target: Tensor) -> Tensor:
    """Logits that are sure of the truth."""
    return 50.0 * nn.functional.one_hot(target, CLASSES).movedim(-1, 1)


def case(name: str) -> PixelCase:
    made: Any = find_pixel_task(name)
    random = torch.Generator().manual_seed(0)
    raw = torch.randn(3, CLASSES, 16, 12, generator=random)
    target = torch.randint(0, CLASSES, (3, 16, 12), generator=random)
    card = testing.card("made", ["red"], NAMES, task=name)
    return PixelCase(made(CLASSES, dict.fromkeys(LOSSES, 1.0)), card, raw, target, right, IGNORE)


def make(name: str) -> Answers:
    made = case(name)
    target = made.target
    nothing = right(torch.full_like(target, int(target.flatten().mode().values)))
    whole = made.decoded(made.raw, target)
    support = Support(CLASSES)
    for place in target.numpy():
        support.update(place)

    def shown(scores: Mapping[str, Any]) -> dict[str, Any]:
        return {"split": "test", **named(scores, NAMES, support)}

    return Answers(
        scores=made.task.scores,
        best=1.0,
        perfect=[made.decoded(right(target), target)],
        nothing=[made.decoded(nothing, target)],
        parts=[tuple(v[part] for v in whole) for part in (slice(2, 3), slice(0, 1), slice(1, 2))],
        whole=[whole],
        shown=shown,
    )
