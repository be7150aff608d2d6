"""The branch of Mask R-CNN that predicts which cells of its box an object covers.

He et al.: Mask R-CNN. 2017, https://arxiv.org/abs/1703.06870; its layers are torchvision's (BSD-3-Clause). What is
taught is read at points of the box, in pixels whose edges are whole numbers: torchvision's own targets lie half a pixel
to the north-west of the labels. Cells beyond the picture, or without a label, teach nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Float32, Int64
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.ops import MultiScaleRoIAlign

from geoml.nn.metrics import IGNORE
from geoml.nn.objects.centre_heat import INDEX, NUMBER, OUTLINE
from geoml.nn.objects.true_boxes import TrueBoxes
from geoml.vector.masks import BITS, SIDE, WORDS

POINTS = 2
"""Along each side of a cell, at which labels are read."""
LAYERS = 4


class MaskHead(nn.Module):
    """Features of levels named in ``levels``, of ``width`` channels each, and boxes to a mask for each class."""

    def __init__(self, levels: Sequence[str], width: int, classes: int) -> None:
        super().__init__()
        self.pool = MultiScaleRoIAlign(list(levels), SIDE // 2, 2)
        self.layers = MaskRCNNHeads(width, (width,) * LAYERS, 1)
        self.predict = MaskRCNNPredictor(width, width, classes)

    def forward(
        self,
        levels: dict[str, Float[Tensor, "batch width _y _x"]],
        boxes: list[Float[Tensor, "_box 4"]],
        sizes: list[tuple[int, int]],
    ) -> Float[Tensor, "box class 28 28"]:
        """Logits of the masks of boxes (left, top, right, bottom) of pictures of ``sizes`` (y, x)."""
        logits: Tensor = self.predict(self.layers(self.pool(levels, boxes, sizes)))
        return logits


def mask_loss(
    logits: Float[Tensor, "box class 28 28"],
    boxes: Sequence[Float[Tensor, "_box 4"]],
    which: Sequence[Int64[Tensor, " _box"]],
    truth: Sequence[TrueBoxes],
    target: Float32[Tensor, "batch 8 y x"],
) -> Float[Tensor, ""]:
    """Mean cross-entropy of the cells of boxes, in the mask of the class of the true box that each of them learns.

    By picture ``boxes`` (left, top, right, bottom), and ``which`` of its true boxes each learns. Zero of none.
    """
    aims, knowns, classes = [], [], []
    for box, index, real, picture in zip(boxes, which, truth, target, strict=True):
        row, col = real.pixels[index].unbind(1)
        aim, known = taught(box, picture[NUMBER, row, col], picture)
        aims.append(aim)
        knowns.append(known)
        classes.append(real.classes[index])
    mine = logits[torch.arange(len(logits), device=logits.device), torch.cat(classes)]
    each = F.binary_cross_entropy_with_logits(mine, torch.cat(aims), reduction="none")
    known = torch.cat(knowns)
    return (each * known).sum() / known.sum().clamp(min=1) + 0 * logits.sum()


def taught(
    boxes: Float[Tensor, "box 4"], numbers: Float[Tensor, " box"], picture: Float32[Tensor, "8 y x"]
) -> tuple[Float[Tensor, "box 28 28"], Bool[Tensor, "box 28 28"]]:
    """The share of each cell of ``boxes`` (left, top, right, bottom) that the outline of a number covers, and whether
    it is known.

    Nothing is known of an object whose outline holds the middle of no pixel.
    """
    height, width = picture.shape[1:]
    steps = (torch.arange(POINTS * SIDE, device=boxes.device) + 0.5) / (POINTS * SIDE)
    left, top, right, bottom = (side[:, None] for side in boxes.detach().unbind(1))
    y, x = (top + steps * (bottom - top)).floor().long(), (left + steps * (right - left)).floor().long()
    inside = ((y >= 0) & (y < height))[:, :, None] & ((x >= 0) & (x < width))[:, None]
    y, x = y.clamp(0, height - 1)[:, :, None], x.clamp(0, width - 1)[:, None]
    here = picture[OUTLINE, y, x] == numbers[:, None, None]
    known = inside & (picture[INDEX, y, x] != IGNORE) & here.flatten(1).any(1)[:, None, None]
    cells = (-1, SIDE, POINTS, SIDE, POINTS)
    return here.float().reshape(cells).mean((2, 4)), known.reshape(cells).all(4).all(2)


def words_of(covered: Bool[Tensor, "box 28 28"]) -> Float[Tensor, "box 49"]:
    """Masks as `geoml.vector.masks` packs them, in numbers that single precision holds exactly."""
    bits = covered.reshape(-1, WORDS, BITS)
    words: Tensor = (bits * 2.0 ** torch.arange(BITS, device=covered.device)).sum(2)
    return words
