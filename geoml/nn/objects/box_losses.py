"""Losses of boxes: how far one box is from another, and a side told as a distribution over distances.

Complete intersection over union: Zheng et al. 2020, https://arxiv.org/abs/1911.08287. Distribution focal loss: Li et
al. 2020, https://arxiv.org/abs/2006.04388. Oriented boxes as Gaussians: Llerena et al. 2021,
https://arxiv.org/abs/2106.06072.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

SMALL = 1e-7


def iou(a: Float[Tensor, "*#box 4"], b: Float[Tensor, "*#box 4"]) -> Float[Tensor, "*_pairs"]:
    """Intersection over union of pairs of top, left, bottom, right; shapes broadcast."""
    both, either = _areas(a, b)
    return both / (either + SMALL)


def complete_iou(a: Float[Tensor, "*#box 4"], b: Float[Tensor, "*#box 4"]) -> Float[Tensor, "*_pairs"]:
    """`iou` less how far the centres are apart, as a share of the hull, and how much the proportions differ."""
    share = iou(a, b)
    hull = (torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])).pow(2).sum(-1) + SMALL
    apart = ((a[..., :2] + a[..., 2:] - b[..., :2] - b[..., 2:]) / 2).pow(2).sum(-1)
    (tall, wide), (high, broad) = ((box[..., 2:] - box[..., :2]).unbind(-1) for box in (a, b))
    angle = torch.atan(broad / (high + SMALL)) - torch.atan(wide / (tall + SMALL))
    shape = 4 / math.pi**2 * angle.pow(2)
    with torch.no_grad():
        weight = shape / (1 - share + shape + SMALL)
    return share - apart / hull - weight * shape


def gaussian_iou(a: Float[Tensor, "*#box 5"], b: Float[Tensor, "*#box 5"]) -> Float[Tensor, "*_pairs"]:
    """Of oriented boxes (`geoml.nn.objects.true_boxes`), 0 to 1: one less the Hellinger distance of the Gaussians with
    their means and covariances; shapes broadcast. It is smooth in the angle, which means nothing for a square.
    """
    (y, x), (high, wide, mixed, one) = (t.unbind(-1) for t in _gaussian(a))
    (v, u), (tall, broad, both, other) = (t.unbind(-1) for t in _gaussian(b))
    yy, xx, xy, dy, dx = high + tall, wide + broad, mixed + both, y - v, x - u
    size = yy * xx - xy.square() + SMALL
    apart = (yy * dx.square() + xx * dy.square() - 2 * xy * dx * dy) / size / 4
    sizes = (one * other).sqrt()
    far = apart + (size / (4 * sizes + SMALL)).clamp(min=SMALL).log() / 2
    return 1 - (1 - torch.exp(-far.clamp(SMALL, 100)) + SMALL).sqrt()


def distribution_focal(logits: Float[Tensor, "side bin"], distance: Float[Tensor, " side"]) -> Float[Tensor, " side"]:
    """Cross entropy to the two bins around a distance (in bins, within them), each by how near it is."""
    low = distance.floor().clamp(0, logits.shape[1] - 2)
    high = (distance - low).clamp(0, 1)
    log = F.log_softmax(logits, 1)
    near, far = (log.gather(1, (low.long() + k)[:, None])[:, 0] for k in (0, 1))
    return -(near * (1 - high) + far * high)


def _gaussian(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """(…, 2) row and column of the mean, and (…, 4) variance of rows, of columns, their covariance, and the
    determinant, which in float32 is not what the three would give."""
    tall, wide = ((boxes[..., 2:4] - boxes[..., :2]).clamp(min=0.1).square() / 12).unbind(-1)
    cos, sin = boxes[..., 4].cos(), boxes[..., 4].sin()
    rows, columns = wide * sin.square() + tall * cos.square(), wide * cos.square() + tall * sin.square()
    spread = rows, columns, (wide - tall) * sin * cos, tall * wide
    return (boxes[..., :2] + boxes[..., 2:4]) / 2, torch.stack(spread, -1)


def _areas(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    size = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0)
    both = size.prod(-1)
    one, other = ((box[..., 2:] - box[..., :2]).clamp(min=0).prod(-1) for box in (a, b))
    return both, one + other - both
