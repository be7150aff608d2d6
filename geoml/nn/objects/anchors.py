"""Anchors: boxes of some sizes and proportions at every cell of a pyramid, and how a box is told by its difference.

Ren et al.: Faster R-CNN. 2015, https://arxiv.org/abs/1506.01497; sizes in thirds of an octave and the matching: Lin et
al.: Focal Loss for Dense Object Detection. 2017, https://arxiv.org/abs/1708.02002.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from geoml.nn.objects.box_losses import iou

LARGEST = 4.0
"""Of a logarithm of two sizes: beyond it a box grows no more."""
HIT = 0.5
"""Overlap from which on an anchor learns a box; of less it learns that there is none."""
NONE = -1


def shapes(sizes: tuple[float, ...], ratios: tuple[float, ...]) -> Float[Tensor, "anchor 2"]:
    """Heights and widths of anchors at a step of one: each of ``sizes`` (roots of the area) in each ratio."""
    return torch.tensor([(size * ratio**0.5, size / ratio**0.5) for size in sizes for ratio in ratios])


def placed(
    places: Float[Tensor, "cell 2"], steps: Float[Tensor, " cell"], forms: Float[Tensor, "anchor 2"]
) -> Float[Tensor, "cell anchor 4"]:
    """Top, left, bottom, right of the anchors at cells that look from a row and column."""
    half = forms[None] * steps[:, None, None] / 2
    return torch.cat([places[:, None] - half, places[:, None] + half], -1)


def decoded(difference: Float[Tensor, "*box 4"], anchors: Float[Tensor, "*#box 4"]) -> Float[Tensor, "*box 4"]:
    """Boxes of anchors and of what a network says: shift of row and column in sizes, logarithm of height and width."""
    size = anchors[..., 2:] - anchors[..., :2]
    middle = anchors[..., :2] + size / 2 + difference[..., :2] * size
    half = size * difference[..., 2:].clamp(max=LARGEST).exp() / 2
    return torch.cat([middle - half, middle + half], -1)


def encoded(boxes: Float[Tensor, "*box 4"], anchors: Float[Tensor, "*box 4"]) -> Float[Tensor, "*box 4"]:
    """The inverse of `decoded`."""
    size, real = anchors[..., 2:] - anchors[..., :2], boxes[..., 2:] - boxes[..., :2]
    shift = (boxes[..., :2] + real / 2 - anchors[..., :2] - size / 2) / size
    return torch.cat([shift, (real.clamp(min=0.1) / size).log()], -1)


@torch.no_grad()
def matched(anchors: Float[Tensor, "anchor 4"], edges: Float[Tensor, "box 4"]) -> Int64[Tensor, " anchor"]:
    """Which box each anchor learns, or `NONE`. A box that no anchor fits well has those that fit it best, where no
    other box has them.
    """
    if not len(edges):
        return torch.full((len(anchors),), NONE, device=anchors.device)
    overlap = iou(edges[:, None], anchors[None])
    share, box = overlap.max(0)
    found = torch.where(share >= HIT, box, NONE)
    best = overlap.amax(1, keepdim=True)
    which, anchor = torch.nonzero((overlap == best) & (best > 0), as_tuple=True)
    found[anchor] = which
    return found
