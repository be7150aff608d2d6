"""A small U-Net of our own, with features at every scale from the pixels of the image on.

Encoders of libraries begin by a fourth of the resolution and are made for large data; this one learns small things from
little.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


class PlainUNet(nn.Module):
    """(B, bands, H, W) float to (B, width, H, W), H and W multiples of ``2 ** len(channels)``.

    ``channels`` are those of the decoder, coarse to fine; the encoder mirrors them.
    """

    def __init__(self, bands: int, channels: Sequence[int], width: int) -> None:
        super().__init__()
        fine = [*reversed(channels), channels[0]]
        self.encoder = nn.ModuleList(_stage(a, b) for a, b in zip([bands, *fine[:-1]], fine, strict=True))
        coarse = fine[::-1]
        self.decoder = nn.ModuleList(_stage(a + b, b) for a, b in pairwise(coarse))
        self.last = nn.Conv2d(fine[0], width, 1)
        for part in self.modules():
            if isinstance(part, nn.Conv2d):  # He et al. 2015; what shrinks from layer to layer hides the deep ones
                nn.init.kaiming_normal_(part.weight, nonlinearity="relu")

    def forward(self, x: Float[Tensor, "batch band y x"]) -> Float[Tensor, "batch width y x"]:
        kept: list[Tensor] = []
        for stage in self.encoder:
            x = stage(F.max_pool2d(x, 2) if kept else x)
            kept.append(x)
        for stage, skip in zip(self.decoder, kept[-2::-1], strict=True):
            x = stage(torch.cat([F.interpolate(x, scale_factor=2.0), skip], 1))
        found: Tensor = self.last(x)
        return found


def _stage(before: int, after: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (before, after):
        layers += [nn.Conv2d(channels, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)
