"""The loss of a heat map of centres with four distances: raw output (B, K + 4, y, x) against rendered boxes.

A rendered box (`render`) is a Gaussian around the pixels of its centre, and in each pixel of it the distances to the
four sides. Heat: the focal loss of CenterNet (Zhou et al. 2019, https://arxiv.org/abs/1904.07850). Distances:
generalised intersection over union (Rezatofighi et al. 2019, https://arxiv.org/abs/1902.09630) over the Gaussian and
weighted by it, as in TTFNet (Liu et al. 2020, https://arxiv.org/abs/1909.00700), and the smooth L1 of their logarithms,
which has a gradient for boxes that are far off. Unknown pixels change nothing.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Float32
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from geoml.nn.metrics import IGNORE

HEAT, INDEX, SIDES = 0, 1, slice(2, 6)
"""Channels of what is rendered: heat from 0 to 1, and 1 only in the pixels of a centre; index of the class, `IGNORE`
where nothing is known; pixels to north, south, west, east."""
CHANNELS = 6
SPREAD = 0.54
"""Share of a box that its Gaussian covers, three standard deviations to each side."""
NEAR = 1e-4
"""Pixels; what is nearer is at the same place."""
WEIGHT = 5.0
"""Of the distances, beside heat."""


def render(boxes: NDArray[np.float64], shape: tuple[int, int], elsewhere: int = 0) -> NDArray[np.float32]:
    """(6, y, x) float32 of boxes (n, 5): index of the class, top, left, bottom, right in pixels.

    A pixel is of the box whose Gaussian is highest there. Of two boxes whose centres share a pixel the smaller is kept.
    A box whose centre lies outside leaves what of its Gaussian lies inside. ``elsewhere`` is the index where no box is.
    """
    out = np.zeros((CHANNELS, *shape), np.float32)
    out[INDEX] = elsewhere
    sizes = (boxes[:, 3] - boxes[:, 1]) * (boxes[:, 4] - boxes[:, 2])
    for index, top, left, bottom, right in boxes[np.argsort(-sizes, kind="stable")]:
        rows, dy = _axis(top, bottom, shape[0])
        cols, dx = _axis(left, right, shape[1])
        heat = (dy[:, None] * dx[None]).astype(np.float32)
        part = out[:, rows, cols]
        mine = (heat >= part[HEAT]) & (heat > 0)
        y, x = np.mgrid[rows, cols] + 0.5
        values = heat, np.full_like(heat, index), y - top, bottom - y, x - left, right - x
        for channel, value in zip(part, values, strict=True):
            channel[mine] = value[mine]
    return out


def _axis(low: float, high: float, length: int) -> tuple[slice, NDArray[np.float64]]:
    """Pixels of the Gaussian along an axis, inside the box, and its values there.

    1 in the pixels that hold the centre: of an even number of pixels two, so that a turned box has turned centres.
    """
    centre, half = (low + high) / 2, SPREAD * (high - low) / 2
    first = int(np.ceil(centre - max(half, 0.5) - 0.5 - NEAR))
    last = int(np.floor(centre + max(half, 0.5) - 0.5 + NEAR))
    at = slice(*np.clip([first, last + 1], 0, length).tolist())
    off = np.abs(np.arange(at.start, at.stop) + 0.5 - centre) - 0.5
    return at, np.exp(-((np.where(off < NEAR, 0, off) / max(half / 3, 1 / 3)) ** 2) / 2)


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
