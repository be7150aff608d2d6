"""Photometric augmentation: the same ground as another year may show it, made on batches.

Light, white balance and sensor (gain, bias, gamma, a mix of bands, less colour, noise, blur), and what people and
seasons change: tones that swap their order, brightness that drifts over the picture, fields that are something else
(a rectangle of another picture, after Yun et al. 2019, https://arxiv.org/abs/1905.04899).
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

LUMA = (0.299, 0.587, 0.114)
"""ITU-R BT.601."""


def augment(
    x: Float[Tensor, "batch 3 height width"], rng: torch.Generator, strength: float = 1.0
) -> Float[Tensor, "batch 3 height width"]:
    """RGB in 0..1, every picture changed on its own; ``strength`` 0 leaves it as it is."""
    count, _, height, width = x.shape

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(shape or (count, 1, 1, 1), generator=rng)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=rng)

    x = _cut_mix(x, rng, 0.5 * strength)
    mix = torch.eye(3) + 0.15 * strength * normal(count, 3, 3)
    middle = x.mean((2, 3), keepdim=True)
    x = middle + torch.einsum("bij,bjhw->bihw", mix, x - middle)
    grey = (x * torch.tensor(LUMA).view(1, 3, 1, 1)).sum(1, keepdim=True)
    less = strength * (uniform(0.0, 1.0) < 0.35) * uniform(0.0, 1.0)
    x = x + less * (grey - x)
    x = x + 0.07 * strength * normal(count, 3, 1, 1).abs() * torch.sin(
        math.tau * (uniform(0.3, 1.5, count, 3, 1, 1) * x + uniform(0.0, 1.0, count, 3, 1, 1))
    )
    drift = 0.08 * strength * normal(count, 3, 4, 4)
    x = x + F.interpolate(drift, (height, width), mode="bicubic")
    x = x.clamp(0, 1) ** torch.exp(0.3 * strength * normal(count, 1, 1, 1))
    x = x * torch.exp(0.2 * strength * normal(count, 3, 1, 1)) + 0.08 * strength * normal(count, 3, 1, 1)
    soft = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1)
    x = x + strength * (uniform(0.0, 1.0) < 0.3) * (soft - x)
    x = x + 0.02 * strength * uniform(0.0, 1.0) * normal(*x.shape)
    return x.clamp(0, 1)


def _cut_mix(x: Tensor, rng: torch.Generator, share: float) -> Tensor:
    """A rectangle of another picture of the batch, in ``share`` of the pictures, up to 0.45 of the side."""
    count, _, height, width = x.shape
    size = 0.15 + 0.3 * torch.rand((count, 2), generator=rng)
    start = torch.rand((count, 2), generator=rng) * (1 - size)
    rows, columns = torch.arange(height) / height, torch.arange(width) / width
    inside = ((rows >= start[:, :1]) & (rows < (start + size)[:, :1]))[:, None, :, None] & (
        (columns >= start[:, 1:]) & (columns < (start + size)[:, 1:])
    )[:, None, None, :]
    inside &= torch.rand((count, 1, 1, 1), generator=rng) < share
    other = x[torch.randperm(count, generator=rng)]
    return torch.where(inside, other, x)
