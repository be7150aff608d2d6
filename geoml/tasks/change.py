"""Change: every pixel of a place seen on two dates or more is unchanged (class 0) or changed in one of several ways.

Logits are (B, K, H, W); index 0 means unchanged, so K = 2 is change or none and a larger K has from-to classes. What
is stored beside the class is the probability that anything changed, 1 - P(unchanged).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geoml.errors import InputError
from geoml.nn.change_scores import ChangeScores
from geoml.tasks import segmentation


@final
@dataclass(frozen=True)
class Task:
    """Options as of `geoml.tasks.segmentation`; at least two classes."""

    classes: int
    loss_parts: Mapping[str, float] = field(default_factory=lambda: {"cross_entropy": 1.0})
    class_weights: Sequence[float] | None = None

    name: Final = "change"
    kind: Final = "raster"
    layer: Final = "probability"
    about: Final = "probability of change"
    background: Final[int | None] = 0

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

    def softmax(self, raw: Tensor) -> Tensor:
        """(B, K, H, W) float32 probabilities of logits."""
        return self._plain.softmax(raw)

    def sure(self, probability: Tensor) -> Tensor:
        """(B, H, W) probability of change of (B, K, H, W) probabilities."""
        return 1 - probability[:, 0]

    def decode(self, raw: Tensor) -> tuple[Tensor, Tensor]:
        """(B, K, H, W) logits to class index and probability of change, both (B, H, W) uint8."""
        return self.decode_probabilities(self.softmax(raw))

    def decode_probabilities(self, probability: Tensor) -> tuple[Tensor, Tensor]:
        """As `decode`, from probabilities."""
        index = probability.max(dim=1)[1]
        return index.to(torch.uint8), self.quantise(self.sure(probability.float()))

    def probabilities(self, raw: Tensor) -> Tensor:
        """(B, K, H, W) uint8 probabilities of logits."""
        return self._plain.probabilities(raw)

    def quantise(self, probability: Tensor) -> Tensor:
        """Probabilities in [0, 1] as uint8 steps."""
        return self._plain.quantise(probability)

    def check(self, confidence: NDArray[np.uint8]) -> None:
        """Raise ModelError where `decode` met logits that were not finite."""
        self._plain.check(confidence)

    def scores(self) -> ChangeScores:
        """An empty accumulator of metrics; feed it what `decode` gives."""
        return ChangeScores(self.classes, segmentation.CONFIDENCE_STEPS)
