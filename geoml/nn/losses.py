"""Losses of a segmentation: logits against class indices, ``IGNORE`` where unknown.

Ignored pixels change nothing: neither the value nor a gradient. A batch without a single labelled pixel gives zero.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor
from torch.nn import functional as F

from geoml.nn.metrics import IGNORE

Logits = Float[Tensor, "batch class y x"]
Target = Int64[Tensor, "batch y x"]
Weight = Float[Tensor, " class"] | None
Loss = Float32[Tensor, ""]


def cross_entropy(logits: Logits, target: Target, weight: Weight = None) -> Loss:
    """Mean of -log p over labelled pixels, each weighted by its class's ``weight``."""
    nll, w = _nll(logits, target, weight)
    return (nll * w).sum() / _above_zero(w.sum())


def focal(logits: Logits, target: Target, weight: Weight = None, gamma: float = 2.0) -> Loss:
    """Cross-entropy with easy pixels turned down by (1 - p)^gamma. Lin et al. 2017, https://arxiv.org/abs/1708.02002."""
    nll, w = _nll(logits, target, weight)
    # -expm1 keeps the digits of 1 - p where p is near one; the floor keeps the power's gradient finite at p = 1
    easy = (-torch.expm1(-nll)).clamp_min(1e-7) ** gamma
    return (easy * nll * w).sum() / _above_zero(w.sum())


def dice(logits: Logits, target: Target, weight: Weight = None) -> Loss:
    """One minus the soft Dice score over the whole batch, mean over the classes that the target holds.

    Milletari et al. 2016, https://arxiv.org/abs/1606.04797.
    """
    labelled = (target != IGNORE).unsqueeze(1)
    probability = torch.softmax(logits.float(), dim=1) * labelled
    truth = F.one_hot(_safe(target), logits.shape[1]).movedim(-1, 1) * labelled
    both = (probability * truth).sum((0, 2, 3))
    size = probability.sum((0, 2, 3)) + truth.sum((0, 2, 3))
    w = (truth.sum((0, 2, 3)) > 0).float() * (1.0 if weight is None else weight.to(logits.device))
    return (w * (1 - 2 * both / _above_zero(size))).sum() / _above_zero(w.sum())


LOSSES: dict[str, Callable[[Logits, Target, Weight], Loss]] = {
    "cross_entropy": cross_entropy,
    "focal": focal,
    "dice": dice,
}


def _nll(
    logits: Logits, target: Target, weight: Weight
) -> tuple[Float32[Tensor, "batch y x"], Float32[Tensor, "batch y x"]]:
    """-log p of the true class and its weight, both zero where the target is unknown."""
    labelled = (target != IGNORE).float()
    index = _safe(target)
    nll = F.cross_entropy(logits.float(), index, reduction="none") * labelled
    return nll, labelled if weight is None else labelled * weight.to(logits.device)[index]


def _safe(target: Target) -> Target:
    return target.masked_fill(target == IGNORE, 0)


def _above_zero(total: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """The divisor, or one where it is zero: nothing divided by nothing is nothing here."""
    return torch.where(total > 0, total, torch.ones_like(total))
