"""Speckle of radar turned down over space, in power units.

Speckle multiplies: the more power, the more noise. So means are taken of power, never of decibels, whose mean is of
another quantity and too low.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

FLOOR = 1e-12
"""Of power (-120 dB), so that its logarithm is finite."""


def power(decibels: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Linear power of decibels."""
    return torch.pow(10, decibels / 10)


def decibels(power: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Decibels of linear power."""
    return 10 * torch.log10(power.clamp(min=FLOOR))


def boxcar(image: Float[Tensor, "batch channel y x"], size: int) -> Float[Tensor, "batch channel y x"]:
    """The mean of the ``size`` x ``size`` pixels around each, ``size`` odd; beyond the edges these go on."""
    half = size // 2
    return F.avg_pool2d(F.pad(image, (half,) * 4, mode="replicate"), size, stride=1)


def lee(image: Float[Tensor, "batch channel y x"], size: int, looks: float) -> Float[Tensor, "batch channel y x"]:
    """Power: the mean of the window where speckle explains what is seen in it, the pixel itself where it does not.

    The pixel weighs as much as the variance of the window is more than that of speckle, mean² / ``looks`` (equivalent
    number of them), so edges stay and flat ground becomes flat. Lee 1980, https://doi.org/10.1109/TPAMI.1980.4766994.
    """
    mean = boxcar(image, size)
    spread = (boxcar(image.square(), size) - mean.square()).clamp(min=0)
    signal = (spread - mean.square() / looks).clamp(min=0) / (1 + 1 / looks)
    weight = torch.where(spread > 0, signal / spread.clamp(min=FLOOR**2), torch.zeros_like(spread))
    return mean + weight * (image - mean)
