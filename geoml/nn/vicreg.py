"""Self-supervision by VICReg: two views of one thing shall look alike, and things shall not all look the same.

Bardes, Ponce, LeCun: VICReg: Variance-Invariance-Covariance Regularization for Self-Supervised Learning. 2022,
https://arxiv.org/abs/2105.04906, equations 1 to 6.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

INVARIANCE, VARIANCE, COVARIANCE = 25.0, 25.0, 1.0
"""Weights of the parts, section 4.2 of the paper."""
GROUP = 64
"""Things among which one is looked for."""


def vicreg(one: Float[Tensor, "row width"], two: Float[Tensor, "row width"]) -> Float[Tensor, ""]:
    """The loss of two views of the same rows, two of them at least."""
    total = INVARIANCE * nn.functional.mse_loss(one, two)
    for view in (one, two):
        centred = view - view.mean(0)
        spread = (centred.var(0) + 1e-4).sqrt()
        total = total + VARIANCE * nn.functional.relu(1 - spread).mean() / 2
        covariance = centred.T @ centred / (len(view) - 1)
        apart = covariance.square().sum() - covariance.diagonal().square().sum()
        total = total + COVARIANCE * apart / view.shape[1]
    return total


class Projector(nn.Sequential):
    """What learns with an encoder and is thrown away: three layers, section 4.2."""

    def __init__(self, width: int, wide: int) -> None:
        def layer(first: int) -> list[nn.Module]:
            return [nn.Linear(first, wide), nn.BatchNorm1d(wide), nn.ReLU()]

        super().__init__(*layer(width), *layer(wide), nn.Linear(wide, wide))


class RetrievalScores:
    """How often the other view of a row is the most alike among `GROUP` rows, by cosine; chance is one in `GROUP`."""

    key: ClassVar[str] = "retrieval"
    larger_is_better: ClassVar[bool] = True

    def __init__(self) -> None:
        self.rows = self.hits = 0

    def update(self, one: Float[Tensor, "row width"], two: Float[Tensor, "row width"]) -> None:
        """Count rows in their order, in whole groups; what is left over is not counted. Of equals the first is it."""
        for start in range(0, len(one) - GROUP + 1, GROUP):
            a, b = (nn.functional.normalize(v[start : start + GROUP].double(), dim=1) for v in (one, two))
            found = (a @ b.T).argmax(1)
            self.hits += int((found == torch.arange(GROUP)).sum())
            self.rows += GROUP

    def merge(self, other: RetrievalScores) -> None:
        """Add the counts of another part."""
        self.rows += other.rows
        self.hits += other.hits

    def compute(self) -> dict[str, Any]:
        """``retrieval`` from 0 to 1, None without a whole group, and ``rows``."""
        return {"rows": self.rows, "retrieval": self.hits / self.rows if self.rows else None, "chance": 1 / GROUP}
