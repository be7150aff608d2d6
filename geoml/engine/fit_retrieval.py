"""Features that know a place again in another year: contrastive training on pairs of one place in two years.

After EarthLoc (Berton et al. 2024, https://arxiv.org/abs/2403.06758): both pictures of a pair show the same ground in
different years, one of them turned freely; the other pairs of the batch are the negatives (InfoNCE, van den Oord et
al. 2018, https://arxiv.org/abs/1807.03748). Pairs whose ground overlaps are neither, and are left out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.ndimage
import timm
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from geoml.errors import InputError, ModelError
from geoml.nn.weights import efficientnet_lite0

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
TEMPERATURE = 0.07
WIDTH = 256


@dataclass(frozen=True)
class Fit:
    """What changes the result. ``side`` pixels of a picture; ``stages`` of the backbone that learn, from the last."""

    side: int = 128
    steps: int = 150
    batch: int = 24
    rate: float = 3e-4
    stages: int = 2
    seed: int = 0


class Embedder(nn.Module):
    """(B, 3, H, W) RGB in 0..1 to (B, D) unit vectors: EfficientNet-Lite0's last two scales, pooled by generalised
    means (Radenovic et al. 2018, https://arxiv.org/abs/1711.02512); with ``project``, a linear map to ``WIDTH``."""

    mean: Tensor
    std: Tensor

    def __init__(self, *, project: bool, pretrained: bool = True) -> None:
        super().__init__()
        encoder: Any = timm.create_model("tf_efficientnet_lite0", features_only=True, out_indices=(3, 4))
        self.encoder = encoder
        if pretrained:
            efficientnet_lite0(encoder)
        width = sum(encoder.feature_info.channels())
        self.project = nn.Linear(width, WIDTH) if project else nn.Identity()
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        scales = self.encoder((x - self.mean) / self.std)
        pooled = [F.normalize(f.clamp_min(1e-6).pow(3).mean((2, 3)).pow(1 / 3), dim=1) for f in scales]
        return F.normalize(self.project(torch.cat(pooled, 1)), dim=1)


def crop(image: NDArray[np.uint8], y: float, x: float, side: int, angle: float = 0.0) -> NDArray[np.float32]:
    """(3, side, side) in 0..1 around (y, x) of an image (H, W, 3), turned by ``angle`` radians; edges are mirrored."""
    t = np.arange(side) - (side - 1) / 2
    rows, columns = np.meshgrid(t, t, indexing="ij")
    c, s = math.cos(angle), math.sin(angle)
    places = np.stack([y + c * rows + s * columns - 0.5, x - s * rows + c * columns - 0.5])
    piece, corner = _around(image, places)
    bands = [
        scipy.ndimage.map_coordinates(piece[..., k].astype(np.float32), places - corner, order=1, mode="mirror")
        for k in range(3)
    ]
    return np.asarray(np.stack(bands) / 255, np.float32)


def _around(image: NDArray[np.uint8], places: NDArray[np.float64]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The part of an image that holds (2, H, W) places, and its first (row, column) as (2, 1, 1).

    The whole image where they leave it, so that its edges stay the mirrors.
    """
    size = np.array(image.shape[:2])
    low, high = np.floor(places.min((1, 2))).astype(int), np.ceil(places.max((1, 2))).astype(int) + 1
    if (low < 0).any() or (high > size).any():
        low, high = np.zeros(2, int), size
    return image[low[0] : high[0], low[1] : high[1]], low.reshape(2, 1, 1)


def info_nce(first: Tensor, second: Tensor, near: Tensor) -> Tensor:
    """The loss of (B, D) unit vectors whose rows belong together; ``near`` (B, B) True where ground is shared."""
    score = first @ second.T / TEMPERATURE
    own = torch.eye(len(score), dtype=torch.bool, device=score.device)
    score = score.masked_fill(near & ~own, -math.inf)
    goal = torch.arange(len(score), device=score.device)
    return (F.cross_entropy(score, goal) + F.cross_entropy(score.T, goal)) / 2


def fit(
    years: Sequence[NDArray[np.uint8]], area: tuple[float, float, float, float], config: Fit | None = None
) -> tuple[Embedder, list[float]]:
    """An embedder trained on images (H, W, 3) of one grid, one for each year, and its loss at each step.

    Pictures lie in ``area`` (y0, x0, y1, x1) of pixels, their edges too. Raises InputError for fewer than two years,
    grids that differ or an area too small; ModelError when the loss is not finite; MissingExtra without weights.
    """
    config = config or Fit()
    if len(years) < 2 or len({y.shape for y in years}) != 1:
        raise InputError("years: expected two or more images of one shape")
    half = config.side / math.sqrt(2)
    low, high = np.array(area[:2]) + half, np.array(area[2:]) - half
    if (high <= low).any():
        raise InputError(f"area: {area} is too small for pictures of {config.side} pixels in any heading")
    torch.manual_seed(config.seed)
    rng = np.random.default_rng(config.seed)
    model = Embedder(project=True).to(memory_format=torch.channels_last)
    learned = _learned(model, config.stages)
    optimizer = torch.optim.AdamW(learned, config.rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.steps)
    losses = []
    model.eval()  # statistics of normalisation stay those of ImageNet: batches are small
    for _ in range(config.steps):
        places = rng.uniform(low, high, (config.batch, 2))
        sides = [
            np.stack([_seen(years, place, which, config, rng) for place, which in zip(places, names, strict=True)])
            for names in _two(len(years), config.batch, rng)
        ]
        apart = np.abs(places[:, None] - places[None]).max(-1)
        near = torch.from_numpy(apart < config.side / 2)
        both = model(_tensor(np.concatenate(sides)))
        loss = info_nce(both[: config.batch], both[config.batch :], near)
        if not torch.isfinite(loss):
            raise ModelError("retrieval: the loss is not finite; lower the rate")
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        losses.append(float(loss.detach()))
    return model, losses


def embed(model: Embedder, pictures: NDArray[np.float32], batch: int = 32) -> NDArray[np.float32]:
    """(N, D) unit vectors of (N, 3, H, W) pictures."""
    with torch.inference_mode():
        parts = [model(_tensor(pictures[k : k + batch])).numpy() for k in range(0, len(pictures), batch)]
    return np.concatenate(parts)


def turned(model: Embedder, pictures: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N, 4, D) of the pictures turned by quarters."""
    return np.stack([embed(model, np.ascontiguousarray(np.rot90(pictures, k, (2, 3)))) for k in range(4)], 1)


def _tensor(pictures: NDArray[np.float32]) -> Tensor:
    """Channels last, in which depthwise convolutions take about two thirds of the time."""
    return torch.from_numpy(pictures).contiguous(memory_format=torch.channels_last)


def _two(years: int, count: int, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Two different years for each pair."""
    first = rng.integers(0, years, count)
    return first, (first + rng.integers(1, years, count)) % years


def _seen(
    years: Sequence[NDArray[np.uint8]], place: NDArray[np.float64], which: int, config: Fit, rng: np.random.Generator
) -> NDArray[np.float32]:
    """One year at a place, in any heading, shifted a little, with another gain and brightness in each band."""
    y, x = place + rng.uniform(-0.06, 0.06, 2) * config.side
    found = crop(years[which], y, x, config.side, float(rng.uniform(0, math.tau)))
    gain, bias = rng.uniform(0.8, 1.25, (3, 1, 1)), rng.uniform(-0.1, 0.1, (3, 1, 1))
    return np.asarray(np.clip(found * gain + bias, 0, 1), np.float32)


def _learned(model: Embedder, stages: int) -> list[nn.Parameter]:
    """Parameters of the projection and of the last stages; the others are frozen."""
    for parameter in model.encoder.parameters():
        parameter.requires_grad_(False)
    encoder: Any = model.encoder
    blocks = list(encoder.blocks)[-stages:] if stages else []
    for block in blocks:
        for parameter in block.parameters():
            parameter.requires_grad_(True)
    return [p for p in model.parameters() if p.requires_grad]
