"""Faster R-CNN: a network proposes boxes, and a second one looks at each of them.

Ren et al.: Faster R-CNN. 2015, https://arxiv.org/abs/1506.01497; features at several scales: Lin et al.: Feature
Pyramid Networks. 2017, https://arxiv.org/abs/1612.03144. The parts are torchvision's (BSD-3-Clause), without its
resizing of images. Proposals are ranked over the whole chip, so detections are close to, not equal to, those of one
forward pass over the scene. Unknown ground does not take part in training. With ``masks`` each detected box gets a
mask, and from it an outline: He et al.: Mask R-CNN. 2017, https://arxiv.org/abs/1703.06870.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign

from geoml.errors import InputError
from geoml.nn.encoders import EncoderConfig, initialise, plain_encoder
from geoml.nn.objects.channels import SIDES, kinds
from geoml.nn.objects.mask_head import MaskHead, mask_loss, words_of
from geoml.nn.objects.pyramid import NEAREST, NOTHING
from geoml.nn.objects.true_boxes import TrueBoxes, true_boxes
from geoml.nn.padding import extended
from geoml.vector.masks import WORDS

TASKS = ("detection",)
TINY = {"encoder": "resnet18", "width": 16, "hidden": 64, "anchors": (8, 16, 32, 64)}
STRIDES = (4, 8, 16, 32)
RATIOS = (0.5, 1.0, 2.0)
LEAST = 0.02
"""Score of the weakest box that a chip gives."""
IGNORED = -1


@dataclass(frozen=True)
class Config(EncoderConfig):
    """Arguments of `build`; ``classes`` are the channels of the output: one for each class, and four distances.

    ``anchors`` are the sizes in pixels that are proposed at strides 4, 8, 16 and 32. ``proposals`` of a chip are looked
    at; ``most`` boxes of a chip are given. ``width`` and ``hidden``: channels of the pyramid and of the second network.
    ``masks``: outlines are learnt too; ``classes`` then has 49 channels more (`geoml.vector.masks`).
    """

    anchors: tuple[int, ...] = (16, 32, 64, 128)
    width: int = 128
    hidden: int = 512
    proposals: int = 1000
    most: int = 500
    masks: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        kinds(self.classes, masks=self.masks)
        if len(self.anchors) != len(STRIDES) or min(self.anchors) < 1:
            raise InputError(f"anchors: {list(self.anchors)}; expected {len(STRIDES)} sizes in pixels")
        if min(self.width, self.hidden, self.proposals, self.most) < 1:
            raise InputError(f"faster_rcnn: {self}; expected at least one of each")


class FasterRCNN(nn.Module):
    """(B, bands, H, W) float to (B, K + 4, H, W): in the pixel of its centre each box that was found; any H and W.

    With ``masks`` (B, K + 53, H, W): then the mask in its box, packed as `geoml.vector.masks` has it.

    While it learns it gives (B, channel, cell): features of all levels, which `loss` takes.
    """

    whole_chip = True

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.classes, self.stride = kinds(config.classes, masks=config.masks), STRIDES[-1]
        self.net = _Features(config)
        anchors = AnchorGenerator(tuple((s,) for s in config.anchors), (RATIOS,) * len(STRIDES))
        head = RPNHead(config.width, len(RATIOS))
        few = {"training": 2 * config.proposals, "testing": config.proposals}
        self.propose = _Proposals(anchors, head, 0.7, 0.3, 256, 0.5, few, dict.fromkeys(few, config.proposals), 0.7)
        levels = [str(k) for k in range(len(STRIDES))]
        pool = MultiScaleRoIAlign(levels, 7, 2)
        self.look = _Looks(
            pool, TwoMLPHead(config.width * 7 * 7, config.hidden), FastRCNNPredictor(config.hidden, self.classes + 1),
            0.5, 0.5, 256, 0.25, None, LEAST, 0.5, config.most,
        )  # fmt: skip
        self.outline = MaskHead(levels, config.width, self.classes) if config.masks else None
        initialise(self, config.encoder, config.encoder_weights)

    def forward(self, x: Float[Tensor, "batch band y x"]) -> Float[Tensor, "batch ..."]:
        height, width = x.shape[-2:]
        levels = [level.float() for level in self.net(extended(x, self.stride))]
        if self.training:
            return torch.cat([level.flatten(2) for level in levels], 2)
        with torch.autocast(x.device.type, enabled=False):
            return torch.stack([self._found([f[k : k + 1] for f in levels], height, width) for k in range(len(x))])

    def loss(
        self, raw: Float[Tensor, "batch channel cell"], target: Float32[Tensor, "batch what y x"]
    ) -> Float32[Tensor, ""]:
        """Scalar float32: the losses of the papers, of what `forward` gives while it learns, against rendered boxes
        (B, 6, y, x); with outlines, (B, 8, y, x), where these are learnt."""
        with torch.autocast(raw.device.type, enabled=False):
            tall, wide = (-(-n // self.stride) * self.stride for n in target.shape[-2:])
            sizes = [(tall // s, wide // s) for s in STRIDES]
            parts = torch.split(raw.float(), [h * w for h, w in sizes], 2)
            levels = {
                str(k): part.reshape(*part.shape[:2], *size)
                for k, (part, size) in enumerate(zip(parts, sizes, strict=True))
            }
            images = ImageList(raw.new_zeros(len(raw), 1, tall, wide), [(tall, wide)] * len(raw))
            truth = [true_boxes(picture) for picture in target]
            targets = [{"boxes": _xy(t.edges), "labels": t.classes + 1} for t in truth]
            self.propose.truth = self.look.truth = truth
            try:
                proposals, first = self.propose(images, levels, targets)
                _, second = self.look(levels, proposals, images.image_sizes, targets)
                if self.outline is not None:
                    boxes, which = self.look.positive
                    masks = self.outline(levels, boxes, images.image_sizes)
                    second = {**second, "mask": mask_loss(masks, boxes, which, truth, target)}
            finally:
                self.propose.truth = self.look.truth = self.look.chosen = ()
            total = raw.sum() * 0
            for part, parts in ((self.propose, first), (self.look, second)):
                if part.sampled:  # else they are means of nothing
                    total = sum(parts.values(), total)
            return total

    def _found(self, features: list[Tensor], height: int, width: int) -> Tensor:
        """(K + 4, y, x) of one picture."""
        tall, wide = (n * STRIDES[0] for n in features[0].shape[-2:])
        images = ImageList(features[0].new_zeros(1, 1, tall, wide), [(tall, wide)])
        levels = {str(k): level for k, level in enumerate(features)}
        proposals, _ = self.propose(images, levels)
        found = self.look(levels, proposals, images.image_sizes)[0][0]
        last = self.classes + SIDES
        out = features[0].new_zeros(last + WORDS * (self.outline is not None), height, width)
        out[: self.classes] = NOTHING
        # the best is written last, so that of two in one pixel it stays
        order = found["scores"].argsort(stable=True)
        left, top, right, bottom = found["boxes"][order].unbind(1)
        y, x = ((a + b).div(2).floor().long() for a, b in ((top, bottom), (left, right)))
        sides = torch.stack([y + 0.5 - top, bottom - y - 0.5, x + 0.5 - left, right - x - 0.5], 1)
        logits, kind = found["scores"][order].logit(1e-6), found["labels"][order] - 1
        told = torch.cat([sides.clamp(min=NEAREST).log(), self._masks(levels, found["boxes"][order], kind, images)], 1)
        for k, row, col in zip(range(len(order)), y.tolist(), x.tolist(), strict=True):
            if row < height and col < width:
                out[: self.classes, row, col] = NOTHING
                out[kind[k], row, col] = logits[k]
                out[self.classes :, row, col] = told[k]
        return out

    def _masks(self, levels: dict[str, Tensor], boxes: Tensor, kind: Tensor, images: ImageList) -> Tensor:
        """(n, 49) of boxes (n, 4) of one picture and their classes (n,); (n, 0) where none are learnt."""
        if self.outline is None:
            return boxes.new_zeros(len(boxes), 0)
        logits = self.outline(levels, [boxes], images.image_sizes)
        return words_of(logits[torch.arange(len(boxes), device=boxes.device), kind] >= 0)


class _Features(nn.Module):
    """Levels of the pyramid, finest first."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.encoder, channels = plain_encoder(config.encoder, config.encoder_weights, config.bands, len(STRIDES) + 1)
        self.pyramid = FeaturePyramidNetwork(channels[2:], config.width)

    def forward(self, x: Float[Tensor, "batch band y x"]) -> list[Float[Tensor, "batch _channel _y _x"]]:
        levels = {str(k): level for k, level in enumerate(self.encoder(x)[2:])}
        return list(self.pyramid(levels).values())


class _Proposals(RegionProposalNetwork):  # type: ignore[misc]
    """As torchvision's; an anchor in unknown ground that fits no box teaches nothing."""

    truth: Sequence[TrueBoxes] = ()
    sampled = False
    """Whether any anchor of the last pictures teaches something."""

    def assign_targets_to_anchors(
        self, anchors: list[Float[Tensor, "_anchor 4"]], targets: list[dict[str, Tensor]]
    ) -> tuple[list[Float[Tensor, " _anchor"]], list[Float[Tensor, "_anchor 4"]]]:
        labels, boxes = super().assign_targets_to_anchors(anchors, targets)
        for label, anchor, truth in zip(labels, anchors, self.truth, strict=True):
            label[(label == 0) & ~truth.known(_middles(anchor))] = IGNORED
        self.sampled = any(bool((label >= 0).any()) for label in labels)
        return labels, boxes


class _Looks(RoIHeads):  # type: ignore[misc]
    """As torchvision's; a proposal in unknown ground that fits no box teaches nothing."""

    truth: Sequence[TrueBoxes] = ()
    sampled = False
    """Whether any proposal of the last pictures teaches something."""
    chosen: Sequence[Sequence[Tensor]] = ()
    """By picture the proposals that teach, which true box each of them learns, and its label, 0 of none."""

    @property
    def positive(self) -> tuple[list[Float[Tensor, "_box 4"]], list[Int64[Tensor, " _box"]]]:
        """By picture the proposals that learn a box, and which one."""
        boxes, which, labels = self.chosen
        mine = [label > 0 for label in labels]
        return [b[m] for b, m in zip(boxes, mine, strict=True)], [w[m] for w, m in zip(which, mine, strict=True)]

    def select_training_samples(
        self, proposals: list[Float[Tensor, "_box 4"]], targets: list[dict[str, Tensor]]
    ) -> tuple[Sequence[Tensor], ...]:
        found: tuple[Sequence[Tensor], ...] = super().select_training_samples(proposals, targets)
        self.chosen = found[:3]
        return found

    def assign_targets_to_proposals(
        self,
        proposals: list[Float[Tensor, "_box 4"]],
        gt_boxes: list[Float[Tensor, "_box 4"]],
        gt_labels: list[Int64[Tensor, " _box"]],
    ) -> tuple[list[Int64[Tensor, " _box"]], list[Int64[Tensor, " _box"]]]:
        matched, labels = super().assign_targets_to_proposals(proposals, gt_boxes, gt_labels)
        for label, proposal, truth in zip(labels, proposals, self.truth, strict=True):
            label[(label == 0) & ~truth.known(_middles(proposal))] = IGNORED
        self.sampled = any(bool((label >= 0).any()) for label in labels)
        return matched, labels


def _middles(boxes: Tensor) -> Tensor:
    """(n, 2) row and column of the middles of (n, 4) left, top, right, bottom."""
    return ((boxes[:, :2] + boxes[:, 2:]) / 2).flip(1).clamp(min=0)


def _xy(edges: Tensor) -> Tensor:
    """(n, 4) left, top, right, bottom of top, left, bottom, right."""
    return edges[:, [1, 0, 3, 2]]


def build(config: Config) -> FasterRCNN:
    """The network, randomly initialised unless ``encoder_weights`` says otherwise. Raises InputError."""
    return FasterRCNN(config)
