"""Losses of a segmentation: (B, K, H, W) logits against (B, H, W) int64 class indices, ``IGNORE`` where unknown.

Ignored pixels change nothing: neither the value nor a gradient. A batch without a single known pixel gives zero.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

IGNORE = 255
"""In a target: no label, or no data."""


def cross_entropy(logits: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Mean of -log p over known pixels, each weighted by its class's ``weight`` (K,)."""
    nll, w = _nll(logits, target, weight)
    return (nll * w).sum() / _above_zero(w.sum())


def focal(logits: Tensor, target: Tensor, weight: Tensor | None = None, gamma: float = 2.0) -> Tensor:
    """Cross-entropy with easy pixels turned down by (1 - p)^gamma. Lin et al. 2017, https://arxiv.org/abs/1708.02002."""
    nll, w = _nll(logits, target, weight)
    # -expm1 keeps the digits of 1 - p where p is near one; the floor keeps the power's gradient finite at p = 1
    easy = (-torch.expm1(-nll)).clamp_min(1e-7) ** gamma
    return (easy * nll * w).sum() / _above_zero(w.sum())


def dice(logits: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """One minus the soft Dice score over the whole batch, mean over the classes that the target holds.

    Milletari et al. 2016, https://arxiv.org/abs/1606.04797.
    """
    known = (target != IGNORE).unsqueeze(1)
    probability = torch.softmax(logits.float(), dim=1) * known
    truth = F.one_hot(_safe(target), logits.shape[1]).movedim(-1, 1) * known
    both = (probability * truth).sum((0, 2, 3))
    size = probability.sum((0, 2, 3)) + truth.sum((0, 2, 3))
    w = (truth.sum((0, 2, 3)) > 0).float() * (1.0 if weight is None else weight.to(logits.device))
    return (w * (1 - 2 * both / _above_zero(size))).sum() / _above_zero(w.sum())


LOSSES: dict[str, Callable[[Tensor, Tensor, Tensor | None], Tensor]] = {
    "cross_entropy": cross_entropy,
    "focal": focal,
    "dice": dice,
}


def _nll(logits: Tensor, target: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor]:
    """-log p of the true class and its weight, both (B, H, W) float32 and zero where the target is unknown."""
    known = (target != IGNORE).float()
    index = _safe(target)
    nll = F.cross_entropy(logits.float(), index, reduction="none") * known
    return nll, known if weight is None else known * weight.to(logits.device)[index]


def _safe(target: Tensor) -> Tensor:
    return target.masked_fill(target == IGNORE, 0)


def _above_zero(total: Tensor) -> Tensor:
    """The divisor, or one where it is zero: nothing divided by nothing is nothing here."""
    return torch.where(total > 0, total, torch.ones_like(total))
