"""SegNet: pooling stores the position of each maximum, and the decoder restores it there.

Badrinarayanan, Kendall, Cipolla: SegNet: A Deep Convolutional Encoder-Decoder Architecture for Image Segmentation. IEEE
TPAMI 39 (12), 2017, https://arxiv.org/abs/1511.00561. The default is the paper's, with the 13 convolutions of VGG-16;
the decoder mirrors the encoder.
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
from geoml.nn.weights.transfer import start_from

TASKS = ("segmentation", "change")
TINY = {"channels": (8, 16), "convolutions": (1, 2)}


@dataclass(frozen=True)
class Config:
    """Arguments of `build`: channels and number of convolutions of each stage, fine to coarse."""

    bands: int
    classes: int
    channels: tuple[int, ...] = (64, 128, 256, 512, 512)
    convolutions: tuple[int, ...] = (2, 2, 3, 3, 3)
    encoder_weights: str | None = None

    def __post_init__(self) -> None:
        if self.bands < 1 or self.classes < 1:
            raise InputError(f"segnet: bands {self.bands}, classes {self.classes}; expected at least one of each")
        if not self.channels or len(self.channels) != len(self.convolutions):
            raise InputError(
                f"segnet: channels {self.channels}, convolutions {self.convolutions}; expected equal lengths"
            )
        if min(self.channels + self.convolutions) < 1:
            raise InputError("segnet: channels and convolutions must be above zero")


class SegNet(nn.Module):
    """Logits for any height and width, He-initialised. The encoder keeps fp32 under autocast."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        widths = (config.bands, *config.channels)
        # the mirror has as many convolutions; the last of them narrows to the next finer stage
        finer = (config.channels[0], *config.channels)
        stages = range(len(config.channels))
        self.encoder = nn.ModuleList(
            _stage(widths[k], widths[k + 1], widths[k + 1], config.convolutions[k]) for k in stages
        )
        self.decoder = nn.ModuleList(
            _stage(widths[k + 1], widths[k + 1], finer[k], config.convolutions[k]) for k in stages
        )
        self.head = nn.Conv2d(config.channels[0], config.classes, 3, padding=1)
        self.stride = 2 ** len(config.channels)
        for part in self.modules():
            if isinstance(part, nn.Conv2d):  # as the paper: He et al. 2015
                nn.init.kaiming_normal_(part.weight, nonlinearity="relu")
        if config.encoder_weights is not None:
            start_from(self, config.encoder_weights)

    def forward(self, x: Float[Tensor, "batch channel y x"]) -> Float[Tensor, "batch class y x"]:
        return padded(self._forward, x, self.stride)

    def _forward(self, x: Float[Tensor, "batch channel y x"]) -> Float[Tensor, "batch class y x"]:
        places = []
        # which of four is the largest hangs on the last digits: in bf16 the decoder would put much of it elsewhere
        with torch.autocast(x.device.type, enabled=False):
            x = x.float()
            for stage in self.encoder:
                x, place = F.max_pool2d(stage(x), 2, return_indices=True)
                places.append(place)
        for stage, place in zip(reversed(self.decoder), reversed(places), strict=True):
            x = stage(F.max_unpool2d(x, place, [2, 2]))
        logits: Tensor = self.head(x)
        return logits


def _stage(before: int, inside: int, after: int, count: int) -> nn.Sequential:
    """``count`` times convolution, batch norm, ReLU: the first takes ``before`` channels, the last gives ``after``."""
    widths = [before, *[inside] * (count - 1), after]
    layers: list[nn.Module] = []
    for here, there in pairwise(widths):
        layers += [nn.Conv2d(here, there, 3, padding=1, bias=False), nn.BatchNorm2d(there), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


build = SegNet
