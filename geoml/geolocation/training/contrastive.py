"""Features that know a place again in another year: contrastive training on pairs of one place at two dates.

After EarthLoc (Berton et al. 2024, https://arxiv.org/abs/2403.06758): both pictures of a pair show the same ground at
different dates; the other pairs of the batch are the negatives (InfoNCE, van den Oord et al. 2018,
https://arxiv.org/abs/1807.03748). Pairs whose ground overlaps are neither, and are left out.

A search turns the reference by quarters, so the two pictures of a pair differ by an eighth of a turn at most: features
that must bear any turn cannot say what lies north of what. They are shifted as far as a place lies from the nearest
tile of a gallery, and each is changed by `geoml.geolocation.training.photometric`, since two dates are too few to learn
what changes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
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
from geoml.geolocation.training import photometric
from geoml.geolocation.training.positives import DateStack, near
from geoml.geolocation.training.retrieval_recipe import RetrievalTraining

TEMPERATURE = 0.07
WARM = 20
"""Steps until the rate is reached, or a tenth of them all."""
EPOCH = 50
"""Steps of an epoch; the last one may be shorter."""
TRIES = 100


class Embedder(Places):
    """RGB in 0..1 to unit vectors, see `geoml.geolocation.nn.places.Places`."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__(pretrained=True)
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1))

    def forward(self, x: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch features"]:
        return super().forward((x - self.mean) / self.std)


def crop(
    image: NDArray[np.uint8], y: float, x: float, side: int, angle: float = 0.0, zoom: float = 1.0
) -> Float[Tensor, "3 side side"]:
    """RGB in 0..1 around (y, x) of an image (H, W, 3), turned by ``angle`` radians, ``zoom`` pixels of it a pixel.

    Bilinear; edges are mirrored.
    """
    t = (np.arange(side) - (side - 1) / 2) * zoom
    rows, columns = np.meshgrid(t, t, indexing="ij")
    c, s = math.cos(angle), math.sin(angle)
    places = np.stack([y + c * rows + s * columns - 0.5, x - s * rows + c * columns - 0.5])
    piece, corner = _around(image, places)
    size = np.array(piece.shape[:2]).reshape(2, 1, 1)
    grid = torch.from_numpy((2 * (places - corner) / (size - 1) - 1)[::-1].copy()).float().permute(1, 2, 0)
    pixels = torch.from_numpy(piece.astype(np.float32) / 255).permute(2, 0, 1)
    return F.grid_sample(pixels[None], grid[None], padding_mode="reflection", align_corners=True)[0]


def _around(image: NDArray[np.uint8], places: NDArray[np.float64]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The part of an image that holds (2, H, W) places, and its first (row, column) as (2, 1, 1).

    The whole image where they leave it, so that its edges stay the mirrors.
    """
    size = np.array(image.shape[:2])
    low, high = np.floor(places.min((1, 2))).astype(int), np.ceil(places.max((1, 2))).astype(int) + 1
    if (low < 0).any() or (high > size).any():
        low, high = np.zeros(2, int), size
    return image[low[0] : high[0], low[1] : high[1]], low.reshape(2, 1, 1)


def info_nce(
    first: Float[Tensor, "batch d"], second: Float[Tensor, "batch d"], near: Bool[Tensor, "batch batch"]
) -> Float[Tensor, ""]:
    """The loss of unit vectors whose rows belong together; ``near`` is True where ground is shared."""
    score = first @ second.T / TEMPERATURE
    own = torch.eye(len(score), dtype=torch.bool, device=score.device)
    score = score.masked_fill(near & ~own, -math.inf)
    goal = torch.arange(len(score), device=score.device)
    return (F.cross_entropy(score, goal) + F.cross_entropy(score.T, goal)) / 2


def fit(
    sources: Sequence[tuple[float, Sequence[DateStack]]],
    how: RetrievalTraining,
    seed: int = 0,
    folder: Path | None = None,
    on_epoch: OnEpoch | None = None,
) -> tuple[Embedder, list[float]]:
    """An embedder trained on pairs of dates of the stacks of sources, and its loss at each step.

    A batch comes from one source, drawn by its share: pictures of another sensor would be told apart too easily. Goes
    on with the state in ``folder``. Raises InputError for a ground too small, NothingFound for one with no place valid
    at two dates, MissingExtra without weights to start from, and as `geoml.engine.train.loop.learn`.
    """
    for _, stacks in sources:
        for stack in stacks:
            _bounds(stack, how, how.zoom[0])
    share = np.array([s for s, _ in sources], float)
    if not len(share) or not (share > 0).all():
        raise InputError(f"sources: shares {share.tolist()}; expected positive ones")
    torch.manual_seed(seed)
    pairs = _PairSampler(sources, share / share.sum(), how, seed)
    model = Embedder().to(memory_format=torch.channels_last)
    groups: list[dict[str, object]] = [
        {"params": _trainable(model, how.stages)},
        {"params": list(model.project.parameters()), "lr": 2 * how.rate},
    ]
    training = Training(
        name="retrieval", lower="training.rate", net=_PairEmbedder(model), batches=pairs.batches, loss=_loss,
        optimiser=partial(AdamW, groups, how.rate, weight_decay=0.01),
        schedule=partial(_schedule, how.steps), epochs=math.ceil(how.steps / EPOCH),
        device=choose(precision="fp32"), generators=(pairs.rng, pairs.augmentation),
        mode=nn.Module.eval,  # statistics of normalisation stay those of ImageNet: batches are small
    )  # fmt: skip
    losses = learn(training, folder, on_epoch).losses
    model.keep(Places(project=False, pretrained=True))
    return model, losses


class _PairSampler:
    """The batches of every epoch, by random numbers that go on from one to the next."""

    def __init__(
        self,
        sources: Sequence[tuple[float, Sequence[DateStack]]],
        share: NDArray[np.float64],
        how: RetrievalTraining,
        seed: int,
    ) -> None:
        self.sources, self.share, self.how = sources, share, how
        self.rng, self.augmentation = np.random.default_rng(seed), torch.Generator().manual_seed(seed)

    def batches(self, epoch: int, rows: OwnRows) -> Iterator[TrainingBatch]:
        """Both pictures (B, 2, 3, S, S) of each pair, and (B, B) where ground is shared."""
        how = self.how
        for _ in range(epoch * EPOCH, min((epoch + 1) * EPOCH, how.steps)):
            stacks = self.sources[self.rng.choice(len(self.share), p=self.share)][1]
            sides, shared = _batch(stacks, how, self.rng)
            both = torch.stack([photometric.augment(s, self.augmentation, how.look) for s in sides], 1)
            yield TrainingBatch((both[rows(len(both))],), shared[rows(len(both))], len(both))


class _PairEmbedder(nn.Module):
    """Both pictures of pairs to their unit vectors."""

    def __init__(self, model: Embedder) -> None:
        super().__init__()
        self.model = model

    def forward(self, pictures: Float[Tensor, "batch 2 3 side side"]) -> Float[Tensor, "batch 2 d"]:
        vectors: Tensor = self.model(_channels_last(pictures.transpose(0, 1).flatten(0, 1)))
        return vectors.view(2, len(pictures), -1).transpose(0, 1)


def _loss(raw: Float[Tensor, "batch 2 d"], shared: Bool[Tensor, "batch batch"]) -> Float[Tensor, ""]:
    return info_nce(raw[:, 0], raw[:, 1], shared)


def _schedule(steps: int, optimiser: Optimizer) -> LambdaLR:
    """A linear rise, times half a cosine to nothing."""
    warm = max(1, min(WARM, steps // 10))
    return LambdaLR(optimiser, lambda s: min((s + 1) / warm, 1) * (1 + math.cos(math.pi * min(s / steps, 1))) / 2)


def embed(model: nn.Module, pictures: Float[Tensor, "n 3 height width"], batch: int = 32) -> NDArray[np.float32]:
    """(N, D) unit vectors."""
    with torch.inference_mode():
        return np.concatenate([model(_channels_last(part)).numpy() for part in torch.split(pictures, batch)])


def embed_quarters(model: nn.Module, pictures: Float[Tensor, "n 3 side side"]) -> NDArray[np.float32]:
    """(N, 4, D) unit vectors of the pictures turned by quarters."""
    return np.stack([embed(model, torch.rot90(pictures, k, (2, 3))) for k in range(4)], 1)


def _channels_last(pictures: Tensor) -> Tensor:
    """In which depthwise convolutions take about two thirds of the time."""
    return pictures.contiguous(memory_format=torch.channels_last)


def _batch(
    stacks: Sequence[DateStack], how: RetrievalTraining, rng: np.random.Generator
) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """Both pictures (B, 3, S, S) of each pair, and (B, B) where ground is shared."""
    count = how.batch
    few = len(stacks) < count
    which = rng.integers(0, len(stacks), count) if few else rng.permutation(len(stacks))[:count]
    sides: tuple[list[Tensor], list[Tensor]] = ([], [])
    places, wide = np.zeros((count, 2)), 0.0
    for k, stack in enumerate(stacks[i] for i in which.tolist()):
        (place, other), (a, b), zoom = _pair(stack, how, rng)
        places[k] = place
        heading, turn = rng.uniform(0, math.tau), rng.uniform(-how.turn, how.turn)
        if rng.random() < how.upright:
            heading = turn = 0.0
        sides[0].append(crop(stack.pictures[a], place[0], place[1], how.side, heading, zoom))
        sides[1].append(crop(stack.pictures[b], other[0], other[1], how.side, heading + turn, zoom))
        wide = max(wide, zoom)
    shared = near(places, how.side * wide) & (which[:, None] == which[None])
    return (torch.stack(sides[0]), torch.stack(sides[1])), torch.from_numpy(shared)


def _pair(
    stack: DateStack, how: RetrievalTraining, rng: np.random.Generator
) -> tuple[tuple[NDArray[np.float64], NDArray[np.float64]], tuple[int, int], float]:
    """Two places near each other, valid at two dates, those dates, and the zoom."""
    most = (min(stack.valid.shape[1:]) - 2) / (how.side * math.sqrt(2))
    for _ in range(TRIES):
        zoom = rng.uniform(how.zoom[0], min(how.zoom[1], most))
        low, high = _bounds(stack, how, zoom)
        place = rng.uniform(low, high)
        other = np.clip(place + rng.uniform(-1, 1, 2) * how.shift * how.side * zoom, low, high)
        here, there = (stack.covers(p[0], p[1], how.side * zoom / 2) for p in (place, other))
        pairs = [(a, b) for a, b in stack.pairs if here[a] and there[b]]
        if pairs:
            return (place, other), pairs[rng.integers(len(pairs))], zoom
    raise NothingFound(f"positives: no place of {how.side} pixels is known at two dates")


def _bounds(stack: DateStack, how: RetrievalTraining, zoom: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where a picture in any heading has its middle."""
    half, size = how.side * zoom / math.sqrt(2), stack.valid.shape[1:]
    low, high = np.full(2, half), np.array(size) - half
    if (high <= low).any():
        raise InputError(f"area: {size} is too small for pictures of {how.side} pixels in any heading")
    return low, high


def _trainable(model: Embedder, stages: int) -> list[nn.Parameter]:
    """Parameters of the last stages; the others but the projection are frozen."""
    model.encoder.requires_grad_(False)
    for block in list(model.encoder.get_submodule("blocks").children())[-stages:] if stages else []:
        block.requires_grad_(True)
    return [p for p in model.encoder.parameters() if p.requires_grad]
