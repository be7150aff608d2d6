"""Quantiles that never cross, and the loss that learns them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import softplus

from geoml.errors import InputError

LEVELS = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)
"""The median, and the ends of the intervals of 50, 80 and 90 %."""


def check_levels(levels: Sequence[float]) -> None:
    """Raises InputError for levels that do not rise between 0 and 1, have no 0.5, or are not symmetric about it."""
    rising = all(a < b for a, b in zip(levels, levels[1:], strict=False))
    mirrored = all(abs(a + b - 1) < 1e-9 for a, b in zip(levels, reversed(levels), strict=True))
    if not (levels and rising and mirrored and len(levels) % 2 and 0 < levels[0] and levels[-1] < 1):
        raise InputError(f"levels: {list(levels)}; expected some that rise from above 0 to below 1, symmetric about 0.5")


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
    error = torch.where(known, truth, 0.0)[:, :, None] - found.unflatten(1, (truth.shape[1], len(levels)))
    loss = 2 * torch.maximum(at * error, (at - 1) * error) * known[:, :, None]
    total = known.sum() * len(levels)
    return loss.sum() / total.clamp(min=1)
