"""A weighted pyramid of features that goes up and down several times.

BiFPN with fast normalised fusion: Tan, Pang, Le: EfficientDet. CVPR 2020, https://arxiv.org/abs/1911.09070.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

SMALL = 1e-4


class BiFPN(nn.Module):
    """``layers`` times down and up over levels of ``before`` channels, each of half the size of the one before it;
    all have ``width`` channels then."""

    def __init__(self, before: Sequence[int], width: int, layers: int) -> None:
        super().__init__()
        self.enter = nn.ModuleList(
            nn.Sequential(nn.Conv2d(c, width, 1, bias=False), nn.BatchNorm2d(width)) for c in before
        )
        self.layers = nn.ModuleList(_Layer(len(before), width) for _ in range(layers))

    def forward(
        self, levels: list[Float[Tensor, "batch _channel _y _x"]]
    ) -> list[Float[Tensor, "batch _channel _y _x"]]:
        """Levels (B, channel, y, x), finest first, to levels of the same sizes."""
        levels = [enter(level) for enter, level in zip(self.enter, levels, strict=True)]
        for layer in self.layers:
            levels = layer(levels)
        return levels


class _Layer(nn.Module):
    """Once down and once up."""

    def __init__(self, levels: int, width: int) -> None:
        super().__init__()
        self.down = nn.ModuleList(_Fused(2, width) for _ in range(levels - 2))
        self.first = _Fused(2, width)
        self.up = nn.ModuleList(_Fused(3, width) for _ in range(levels - 2))
        self.last = _Fused(2, width)

    def forward(
        self, levels: list[Float[Tensor, "batch _channel _y _x"]]
    ) -> list[Float[Tensor, "batch _channel _y _x"]]:
        middle = [levels[-1]]
        for fuse, level in zip(self.down, levels[-2:0:-1], strict=True):
            middle.append(fuse([level, F.interpolate(middle[-1], scale_factor=2.0)]))
        out = [self.first([levels[0], F.interpolate(middle[-1], scale_factor=2.0)])]
        for fuse, level, inner in zip(self.up, levels[1:-1], middle[:0:-1], strict=True):
            out.append(fuse([level, inner, F.max_pool2d(out[-1], 2)]))
        return [*out, self.last([levels[-1], F.max_pool2d(out[-1], 2)])]


class _Fused(nn.Module):
    """A weighted mean, SiLU, and a convolution by channel and by pixel."""

    def __init__(self, parts: int, width: int) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.ones(parts))
        self.mix = separable(width, width)

    def forward(self, parts: list[Float[Tensor, "batch _channel _y _x"]]) -> Float[Tensor, "batch channel y x"]:
        weights = self.weights.relu()
        weights = weights / (weights.sum() + SMALL)
        mean = sum((w * part for w, part in zip(weights[1:], parts[1:], strict=True)), weights[0] * parts[0])
        mixed: Tensor = self.mix(F.silu(mean))
        return mixed


def separable(before: int, after: int, norm: bool = True) -> nn.Sequential:
    """A 3 x 3 convolution of each channel, then one over channels; with ``norm`` a batch normalisation."""
    by_channel = nn.Conv2d(before, before, 3, padding=1, groups=before, bias=False)
    over = nn.Conv2d(before, after, 1, bias=not norm)
    return nn.Sequential(by_channel, over, *([nn.BatchNorm2d(after)] if norm else []))
