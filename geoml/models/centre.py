"""Objects as points: a heat map of centres for each class, and the distances from a centre to the sides of its box.

Zhou, Wang, Krähenbühl: Objects as Points. 2019, https://arxiv.org/abs/1904.07850; four distances in place of size and
offset as in FCOS (Tian et al. 2019, https://arxiv.org/abs/1904.01355) and TTFNet (Liu et al. 2020,
https://arxiv.org/abs/1909.00700). The features are those of a U-Net at the pixels of the image, so that objects of a
few pixels have a centre of their own; what the network sees around a centre bounds the size of what it finds.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from geoml.errors import InputError
from geoml.nn.encoders import initialise
from geoml.nn.objects.channels import SIDES, kinds
from geoml.nn.padding import padded
from geoml.nn.plain_unet import PlainUNet
from geoml.nn.unet import UNetConfig, unet

TASKS = ("detection",)
TINY = {"encoder": "plain", "depth": 3, "decoder_channels": (24, 16, 12), "width": 12}
PLAIN = "plain"
"""In place of the name of an encoder: `geoml.nn.plain_unet`."""
RARE, SIZE = -4.6, 2.0
"""What heat (a logit: one pixel in a hundred) and distances (a logarithm: seven pixels) are before training."""


@dataclass(frozen=True)
class Config(UNetConfig):
    """Arguments of `build`; ``classes`` are the channels of the output: a heat map for each class, and four distances.

    ``encoder`` may be ``plain``, see `geoml.nn.plain_unet`; ``width`` is that of the two heads.
    """

    width: int = 32

    def __post_init__(self) -> None:
        super().__post_init__()
        kinds(self.classes)
        if self.width < 1:
            raise InputError(f"width: {self.width}; expected one or more")


class CentreNet(nn.Module):
    """(B, bands, H, W) float to (B, K + 4, H, W): logits of centres, logarithms of distances in pixels; any H and W."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.net = _features(config)
        self.heat = _head(config.width, kinds(config.classes), RARE)
        self.sides = _head(config.width, SIDES, SIZE)
        self.stride = 2**config.depth
        initialise(self, config.encoder, config.encoder_weights)

    def forward(self, x: Float[Tensor, "batch band y x"]) -> Float[Tensor, "batch channel y x"]:
        return padded(self._forward, x, self.stride)

    def _forward(self, x: Tensor) -> Tensor:
        features = self.net(x)
        return torch.cat([self.heat(features), self.sides(features)], 1)


def _features(config: Config) -> nn.Module:
    if config.encoder == PLAIN:
        return PlainUNet(config.bands, config.channels, config.width)
    net: nn.Module = unet(config, config.width)
    return net


def _head(width: int, channels: int, start: float) -> nn.Sequential:
    """Gives ``start`` before training, or near it."""
    last = nn.Conv2d(width, channels, 1)
    with torch.no_grad():
        last.weight.normal_(std=0.1)
        next(p for p in last.parameters() if p.ndim == 1).fill_(start)
    middle = nn.Conv2d(width, width, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(middle.weight, nonlinearity="relu")
    return nn.Sequential(middle, nn.BatchNorm2d(width), nn.ReLU(inplace=True), last)


def build(config: Config) -> CentreNet:
    """The network, randomly initialised unless ``encoder_weights`` says otherwise. Raises InputError."""
    return CentreNet(config)
