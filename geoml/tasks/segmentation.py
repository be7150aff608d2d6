"""Segmentation: every pixel gets one class of a closed list.

Logits are (B, K, H, W); index k means ``card.classes[k]``. What is stored of them: `geoml.outputs.classes`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, final

import torch
from torch import Tensor

from geoml.errors import InputError, unknown
from geoml.nn.losses import LOSSES
from geoml.nn.metrics import ClassScores
from geoml.outputs.classes import STEPS


@final
@dataclass(frozen=True)
class Task:
    """``loss`` maps names of `geoml.nn.losses.LOSSES` to their share; ``class_weights`` has one number per class."""

    classes: int
    loss_parts: Mapping[str, float] = field(default_factory=lambda: {"cross_entropy": 1.0})
    class_weights: Sequence[float] | None = None

    name: Final = "segmentation"
    output: Final = "classes"

    def __post_init__(self) -> None:
        if not 1 <= self.classes <= 255:
            raise InputError(f"classes: {self.classes}; expected 1 to 255")
        for part in self.loss_parts:
            if part not in LOSSES:
                raise unknown("loss", part, LOSSES)
        if not self.loss_parts or min(self.loss_parts.values()) < 0 or sum(self.loss_parts.values()) <= 0:
            raise InputError(f"loss: {dict(self.loss_parts)}; expected names with shares above zero")
        if self.class_weights is not None and len(self.class_weights) != self.classes:
            raise InputError(f"class_weights: {len(self.class_weights)} numbers for {self.classes} classes")

    def loss(self, raw: Tensor, target: Tensor) -> Tensor:
        """Scalar float32 loss of (B, K, H, W) logits against (B, H, W) int64 class indices, `IGNORE` left out."""
        weight = None if self.class_weights is None else torch.tensor(self.class_weights, device=raw.device)
        parts = [share * LOSSES[name](raw, target, weight) for name, share in self.loss_parts.items() if share > 0]
        return torch.stack(parts).sum()

    def scores(self) -> ClassScores:
        """An empty accumulator of metrics; feed it the answers of the output."""
        return ClassScores(self.classes, STEPS)
