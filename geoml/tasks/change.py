"""Change: every pixel of a place seen on two dates or more is unchanged (class 0) or changed in one of several ways.

Logits are (B, K, H, W); index 0 means unchanged, so K = 2 is change or none and a larger K has from-to classes. What is
stored of them: `geoml.outputs.changes`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, final

from torch import Tensor

from geoml.errors import InputError
from geoml.nn.change_scores import ChangeScores
from geoml.outputs.classes import STEPS
from geoml.tasks import segmentation


@final
@dataclass(frozen=True)
class Task:
    """Options as of `geoml.tasks.segmentation`; at least two classes."""

    classes: int
    loss_parts: Mapping[str, float] = field(default_factory=lambda: {"cross_entropy": 1.0})
    class_weights: Sequence[float] | None = None

    name: Final = "change"
    output: Final = "changes"

    def __post_init__(self) -> None:
        if self.classes < 2:
            raise InputError(f"classes: {self.classes}; change needs unchanged and at least one more")
        segmentation.Task(self.classes, self.loss_parts, self.class_weights)

    @property
    def _plain(self) -> segmentation.Task:
        return segmentation.Task(self.classes, self.loss_parts, self.class_weights)

    def loss(self, raw: Tensor, target: Tensor) -> Tensor:
        """As of segmentation."""
        return self._plain.loss(raw, target)

    def scores(self) -> ChangeScores:
        """An empty accumulator of metrics; feed it the answers of the output."""
        return ChangeScores(self.classes, STEPS)
