"""The loss of a heat map of centres with four distances: raw output (B, K + 4, y, x) against rendered boxes.

What a rendered box is: `geoml.nn.objects.centre_heat`. Heat: the focal loss of CenterNet (Zhou et al. 2019,
https://arxiv.org/abs/1904.07850). Distances: generalised intersection over union (Rezatofighi et al. 2019,
https://arxiv.org/abs/1902.09630) over the Gaussian and weighted by it, as in TTFNet (Liu et al. 2020,
https://arxiv.org/abs/1909.00700), and the smooth L1 of their logarithms,
which has a gradient for boxes that are far off. Unknown pixels change nothing.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Float32
from torch import Tensor
from torch.nn import functional as F

from geoml.nn.metrics import IGNORE
from geoml.nn.objects.centre_heat import HEAT, INDEX, SIDES

WEIGHT = 5.0
"""Of the distances, beside heat."""


def centre_loss(raw: Float[Tensor, "batch channel y x"], target: Float32[Tensor, "batch 6 y x"]) -> Float32[Tensor, ""]:
    """Scalar float32 loss of raw output (B, K + 4, y, x) against rendered boxes (B, 6, y, x); zero for unknown ones."""
    raw, heat, index = raw.float(), target[:, HEAT], target[:, INDEX]
    known = index != IGNORE
    logits, sides = raw[:, :-4], raw[:, -4:]
    classes = torch.arange(logits.shape[1], device=raw.device).view(1, -1, 1, 1)
    wanted = heat.unsqueeze(1) * (index.unsqueeze(1) == classes)
    inside = known & (heat > 0)
    objects = (wanted == 1).sum().clamp(min=1)
    return (_focal(logits, wanted) * known.unsqueeze(1)).sum() / objects + WEIGHT * _distances(
        sides.movedim(1, -1)[inside], target[:, SIDES].movedim(1, -1)[inside], heat[inside]
    )


def _focal(logits: Tensor, wanted: Tensor) -> Tensor:
    """CenterNet's focal loss of each pixel and class, with alpha 2 and beta 4."""
    p = torch.sigmoid(logits)
    centre = F.softplus(-logits) * (1 - p) ** 2
    other = F.softplus(logits) * p**2 * (1 - wanted) ** 4
    return torch.where(wanted == 1, centre, other)


def _distances(logs: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """Weighted mean over pixels (n, 4); zero for none."""
    real = truth.clamp(min=0.1)
    guess = logs.clamp(max=12).exp()
    (north, south, west, east), (n, s, w, e) = guess.unbind(1), real.unbind(1)
    height, width = torch.minimum(north, n) + torch.minimum(south, s), torch.minimum(west, w) + torch.minimum(east, e)
    both = height * width
    either = (north + south) * (west + east) + (n + s) * (w + e) - both
    hull = (torch.maximum(north, n) + torch.maximum(south, s)) * (torch.maximum(west, w) + torch.maximum(east, e))
    giou = both / either - (hull - either) / hull
    each = 1 - giou + F.smooth_l1_loss(logs, real.log(), reduction="none").mean(1)
    return (each * weight).sum() / weight.sum().clamp(min=1e-6)
