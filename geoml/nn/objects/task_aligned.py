"""Which cell of a detector learns which box: by how well it classifies and places it already.

Task-aligned assignment: Feng et al., TOOD. ICCV 2021, https://arxiv.org/abs/2108.07755.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

MOST = 10
"""Cells that learn one box."""
ALPHA, BETA = 0.5, 6.0
"""Powers of the probability and of the overlap."""


@dataclass(frozen=True)
class Assigned:
    """Of n cells: whether it learns a box, which one, and (n,) how high its probability shall be, 0 to 1."""

    mine: Bool[Tensor, " cell"]
    box: Int64[Tensor, " cell"]
    aim: Float[Tensor, " cell"]


@torch.no_grad()
def assign(
    probability: Float[Tensor, "cell class"],
    classes: Int64[Tensor, " box"],
    sides: Float[Tensor, "box cell 4"],
    overlap: Float[Tensor, "box cell"],
) -> Assigned:
    """The cells of one picture to its true boxes.

    ``sides`` are how far each box reaches from where each cell looks (`geoml.nn.objects.true_boxes.sides_from`),
    ``overlap`` (0 to 1) is that of each box and what each cell guesses. A box that no cell looks from learns through
    the cell that is nearest to it.
    """
    boxes, cells = overlap.shape
    if not boxes:
        none = torch.zeros(cells, device=overlap.device)
        return Assigned(none.bool(), none.long(), none)
    least = sides.amin(-1)
    inside = least >= 0
    lost = ~inside.any(1)
    inside[lost, least[lost].argmax(1)] = True
    overlap = overlap * inside
    metric = probability[:, classes].T.pow(ALPHA) * overlap.pow(BETA) * inside
    best = (metric + 1e-12 * inside).topk(min(MOST, cells), dim=1)
    taken = torch.zeros_like(inside).scatter_(1, best.indices, True) & inside
    share, box = torch.where(taken, overlap, -1.0).max(0)  # of boxes that want one cell, the one that it fits best
    mine = share >= 0
    one = mine[None] & (box[None] == torch.arange(boxes, device=box.device)[:, None])
    metric, overlap = metric * one, overlap * one
    scale = overlap.amax(1, keepdim=True) / metric.amax(1, keepdim=True).clamp(min=1e-12)
    return Assigned(mine, box, (metric * scale).amax(0))
