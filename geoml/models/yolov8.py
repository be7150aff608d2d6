"""YOLOv8: objects of all sizes at once from the cells of a pyramid; anchor-free, one head for classes, one for sides.

Written from descriptions, without code or weights of others: Terven et al., A Comprehensive Review of YOLO. 2023,
https://arxiv.org/abs/2304.00501 (its figure of YOLOv8: C2f, SPPF, PAN, decoupled head). Sides as distributions: Li et
al. 2020, https://arxiv.org/abs/2006.04388; cells learn by task-aligned assignment: Feng et al. 2021,
https://arxiv.org/abs/2108.07755; path aggregation: Liu et al. 2018, https://arxiv.org/abs/1803.01534. Oriented boxes
learn as Gaussians (Llerena et al. 2021, https://arxiv.org/abs/2106.06072), and the direction of twice the angle is
predicted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn
from torch.nn import functional as F

from geoml.errors import InputError
from geoml.nn.objects.box_losses import complete_iou, distribution_focal, gaussian_iou, iou
from geoml.nn.objects.channels import SIDES, TURN, kinds
from geoml.nn.objects.pyramid import centres, dense, flat
from geoml.nn.objects.task_aligned import assign
from geoml.nn.objects.true_boxes import edges_from, sides_from, true_boxes
from geoml.nn.padding import extended
from geoml.nn.weights.transfer import start_from

TASKS = ("detection",)
TINY = {"size": "p", "strides": (4, 8)}
SIZES = {"p": (1 / 3, 1 / 8), "n": (1 / 3, 1 / 4), "s": (1 / 3, 1 / 2)}
"""Share of the depth and of the width of the figure; n and s are its own, p is smaller."""
WIDTHS = {2: 64, 4: 128, 8: 256, 16: 512, 32: 1024}
REPEATS = {4: 3, 8: 6, 16: 6, 32: 3}
"""Channels and bottlenecks of a stage, by its stride, of the figure."""
MERGE = 3
"""Bottlenecks where two levels meet."""
BINS = 16
"""Distances of a side from 0 to 15 strides."""
BOX, CLASS, DISTANCE = 7.5, 0.5, 1.5
"""Weights of the three losses."""


@dataclass(frozen=True)
class Config:
    """Arguments of `build`; ``classes`` are the channels of the output: one for each class, four distances, and with
    ``oriented`` two more for the angle.

    ``strides`` are those of the cells, each twice the one before: fine ones find small objects, and a smaller last one
    makes what the network sees around a pixel, and so the overlap of chips, smaller. A box reaches at most 15 of the
    last stride to each side. ``encoder_weights``: path of a package to start from.
    """

    bands: int
    classes: int
    size: str = "n"
    strides: tuple[int, ...] = (8, 16, 32)
    oriented: bool = False
    encoder_weights: str | None = None

    def __post_init__(self) -> None:
        if self.bands < 1:
            raise InputError(f"bands: {self.bands}; expected at least one")
        kinds(self.classes, oriented=self.oriented)
        if self.size not in SIZES:
            raise InputError(f"size: {self.size!r}; expected one of {', '.join(SIZES)}")
        every = [s for s in WIDTHS if s > 2]
        if not self.strides or list(self.strides) not in (
            every[a:b] for a in range(len(every)) for b in range(a + 1, len(every) + 1)
        ):
            raise InputError(f"strides: {list(self.strides)}; expected some of {every} that follow each other")


class YOLOv8(nn.Module):
    """(B, bands, H, W) float to (B, K + 4, H, W): logits of the cells, logarithms of the sides; any H and W. With
    ``oriented`` (B, K + 6, H, W): then cosine and sine of twice the angle.

    While it learns it gives (B, cell, 64 + K), or two more: distributions of four sides, a direction, then logits,
    which `loss` takes. Sides are told in the frame of the angle, which jumps by half a turn where the longer side goes
    from north to south: there a cell far from the middle is less sure. What is smaller than half of the first stride
    may lie between cells, and is placed badly.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        depth, width = SIZES[config.size]
        self.strides, self.stride = config.strides, config.strides[-1]
        stages = [s for s in WIDTHS if s <= self.stride]
        channels = {s: max(8, round(WIDTHS[s] * width)) for s in stages}
        repeats = {s: round(REPEATS[s] * depth) for s in stages if s > 2}
        merge = round(MERGE * depth)
        self.stem = Conv(config.bands, channels[2], 3, 2)
        self.stages = nn.ModuleDict()
        for s in stages[1:]:
            parts = [Conv(channels[s // 2], channels[s], 3, 2), C2f(channels[s], channels[s], repeats[s], add=True)]
            self.stages[str(s)] = nn.Sequential(*parts, *([SPPF(channels[s])] if s == self.stride else []))
        up, down = self.strides[-2::-1], self.strides[1:]
        self.up = nn.ModuleDict({str(s): C2f(channels[2 * s] + channels[s], channels[s], merge) for s in up})
        self.shrink = nn.ModuleDict({str(s): Conv(channels[s // 2], channels[s // 2], 3, 2) for s in down})
        self.down = nn.ModuleDict({str(s): C2f(channels[s // 2] + channels[s], channels[s], merge) for s in down})
        self.oriented, first = config.oriented, channels[self.strides[0]]
        classes = kinds(config.classes, oriented=config.oriented)
        inner, outer = max(16, first // 4, SIDES * BINS), max(first, min(classes, 100))
        self.sides = nn.ModuleList(_head(channels[s], inner, SIDES * BINS) for s in self.strides)
        turned = self.strides if self.oriented else ()
        self.turns = nn.ModuleList(_head(channels[s], max(16, first // 4), TURN) for s in turned)
        self.logits = nn.ModuleList(_head(channels[s], outer, classes) for s in self.strides)
        for side, logit, s in zip(self.sides, self.logits, self.strides, strict=True):
            nn.init.ones_(side[-1].bias)  # type: ignore[index]
            nn.init.constant_(logit[-1].bias, math.log(5 / classes / (640 / s) ** 2))  # type: ignore[index]
        if config.encoder_weights is not None:
            start_from(self, config.encoder_weights)

    def forward(self, x: Float[Tensor, "batch band y x"]) -> Float[Tensor, "batch ..."]:
        height, width = x.shape[-2:]
        features = self._pyramid(extended(x, self.stride))
        sides = [head(f) for head, f in zip(self.sides, features, strict=True)]
        logits = [head(f) for head, f in zip(self.logits, features, strict=True)]
        turns = [head(f) for head, f in zip(self.turns, features, strict=False)]
        if self.training:
            parts = [sides, turns, logits] if turns else [sides, logits]
            return flat([torch.cat(level, 1) for level in zip(*parts, strict=True)])
        told = [_distances(side.float(), s) for side, s in zip(sides, self.strides, strict=True)]
        if turns:
            told = [torch.cat([side, _angle(turn)], 1) for side, turn in zip(told, turns, strict=True)]
        return dense(logits, told, self.strides)[..., :height, :width]

    def loss(
        self, raw: Float[Tensor, "batch cell channel"], target: Float32[Tensor, "batch kind y x"]
    ) -> Float32[Tensor, ""]:
        """Scalar float32 loss of what `forward` gives while it learns, against rendered boxes."""
        raw = raw.float()
        shape = target.shape[-2], target.shape[-1]
        fitting = -(-shape[0] // self.stride) * self.stride, -(-shape[1] // self.stride) * self.stride
        places, steps = centres(fitting, self.strides, raw.device)
        bins, logits = (
            raw[..., : SIDES * BINS].reshape(*raw.shape[:2], SIDES, BINS),
            raw[..., SIDES * BINS + TURN * self.oriented :],
        )
        sides = (bins.softmax(-1) * torch.arange(BINS, device=raw.device)).sum(-1) * steps[:, None]
        if self.oriented:
            turn = raw[..., SIDES * BINS : SIDES * BINS + TURN].movedim(-1, 1)
            sides = torch.cat([sides, _angle(turn).movedim(1, -1)], -1)
        total, aims = raw.sum() * 0, raw.new_zeros(())
        for k, picture in enumerate(target):
            truth = true_boxes(picture)
            guess = edges_from(sides[k], *places.unbind(1))
            share = gaussian_iou if self.oriented else iou
            reach = sides_from(truth.edges[:, None], places[None])
            beyond = (places[:, 0] >= shape[0]) | (places[:, 1] >= shape[1])  # what they say is cut off
            reach = reach.masked_fill(beyond[None, :, None], -1e6)
            overlap = share(truth.edges[:, None], guess.detach()[None])
            found = assign(logits[k].detach().sigmoid(), truth.classes, reach, overlap)
            mine, aim = found.mine, found.aim[found.mine]
            wanted = torch.zeros_like(logits[k])
            wanted[mine, truth.classes[found.box[mine]]] = aim
            weight = (mine | truth.known(places)).float()
            entropy = F.binary_cross_entropy_with_logits(logits[k], wanted, reduction="none")
            total = total + CLASS * (entropy * weight[:, None]).sum()
            aims = aims + aim.sum()
            if not mine.any():
                continue
            real = truth.edges[found.box[mine]]
            off = sides_from(real, places[mine]) / steps[mine, None]
            far = distribution_focal(bins[k][mine].flatten(0, 1), off.clamp(0, BINS - 1.01).flatten()).view(-1, SIDES)
            close = gaussian_iou(guess[mine], real) if self.oriented else complete_iou(guess[mine], real)
            total = total + (aim * (BOX * (1 - close) + DISTANCE * far.mean(1))).sum()
        return total / aims.clamp(min=1)

    def _pyramid(self, x: Tensor) -> list[Tensor]:
        """Features of the cells, finest first."""
        kept: dict[int, Tensor] = {}
        x = self.stem(x)
        for s, stage in self.stages.items():
            x = kept[int(s)] = stage(x)
        for s, merge in self.up.items():
            kept[int(s)] = merge(torch.cat([F.interpolate(kept[2 * int(s)], scale_factor=2.0), kept[int(s)]], 1))
        for s, merge in self.down.items():
            kept[int(s)] = merge(torch.cat([self.shrink[s](kept[int(s) // 2]), kept[int(s)]], 1))
        return [kept[s] for s in self.strides]


class Conv(nn.Sequential):
    """Convolution, batch normalisation, SiLU."""

    def __init__(self, before: int, after: int, kernel: int = 1, stride: int = 1) -> None:
        norm = nn.BatchNorm2d(after, eps=1e-3)
        super().__init__(nn.Conv2d(before, after, kernel, stride, kernel // 2, bias=False), norm, nn.SiLU(inplace=True))


class C2f(nn.Module):
    """Half of the channels go through ``repeats`` bottlenecks, and every step of the way goes into the answer."""

    def __init__(self, before: int, after: int, repeats: int, *, add: bool = False) -> None:
        super().__init__()
        half = after // 2
        self.split, self.add = Conv(before, 2 * half), add
        self.parts = nn.ModuleList(nn.Sequential(Conv(half, half, 3), Conv(half, half, 3)) for _ in range(repeats))
        self.join = Conv((2 + repeats) * half, after)

    def forward(self, x: Float[Tensor, "batch channel y x"]) -> Float[Tensor, "batch out y x"]:
        ways = list(self.split(x).chunk(2, 1))
        for part in self.parts:
            ways.append(ways[-1] + part(ways[-1]) if self.add else part(ways[-1]))
        joined: Tensor = self.join(torch.cat(ways, 1))
        return joined


class SPPF(nn.Module):
    """The largest values of growing surroundings beside what is there."""

    def __init__(self, channels: int, kernel: int = 5) -> None:
        super().__init__()
        self.shrink, self.join = Conv(channels, channels // 2), Conv(2 * channels, channels)
        self.pool = nn.MaxPool2d(kernel, 1, kernel // 2)

    def forward(self, x: Float[Tensor, "batch channel y x"]) -> Float[Tensor, "batch channel y x"]:
        ways = [self.shrink(x)]
        for _ in range(3):
            ways.append(self.pool(ways[-1]))
        joined: Tensor = self.join(torch.cat(ways, 1))
        return joined


def _head(before: int, inner: int, after: int) -> nn.Sequential:
    return nn.Sequential(Conv(before, inner, 3), Conv(inner, inner, 3), nn.Conv2d(inner, after, 1))


def _distances(bins: Tensor, stride: int) -> Tensor:
    """(B, 4, y, x) pixels to north, south, west and east: the mean of each distribution."""
    weights = bins.reshape(len(bins), SIDES, BINS, *bins.shape[2:]).softmax(2)
    steps = stride * torch.arange(BINS, device=bins.device, dtype=weights.dtype)
    return (weights * steps.view(1, 1, -1, 1, 1)).sum(2)


def _angle(turn: Tensor) -> Tensor:
    """(B, 1, …) radians of what is told as the direction of twice the angle, (B, 2, …)."""
    cos, sin = turn.float().unbind(1)
    return torch.atan2(sin, cos + 1e-6 * (cos == 0))[:, None] / 2


def build(config: Config) -> YOLOv8:
    """The network, randomly initialised unless ``encoder_weights`` says otherwise. Raises InputError."""
    return YOLOv8(config)
