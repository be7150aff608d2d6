"""The receptive field of a network: its stride, and the radius around a pixel beyond which nothing changes its output.

Chips of a large scene are cut on a lattice of multiples of the stride and keep only what lies a radius inside their
edge; then they give what one forward over the whole scene gives. Both numbers are measured on the weights at hand,
because the receptive field that matters is usually much smaller than the one on paper.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from geoml.nn.fusion import fuse_batch_norms

SMALL = 64
"""Pixels of a scene on which batch normalisations are found."""
TOLERANCE = 1e-5
"""Of the spread (standard deviation) of the output: a smaller difference is none."""
NOISE = 3e-5
"""Of the spread: how much float32 sums in another order may differ; more, far from a cut, is not noise."""


@dataclass(frozen=True, slots=True)
class ReceptiveField:
    """``radius`` in pixels, None if the output depends on the whole chip; chips start at multiples of ``stride``."""

    radius: int | None
    stride: int


@torch.no_grad()
def measure(module: nn.Module, bands: int, stride: int, *, sizes: tuple[int, ...] = (256, 512, 1024)) -> ReceptiveField:
    """Measure a module in eval mode that maps (1, bands, H, W) normalised values to logits of the same H and W.

    ``stride`` is what the architecture says; a smaller power of two is taken where shifts show that it is enough.
    Larger scenes are tried until the effect of a chip's edge ends well inside it. A module that says its ``radius`` is
    believed: one that sees each pixel alone (0) has an input of a scale of its own, at which noise would show nothing,
    and one of windows is slow. So is one that says ``whole_chip``: its answer in a pixel is chosen among those of the
    whole chip.
    """
    if getattr(module, "whole_chip", False):
        return ReceptiveField(None, stride)
    if isinstance(said := getattr(module, "radius", None), int):
        return ReceptiveField(said, stride if said else 1)
    device = next(module.parameters(), torch.zeros(())).device
    module = fuse_batch_norms(module, next(_scenes(bands, max(SMALL, 2 * stride), device)))  # as it is run
    for size in sizes:
        radius = _radius(module, bands, size, stride, device)
        if radius is not None:
            return ReceptiveField(radius, _stride(module, bands, radius, stride, device))
    return ReceptiveField(None, stride)


def _radius(module: nn.Module, bands: int, size: int, stride: int, device: torch.device) -> int | None:
    """Farthest pixel from a cut whose output differs from that of the whole scene; None when it reaches too far in.

    Each scene is cut at the top and left, and at the bottom and right; the other sides keep the scene's own border.
    """
    cut = size // 2 // stride * stride  # as wide as what is looked at, or a sparse far sight would go unseen
    worst = 0
    for scene in _scenes(bands, size, device):
        whole = module(scene)
        spread = _spread(whole)
        late = (module(scene[..., cut:, cut:]) - whole[..., cut:, cut:]).abs().amax((0, 1))
        end = size - cut - stride
        early = (module(scene[..., :end, :end]) - whole[..., :end, :end]).abs().amax((0, 1)).flip(0, 1)
        for moved in (late, early):
            inner = len(moved) * 7 // 8
            noise = float(moved[inner:, inner:].max())  # sums of another order, where nothing is left of the cut
            if not noise <= NOISE * spread:
                return None
            rows, cols = torch.nonzero(moved > max(TOLERANCE * spread, 2 * noise), as_tuple=True)
            far = int(torch.minimum(rows, cols).max()) + 1 if len(rows) else 0
            if far > inner:
                return None
            worst = max(worst, far)
    return worst


def _stride(module: nn.Module, bands: int, radius: int, stride: int, device: torch.device) -> int:
    """Smallest power of two by which a scene can move without another change of the output than the same move."""
    size = (2 * radius // stride + 4) * stride
    scene = next(_scenes(bands, size + stride, device))
    here = module(scene[..., :size, :size])
    limit = 2 * NOISE * _spread(here)
    inner = slice(radius + stride, size - radius - stride)
    while stride > 1 and stride % 2 == 0:  # a network that may move by one step may move by two
        step = stride // 2
        moved = module(scene[..., step : size + step, step : size + step])
        back = moved[..., inner.start - step : inner.stop - step, inner.start - step : inner.stop - step]
        if float((back - here[..., inner, inner]).abs().max()) > limit:
            break
        stride = step
    return stride


def _spread(raw: Tensor) -> float:
    """Standard deviation of raw output, but for what its first pixel has: between cells a detector says one thing."""
    raw = raw.float()
    said = raw[raw != raw[..., :1, :1]]
    return float(said.std() if said.numel() > 1 else raw.std())


def _scenes(bands: int, size: int, device: torch.device) -> Iterator[Tensor]:
    """Fine noise, and large patches of strong contrast: (1, bands, size, size), standard normal or wider."""
    random = torch.Generator().manual_seed(0)
    for cell, gain in ((1, 1.0), (32, 2.0)):
        coarse = torch.randn(1, bands, -(-size // cell), -(-size // cell), generator=random)
        scene = F.interpolate(coarse, scale_factor=cell, mode="nearest")[..., :size, :size] * gain
        yield (scene + 0.1 * torch.randn(1, bands, size, size, generator=random)).to(device)
