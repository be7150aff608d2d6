"""Quantiles that never cross, and the loss that learns them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import softplus


def rising(raw: Float[Tensor, "batch lead level y x"]) -> Float[Tensor, "batch lead level y x"]:
    """Quantiles of raw output: the middle one as it is, and away from it the sum of softplus."""
    half = raw.shape[2] // 2
    middle = raw[:, :, half : half + 1]
    down = middle - softplus(raw[:, :, :half].flip(2)).cumsum(2).flip(2)
    up = middle + softplus(raw[:, :, half + 1 :]).cumsum(2)
    return torch.cat([down, middle, up], 2)


def pinball_loss(
    found: Float[Tensor, "batch output y x"], truth: Float[Tensor, "batch lead y x"], levels: Sequence[float]
) -> Float[Tensor, ""]:
    """Mean pinball loss times two over what is known: with many levels it is the CRPS. NaN in ``truth`` is not known,
    and where nothing is, the loss is 0.

    R. Koenker and G. Bassett (1978): Regression Quantiles, Econometrica 46(1).
    """
    known: Bool[Tensor, "batch lead y x"] = torch.isfinite(truth)
    at = torch.tensor(levels, dtype=found.dtype, device=found.device)[None, None, :, None, None]
    error = torch.where(known, truth, 0.0)[:, :, None] - torch.unflatten(found, 1, (truth.shape[1], len(levels)))
    loss = 2 * torch.maximum(at * error, (at - 1) * error) * known[:, :, None]
    total = known.sum() * len(levels)
    return loss.sum() / total.clamp(min=1)
