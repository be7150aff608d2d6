"""Dynamic World: a small fully convolutional network of depthwise convolutions at half the resolution.

Brown et al.: Dynamic World, Near real-time global 10 m land use land cover mapping. Scientific Data 9, 251, 2022,
https://doi.org/10.1038/s41597-022-01307-4. As in the published model: reflectance in 1/10000 is squeezed by a logarithm
and a sigmoid inside the network, and the last features are unit vectors.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from geoml.errors import InputError
from geoml.nn.padding import padded

TASKS = ("segmentation",)
TINY = {"widths": (8, 6, 8, 12), "log_scale": (0.005,)}


@dataclass(frozen=True)
class Config:
    """Arguments of `build`: ``log_shift`` and ``log_scale`` hold one number for each band, or one for all."""

    bands: int = 9
    classes: int = 9
    widths: tuple[int, int, int, int] = (64, 48, 96, 144)
    log_shift: tuple[float, ...] = (0.0,)
    log_scale: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        if self.bands < 1 or self.classes < 1 or min(self.widths) < 1:
            raise InputError(f"dynamicworld: bands {self.bands}, classes {self.classes}; expected at least one of each")
        for name, values in (("log_shift", self.log_shift), ("log_scale", self.log_scale)):
            if len(values) not in (1, self.bands):
                raise InputError(f"{name}: {len(values)} numbers; expected one, or one for each of {self.bands} bands")
        if min(self.log_scale) <= 0:
            raise InputError("log_scale: expected numbers above zero")


class Unit(nn.Module):
    """Convolution (1 x 1, 3 x 3, or depthwise 3 x 3), batch norm, Mish."""

    def __init__(self, before: int, after: int, size: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(before, after, size, padding=size // 2, groups=groups)
        self.norm = nn.BatchNorm2d(after, eps=1e-3)

    def forward(self, x: Float[Tensor, "batch before y x"]) -> Float[Tensor, "batch after y x"]:
        return F.mish(self.norm(self.conv(x)))


class ResidualBlock(nn.Module):
    """Three times 1 x 1 and depthwise 3 x 3, beside a 1 x 1 skip; the two are added."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        widths = (before, after, after, after)
        pairs = [(Unit(a, b), Unit(b, b, 3, groups=b)) for a, b in pairwise(widths)]
        self.main = nn.Sequential(*[unit for pair in pairs for unit in pair])
        self.skip = Unit(before, after)

    def forward(self, x: Float[Tensor, "batch before y x"]) -> Float[Tensor, "batch after y x"]:
        y: Tensor = self.main(x) + self.skip(x)
        return y


class DynamicWorld(nn.Module):
    """Logits of reflectance in 1/10000 for any height and width."""

    stride = 2

    def __init__(self, config: Config) -> None:
        super().__init__()
        first, side, fine, deep = config.widths
        self.shift: Tensor
        self.scale: Tensor
        # of the config, so not part of the weights
        self.register_buffer("shift", torch.tensor(config.log_shift).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("scale", torch.tensor(config.log_scale).view(1, -1, 1, 1), persistent=False)
        self.stem = Unit(config.bands, first, 3)
        self.main = nn.Sequential(ResidualBlock(first, fine), ResidualBlock(fine, deep))
        self.side = nn.Sequential(Unit(first, side), Unit(side, side, 3, groups=side))
        self.join = ResidualBlock(deep + side, deep)
        self.head = nn.Conv2d(deep, config.classes, 1)

    def forward(self, x: Float[Tensor, "batch channel y x"]) -> Float[Tensor, "batch class y x"]:
        return padded(self._forward, x, self.stride)

    def _forward(self, x: Float[Tensor, "batch channel y x"]) -> Float[Tensor, "batch class y x"]:
        return self.features(self.squeeze(x))

    def squeeze(self, x: Float[Tensor, "batch channel y x"]) -> Float[Tensor, "batch channel y x"]:
        """Reflectance in 1/10000 to (0, 1): logarithm, per-band shift and scale, sigmoid. Below zero counts as zero."""
        log = torch.log1p(x.clamp_min(0) * 0.005)
        return torch.sigmoid(5 * (log - self.shift) / self.scale - 1)

    def features(self, x: Float[Tensor, "batch channel y x"]) -> Float[Tensor, "batch class y x"]:
        """Squeezed values to logits; height and width are even."""
        y = halved(self.stem(x))
        y = self.join(torch.cat([self.main(y), self.side(y)], dim=1))
        y = F.interpolate(y, size=x.shape[-2:], mode="bilinear")
        logits: Tensor = self.head(F.normalize(y, dim=1))
        return logits


def halved(x: Float[Tensor, "batch channel y x"]) -> Float[Tensor, "batch channel y//2 x//2"]:
    """An image at half the size: bilinear with antialiasing, height and width even.

    The same as ``F.interpolate(antialias=True)``, ten times faster in channels_last and at home in bf16.
    """
    tap = torch.tensor([0.125, 0.375, 0.375, 0.125], dtype=x.dtype, device=x.device)
    kernel = torch.outer(tap, tap).expand(x.shape[1], 1, 4, 4)
    whole = F.conv2d(torch.ones_like(x[:1, :1]), kernel[:1], stride=2, padding=1)  # below one at the border
    return F.conv2d(x, kernel, stride=2, padding=1, groups=x.shape[1]) / whole


build = DynamicWorld
