"""Another network behind a speckle filter: radar bands in dB are averaged as power where the ground is homogeneous.

Lee: Digital image enhancement and noise filtering by use of local statistics. IEEE PAMI 2 (2), 1980,
https://doi.org/10.1109/TPAMI.1980.4766994. The filter is part of the network, so that training and prediction see the
same, a block sees its neighbours as far as the window reaches, and the package alone states that there is one. A pixel
without data counts as the mean of its band.

Speckle is multiplicative: the more power, the more noise. Means are therefore taken of power, never of decibels, whose
mean is biased low.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from geoml import models
from geoml.errors import InputError
from geoml.nn.padding import padded

TASKS = ("segmentation",)
TINY = {"architecture": "unet", "config": {"encoder": "resnet18", "depth": 3, "decoder_channels": (16, 16, 8)}}
FLOOR = 1e-12
"""Of power (-120 dB), so that its logarithm is finite."""


@dataclass(frozen=True)
class Config:
    """Arguments of `build`: ``architecture`` and ``config`` of the network behind the filter; ``size`` of its window,
    odd; ``looks``, the equivalent number of looks of the images (4.4 for GRD of Sentinel-1 in IW mode)."""

    bands: int
    classes: int
    architecture: str
    config: dict[str, object] = field(default_factory=dict)
    size: int = 7
    looks: float = 4.4

    def __post_init__(self) -> None:
        if min(self.bands, self.classes) < 1:
            raise InputError(f"bands {self.bands}, classes {self.classes}; expected at least one of each")
        if self.size < 3 or self.size % 2 == 0:
            raise InputError(f"size: {self.size}; expected an odd number from 3 on")
        if self.looks <= 0:
            raise InputError(f"looks: {self.looks}; expected a number above zero")
        if "segmentation" not in models.find(self.architecture).TASKS or self.architecture == "despeckled":
            raise InputError(f"architecture: {self.architecture!r}; expected another model of segmentation")


class Despeckled(nn.Module):
    """Logits for any height and width, of standardised dB that `describe` told about."""

    mean: Tensor
    std: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        fixed = models.fixed_by_data(config.architecture, config.bands, 1, config.classes)
        self.net = models.build(config.architecture, {**config.config, **fixed})
        self.stride = int(getattr(self.net, "stride", 1))
        self.size, self.looks = config.size, config.looks
        self.register_buffer("mean", torch.zeros(config.bands))
        self.register_buffer("std", torch.ones(config.bands))

    def describe(self, mean: Sequence[float], std: Sequence[float], wavelengths: Sequence[float | None]) -> None:
        """How the input was standardised: mean and std of each band, dB."""
        self.mean.copy_(torch.tensor(mean))
        self.std.copy_(torch.tensor(std))

    def forward(self, x: Float[Tensor, "batch channel y x"]) -> Float[Tensor, "batch class y x"]:
        return padded(self._behind, x, self.stride)  # before the filter, as back ends do for programs of fixed steps

    def _behind(self, x: Tensor) -> Tensor:
        mean, std = self.mean.view(-1, 1, 1), self.std.view(-1, 1, 1)
        smooth = decibels(lee(power(x.float() * std + mean), self.size, self.looks))
        logits: Tensor = self.net(((smooth - mean) / std).to(x.dtype))
        return logits


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


build = Despeckled
