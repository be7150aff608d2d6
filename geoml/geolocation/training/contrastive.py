"""Features that know a place again in another year: contrastive training on pairs of one place at two dates.

After EarthLoc (Berton et al. 2024, https://arxiv.org/abs/2403.06758): both pictures of a pair show the same ground at
different dates; the other pairs of the batch are the negatives (InfoNCE, van den Oord et al. 2018,
https://arxiv.org/abs/1807.03748). Pairs whose ground overlaps are neither, and are left out.

A search turns the reference by quarters, so the two pictures of a pair differ by an eighth of a turn at most: features
that must bear any turn cannot say what lies north of what. They are shifted as far as a place lies from the nearest
tile of a gallery, and each has another look (`geoml.geolocation.training.looks`), since two dates are too few to learn
what changes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import scipy.ndimage
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from geoml.backends.torch import choose
from geoml.data.chips import OwnRows
from geoml.engine.train.loop import Training, TrainingBatch, learn
from geoml.engine.train.team import OnEpoch
from geoml.errors import InputError, NothingFound
from geoml.geolocation.nn.backbones import IMAGENET_MEAN, IMAGENET_STD
from geoml.geolocation.nn.places import Places
from geoml.geolocation.training import looks
from geoml.geolocation.training.positives import Ground, near

TEMPERATURE = 0.07
WARM = 20
"""Steps until the rate is reached, or a tenth of them all."""
EPOCH = 50
"""Steps of an epoch; the last one may be shorter."""
TRIES = 100


@dataclass(frozen=True)
class Fit:
    """What changes the result. ``side`` pixels of a picture; ``stages`` of the backbone that learn, from the last;
    ``cells`` see `geoml.geolocation.nn.places`; ``turn`` radians and ``shift`` share of the side that two pictures of a
    pair differ by at most, either way; ``upright`` share of pairs that are not turned at all; ``zoom`` least and most
    ground a pixel; ``look`` strength of other looks."""

    side: int = 128
    steps: int = 600
    batch: int = 24
    rate: float = 4e-4
    stages: int = 3
    cells: int = 2
    turn: float = math.pi / 4
    upright: float = 0.3
    shift: float = 0.19
    zoom: tuple[float, float] = (0.8, 1.25)
    look: float = 1.0
    seed: int = 0


class Embedder(Places):
    """(B, 3, H, W) RGB in 0..1 to (B, D) unit vectors, see `geoml.geolocation.nn.places.Places`."""

    mean: Tensor
    std: Tensor

    def __init__(self, *, project: bool, pretrained: bool = True, cells: int = 1, kept: bool = False) -> None:
        super().__init__(project=project, pretrained=pretrained, cells=cells, kept=kept)
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward((x - self.mean) / self.std)


def crop(image: NDArray[np.uint8], y: float, x: float, side: int, angle: float = 0.0) -> NDArray[np.float32]:
    """(3, side, side) in 0..1 around (y, x) of an image (H, W, 3), turned by ``angle`` radians; edges are mirrored."""
    places = _places(y, x, side, angle)
    piece, corner = _around(image, places)
    bands = [
        scipy.ndimage.map_coordinates(piece[..., k].astype(np.float32), places - corner, order=1, mode="mirror")
        for k in range(3)
    ]
    return np.asarray(np.stack(bands) / 255, np.float32)


def _places(y: float, x: float, side: int, angle: float, zoom: float = 1.0) -> NDArray[np.float64]:
    """(2, side, side) rows and columns of the pixels of a picture around (y, x)."""
    t = (np.arange(side) - (side - 1) / 2) * zoom
    rows, columns = np.meshgrid(t, t, indexing="ij")
    c, s = math.cos(angle), math.sin(angle)
    return np.stack([y + c * rows + s * columns - 0.5, x - s * rows + c * columns - 0.5])


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
    years: Sequence[NDArray[np.uint8]], area: tuple[int, int, int, int], config: Fit | None = None
) -> tuple[Embedder, list[float]]:
    """An embedder trained on images (H, W, 3) of one grid, one for each year, and its loss at each step.

    Pictures lie in ``area`` (y0, x0, y1, x1) of pixels, their edges too. Raises InputError for fewer than two years,
    grids that differ or an area too small, and as `fit_grounds`.
    """
    if len(years) < 2 or len({y.shape for y in years}) != 1:
        raise InputError("years: expected two or more images of one shape")
    y0, x0, y1, x1 = area
    pictures = np.stack([year[y0:y1, x0:x1] for year in years])
    ground = Ground(pictures, np.ones(pictures.shape[:3], bool), tuple(frozenset({str(k)}) for k in range(len(years))))
    return fit_grounds([(1.0, [ground])], config)


def fit_grounds(
    sources: Sequence[tuple[float, Sequence[Ground]]],
    config: Fit | None = None,
    folder: Path | None = None,
    on_epoch: OnEpoch | None = None,
) -> tuple[Embedder, list[float]]:
    """An embedder trained on pairs of dates of grounds, and its loss at each step.

    A batch comes from one source, drawn by its share: pictures of another sensor would be told apart too easily. Goes
    on with the state in ``folder``. Raises InputError for a ground too small, NothingFound for one with no place known
    at two dates, MissingExtra without weights to start from, and as `geoml.engine.train.loop.learn`.
    """
    config = config or Fit()
    for _, grounds in sources:
        for ground in grounds:
            _bounds(ground, config, config.zoom[0])
    share = np.array([s for s, _ in sources], float)
    if not len(share) or not (share > 0).all():
        raise InputError(f"sources: shares {share.tolist()}; expected positive ones")
    torch.manual_seed(config.seed)
    pairs = _Pairs(sources, share / share.sum(), config)
    model = Embedder(project=True, cells=config.cells).to(memory_format=torch.channels_last)
    learned = _learned(model, config.stages)
    groups: list[dict[str, Any]] = [
        {"params": learned},
        {"params": list(model.project.parameters()), "lr": 2 * config.rate},
    ]
    training = Training(
        name="retrieval", lower="training.rate", net=_Both(model), batches=pairs.batches, loss=_loss,
        optimiser=partial(AdamW, groups, config.rate, weight_decay=0.01),
        schedule=partial(_schedule, config.steps), epochs=math.ceil(config.steps / EPOCH),
        device=choose(precision="fp32"), generators=(pairs.rng, pairs.draw),
        mode=nn.Module.eval,  # statistics of normalisation stay those of ImageNet: batches are small
    )  # fmt: skip
    losses = learn(training, folder, on_epoch).losses
    model.keep(Places(project=False, pretrained=True, cells=config.cells))
    return model, losses


class _Pairs:
    """The batches of every epoch, by random numbers that go on from one to the next."""

    def __init__(
        self, sources: Sequence[tuple[float, Sequence[Ground]]], share: NDArray[np.float64], config: Fit
    ) -> None:
        self.sources, self.share, self.config = sources, share, config
        self.rng, self.draw = np.random.default_rng(config.seed), torch.Generator().manual_seed(config.seed)

    def batches(self, epoch: int, rows: OwnRows) -> Iterator[TrainingBatch]:
        """Both pictures (B, 2, 3, S, S) of each pair, and (B, B) where ground is shared."""
        config = self.config
        for _ in range(epoch * EPOCH, min((epoch + 1) * EPOCH, config.steps)):
            grounds = self.sources[self.rng.choice(len(self.share), p=self.share)][1]
            sides, shared = _batch(grounds, config, self.rng)
            both = torch.stack([looks.vary(s, self.draw, config.look) for s in sides], 1)
            yield TrainingBatch((both[rows(len(both))],), shared[rows(len(both))], len(both))


class _Both(nn.Module):
    """(B, 2, 3, S, S) pictures to (B, 2, D) unit vectors."""

    def __init__(self, model: Embedder) -> None:
        super().__init__()
        self.model = model

    def forward(self, pictures: Tensor) -> Tensor:
        found: Tensor = self.model(_tensor(pictures.transpose(0, 1).flatten(0, 1)))
        return found.view(2, len(pictures), -1).transpose(0, 1)


def _loss(raw: Tensor, shared: Tensor) -> Tensor:
    return info_nce(raw[:, 0], raw[:, 1], shared)


def _schedule(steps: int, optimiser: Optimizer) -> LambdaLR:
    """A linear rise, times half a cosine to nothing."""
    warm = max(1, min(WARM, steps // 10))
    return LambdaLR(optimiser, lambda s: min((s + 1) / warm, 1) * (1 + math.cos(math.pi * min(s / steps, 1))) / 2)


def embed(model: nn.Module, pictures: NDArray[np.float32], batch: int = 32) -> NDArray[np.float32]:
    """(N, D) unit vectors of (N, 3, H, W) pictures."""
    with torch.inference_mode():
        parts = [
            model(_tensor(torch.from_numpy(pictures[k : k + batch]))).numpy() for k in range(0, len(pictures), batch)
        ]
    return np.concatenate(parts)


def turned(model: nn.Module, pictures: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N, 4, D) of the pictures turned by quarters."""
    return np.stack([embed(model, np.ascontiguousarray(np.rot90(pictures, k, (2, 3)))) for k in range(4)], 1)


def _tensor(pictures: Tensor) -> Tensor:
    """Channels last, in which depthwise convolutions take about two thirds of the time."""
    return pictures.contiguous(memory_format=torch.channels_last)


def _batch(grounds: Sequence[Ground], config: Fit, rng: np.random.Generator) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """Both pictures (B, 3, S, S) of each pair, and (B, B) where ground is shared."""
    count = config.batch
    few = len(grounds) < count
    which = rng.integers(0, len(grounds), count) if few else rng.permutation(len(grounds))[:count]
    sides: tuple[list[Tensor], list[Tensor]] = ([], [])
    places, wide = np.zeros((count, 2)), 0.0
    for k, ground in enumerate(grounds[g] for g in which.tolist()):
        (places[k], other), (a, b), zoom = _pair(ground, config, rng)
        heading, by = rng.uniform(0, math.tau), rng.uniform(-config.turn, config.turn)
        if rng.random() < config.upright:
            heading = by = 0.0
        sides[0].append(_seen(ground.pictures[a], places[k], config.side, heading, zoom))
        sides[1].append(_seen(ground.pictures[b], other, config.side, heading + by, zoom))
        wide = max(wide, zoom)
    shared = near(places, config.side * wide) & (which[:, None] == which[None])
    return (torch.stack(sides[0]), torch.stack(sides[1])), torch.from_numpy(shared)


def _pair(
    ground: Ground, config: Fit, rng: np.random.Generator
) -> tuple[tuple[NDArray[np.float64], NDArray[np.float64]], tuple[int, int], float]:
    """Two places near each other, known at two dates, those dates, and the zoom."""
    most = (min(ground.known.shape[1:]) - 2) / (config.side * math.sqrt(2))
    for _ in range(TRIES):
        zoom = rng.uniform(config.zoom[0], min(config.zoom[1], most))
        low, high = _bounds(ground, config, zoom)
        place = rng.uniform(low, high)
        other = np.clip(place + rng.uniform(-1, 1, 2) * config.shift * config.side * zoom, low, high)
        here, there = (ground.seen(float(p[0]), float(p[1]), config.side * zoom / 2) for p in (place, other))
        pairs = [(a, b) for a, b in ground.pairs if here[a] and there[b]]
        if pairs:
            return (place, other), pairs[rng.integers(len(pairs))], zoom
    raise NothingFound(f"positives: no place of {config.side} pixels is known at two dates")


def _bounds(ground: Ground, config: Fit, zoom: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where a picture in any heading has its middle."""
    half = config.side * zoom / math.sqrt(2)
    low, high = np.full(2, half), np.array(ground.known.shape[1:]) - half
    if (high <= low).any():
        size = ground.known.shape[1:]
        raise InputError(f"area: {size} is too small for pictures of {config.side} pixels in any heading")
    return low, high


def _seen(image: NDArray[np.uint8], place: NDArray[np.float64], side: int, angle: float, zoom: float) -> Tensor:
    """(3, side, side) in 0..1, as `crop`, in a fifth of its time."""
    places = _places(float(place[0]), float(place[1]), side, angle, zoom)
    piece, corner = _around(image, places)
    size = np.array(piece.shape[:2]).reshape(2, 1, 1)
    grid = torch.from_numpy((2 * (places - corner) / (size - 1) - 1)[::-1].copy()).float().permute(1, 2, 0)
    pixels = torch.from_numpy(piece.astype(np.float32) / 255).permute(2, 0, 1)
    return F.grid_sample(pixels[None], grid[None], padding_mode="reflection", align_corners=True)[0]


def _learned(model: Embedder, stages: int) -> list[nn.Parameter]:
    """Parameters of the last stages; the others but the projection are frozen."""
    for parameter in model.encoder.parameters():
        parameter.requires_grad_(False)
    blocks = list(model.encoder.blocks)[-stages:] if stages else []
    for block in blocks:
        for parameter in block.parameters():
            parameter.requires_grad_(True)
    return [p for p in model.encoder.parameters() if p.requires_grad]
