"""Losses of a quantity: (B, 2, H, W) raw output against (B, H, W) float32 in standard deviations, NaN where unknown.

Channel 0 is the mean of a normal distribution, channel 1 its standard deviation before softplus. Unknown pixels change
neither the value nor a gradient; a batch without a known one gives zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Float, Float32
from torch import Tensor
from torch.nn import functional as F

Raw = Float[Tensor, "batch 2 y x"]
Truth = Float32[Tensor, "batch y x"]

SMALLEST = 1e-6
"""Of a standard deviation: it is divided by."""


def crps(raw: Raw, target: Truth) -> Float32[Tensor, ""]:
    """Mean continuous ranked probability score: the pinball loss of all quantiles at once, zero for a sure truth.

    Gneiting and Raftery: Strictly Proper Scoring Rules, Prediction, and Estimation. JASA 102 (2007), eq. 21 ff.,
    https://doi.org/10.1198/016214506000001437.
    """
    z, sigma, known = _standard(raw, target)
    below = torch.erf(z / math.sqrt(2))  # 2 Φ(z) - 1
    density = torch.exp(-0.5 * z**2) / math.sqrt(2 * math.pi)
    return _mean(sigma * (z * below + 2 * density - 1 / math.sqrt(math.pi)), known)


def gaussian(raw: Raw, target: Truth) -> Float32[Tensor, ""]:
    """Mean negative logarithm of the density, less that of a standard deviation of `SMALLEST` at its mean."""
    z, sigma, known = _standard(raw, target)
    return _mean(0.5 * z**2 + torch.log(sigma / SMALLEST), known)


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"crps": crps, "gaussian": gaussian}


def spread(raw: Raw) -> Float32[Tensor, "batch y x"]:
    """(B, H, W) standard deviation of raw output, in standard deviations of the training data."""
    return F.softplus(raw[:, 1].float()).clamp_min(SMALLEST)


def _standard(raw: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    known = torch.isfinite(target)
    raw = torch.where(known.unsqueeze(1), raw.float(), 0.0)
    sigma = spread(raw)
    return (torch.where(known, target, 0.0) - raw[:, 0]) / sigma, sigma, known


def _mean(cost: Tensor, known: Tensor) -> Tensor:
    return torch.where(known, cost, 0.0).sum() / known.sum().clamp_min(1)
