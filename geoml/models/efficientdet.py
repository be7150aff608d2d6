"""EfficientDet: anchor boxes of several sizes and aspect ratios at the cells of a weighted feature pyramid.

Tan, Pang, Le: EfficientDet: Scalable and Efficient Object Detection. CVPR 2020, https://arxiv.org/abs/1911.09070. D0
sees its whole chip (squeeze and excitation), so chips are cut with the card's overlap; lite0 has none of that, and its
receptive field is measured. Of the nine boxes at a cell, the most confident one counts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss

from geoml.errors import InputError
from geoml.nn.encoders import initialise, plain_encoder
from geoml.nn.objects.anchors import NONE, decoded, encoded, matched, placed, shapes
from geoml.nn.objects.bifpn import BiFPN, separable
from geoml.nn.objects.channels import SIDES, kinds
from geoml.nn.objects.pyramid import centres, dense, flat
from geoml.nn.objects.true_boxes import true_boxes
from geoml.nn.padding import extended

TASKS = ("detection",)
TINY = {"size": "lite0", "strides": (8, 16, 32), "width": 16, "layers": 1, "scale": 2.0}
ENCODERS = {"d0": "tu-tf_efficientnet_b0", "lite0": "tu-tf_efficientnet_lite0"}
SIZES, RATIOS = (1.0, 2 ** (1 / 3), 2 ** (2 / 3)), (1.0, 2.0, 0.5)
ANCHORS = len(SIZES) * len(RATIOS)
EVERY = (4, 8, 16, 32, 64, 128)
DEEPEST = 32
"""Stride of the last stage of an encoder; coarser levels are pooled from it."""
ALPHA, GAMMA, BOX, HUBER = 0.25, 1.5, 50.0, 0.1
"""Of the focal loss; weight of the boxes, and where their loss becomes linear."""
RARE = -math.log((1 - 0.01) / 0.01)


@dataclass(frozen=True)
class Config:
    """Arguments of `build`; ``classes`` are the channels of the output: one for each class, and four distances.

    ``size`` is d0 or lite0. ``strides`` are those of the cells, each twice the one before; ``scale`` is the smallest
    anchor in strides. ``encoder_weights``: see `geoml.nn.encoders.initialise`.
    """

    bands: int
    classes: int
    size: str = "d0"
    strides: tuple[int, ...] = (8, 16, 32, 64, 128)
    width: int = 64
    layers: int = 3
    scale: float = 4.0
    encoder_weights: str | None = None

    def __post_init__(self) -> None:
        if self.bands < 1:
            raise InputError(f"bands: {self.bands}; expected at least one")
        kinds(self.classes)
        if self.size not in ENCODERS:
            raise InputError(f"size: {self.size!r}; expected one of {', '.join(ENCODERS)}")
        first = EVERY.index(self.strides[0]) if self.strides and self.strides[0] in EVERY else -1
        if len(self.strides) < 2 or first < 0 or self.strides != EVERY[first : first + len(self.strides)]:
            raise InputError(f"strides: {list(self.strides)}; expected two or more of {list(EVERY)} that follow")
        if min(self.width, self.layers) < 1 or not self.scale > 0:
            raise InputError(f"width {self.width}, layers {self.layers}, scale {self.scale}; expected positive numbers")


class EfficientDet(nn.Module):
    """(B, bands, H, W) float to (B, K + 4, H, W): logits of the cells, logarithms of the sides; any H and W.

    While it learns it gives (B, cell, 9 (K + 4)): of each anchor logits, then its box, which `loss` takes.
    """

    anchors: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.strides, self.stride, self.classes = config.strides, config.strides[-1], kinds(config.classes)
        self.net = _Features(config)
        self.logits = _Head(config, ANCHORS * self.classes, RARE)
        self.boxes = _Head(config, ANCHORS * SIDES, 0.0)
        forms = shapes(tuple(config.scale * s for s in SIZES), RATIOS)
        self.register_buffer("anchors", forms, persistent=False)
        initialise(self, ENCODERS[config.size], config.encoder_weights)

    def forward(self, x: Float[Tensor, "batch band y x"]) -> Float[Tensor, "batch ..."]:
        height, width = x.shape[-2:]
        features = self.net(extended(x, self.stride))
        logits, boxes = self.logits(features), self.boxes(features)
        if self.training:
            return flat([torch.cat(pair, 1) for pair in zip(logits, boxes, strict=True)])
        best = [self._best(*level) for level in zip(logits, boxes, self.strides, strict=True)]
        chosen, sides = zip(*best, strict=True)
        return dense(chosen, sides, self.strides)[..., :height, :width]

    def loss(
        self, raw: Float[Tensor, "batch cell channel"], target: Float32[Tensor, "batch 6 y x"]
    ) -> Float32[Tensor, ""]:
        """Scalar float32 loss of what `forward` gives while it learns, against rendered boxes."""
        raw = raw.float()
        tall, wide = (-(-n // self.stride) * self.stride for n in target.shape[-2:])
        places, steps = centres((tall, wide), self.strides, raw.device)
        anchors = placed(places, steps, self.anchors).flatten(0, 1)
        beyond = (places >= places.new_tensor(target.shape[-2:])).any(1).repeat_interleave(ANCHORS)  # it is cut off
        split = ANCHORS * self.classes
        logits = raw[..., :split].reshape(len(raw), -1, self.classes)
        boxes = raw[..., split:].reshape(len(raw), -1, SIDES)
        total, count = raw.sum() * 0, 0
        for k, picture in enumerate(target):
            truth = true_boxes(picture)
            box = matched(anchors, truth.edges)
            box[beyond] = NONE
            mine = box >= 0
            known = mine | ((box == NONE) & truth.known(places).repeat_interleave(ANCHORS))
            wanted = torch.zeros_like(logits[k])
            wanted[mine, truth.classes[box[mine]]] = 1
            focal = sigmoid_focal_loss(logits[k], wanted, ALPHA, GAMMA)
            total = total + (focal * known[:, None]).sum()
            if mine.any():
                off = boxes[k][mine] - encoded(truth.edges[box[mine]], anchors[mine])
                huber = F.huber_loss(off, torch.zeros_like(off), delta=HUBER, reduction="none")
                total = total + BOX * huber.mean(1).sum()
                count += int(mine.sum())
        return total / max(count, 1)

    def _best(self, logits: Tensor, boxes: Tensor, stride: int) -> tuple[Tensor, Tensor]:
        """(B, K, y, x) logits of the surest anchor of each cell, and (B, 4, y, x) how far its box reaches."""
        logits, boxes = (t.float().reshape(len(t), ANCHORS, -1, *t.shape[2:]) for t in (logits, boxes))
        best = logits.amax(2, keepdim=True).argmax(1, keepdim=True)
        chosen = torch.take_along_dim(logits, best, 1)[:, 0]
        anchor = self.anchors[best[:, 0, 0]].movedim(-1, 1) * stride  # (B, 2, y, x)
        told = torch.take_along_dim(boxes, best, 1)[:, 0]
        edges = decoded(told.movedim(1, -1), torch.cat([-anchor / 2, anchor / 2], 1).movedim(1, -1))
        top, left, bottom, right = edges.unbind(-1)
        return chosen, torch.stack([-top, bottom, -left, right], 1)


class _Features(nn.Module):
    """Levels of the pyramid, finest first."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        depth = int(math.log2(min(config.strides[-1], DEEPEST)))
        self.encoder, channels = plain_encoder(ENCODERS[config.size], config.encoder_weights, config.bands, depth)
        self.strides = config.strides
        entered = [channels[min(int(math.log2(s)), depth)] for s in config.strides]
        self.pyramid = BiFPN(entered, config.width, config.layers)

    def forward(self, x: Float[Tensor, "batch band y x"]) -> list[Float[Tensor, "batch _channel _y _x"]]:
        every = self.encoder(x)
        levels: list[Tensor] = []
        for s in self.strides:
            levels.append(every[int(math.log2(s))] if s <= DEEPEST else F.max_pool2d(levels[-1], 2))
        found: list[Tensor] = self.pyramid(levels)
        return found


class _Head(nn.Module):
    """The same convolutions at every level, with normalisations of their own."""

    def __init__(self, config: Config, channels: int, start: float) -> None:
        super().__init__()
        self.convs = nn.ModuleList(separable(config.width, config.width, norm=False) for _ in range(config.layers))
        self.norms = nn.ModuleList(_norms(config) for _ in config.strides)
        self.last = separable(config.width, channels, norm=False)
        with torch.no_grad():
            self.last[-1].bias.fill_(start)  # type: ignore[operator]

    def forward(
        self, levels: Sequence[Float[Tensor, "batch _channel _y _x"]]
    ) -> list[Float[Tensor, "batch _channel _y _x"]]:
        out = []
        for norms, level in zip(self.norms, levels, strict=True):
            x = level
            for conv, norm in zip(self.convs, norms.children(), strict=True):
                x = F.silu(norm(conv(x)))
            out.append(self.last(x))
        return out


def _norms(config: Config) -> nn.ModuleList:
    return nn.ModuleList(nn.BatchNorm2d(config.width) for _ in range(config.layers))


def build(config: Config) -> EfficientDet:
    """The network, randomly initialised unless ``encoder_weights`` says otherwise. Raises InputError."""
    return EfficientDet(config)
