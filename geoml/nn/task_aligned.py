"""Which cell of a detector learns which box: by how well it classifies and places it already.

Task-aligned assignment: Feng et al., TOOD. ICCV 2021, https://arxiv.org/abs/2108.07755.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from geoml.nn.box_losses import iou

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
    guess: Float[Tensor, "cell 4"],
    places: Float[Tensor, "cell 2"],
    classes: Int64[Tensor, " box"],
    edges: Float[Tensor, "box 4"],
) -> Assigned:
    """The cells of one picture, which look from ``places`` (row, column) and guess ``guess``, to its true boxes.

    A box that no cell looks from learns through the cell that is nearest to its middle.
    """
    none = torch.zeros(len(places), device=places.device)
    if not len(classes):
        return Assigned(none.bool(), none.long(), none)
    middle = (edges[:, :2] + edges[:, 2:]) / 2
    inside = ((places[None] >= edges[:, None, :2]) & (places[None] <= edges[:, None, 2:])).all(-1)
    nearest = (places[None] - middle[:, None]).square().sum(-1).argmin(1)
    lost = ~inside.any(1)
    inside[lost, nearest[lost]] = True
    overlap = iou(edges[:, None], guess[None]) * inside
    metric = probability[:, classes].T.pow(ALPHA) * overlap.pow(BETA) * inside
    best = (metric + 1e-12 * inside).topk(min(MOST, len(places)), dim=1)
    taken = torch.zeros_like(inside).scatter_(1, best.indices, True) & inside
    share, box = torch.where(taken, overlap, -1.0).max(0)  # of boxes that want one cell, the one that it fits best
    mine = share >= 0
    one = mine[None] & (box[None] == torch.arange(len(classes), device=box.device)[:, None])
    metric, overlap = metric * one, overlap * one
    scale = overlap.amax(1, keepdim=True) / metric.amax(1, keepdim=True).clamp(min=1e-12)
    return Assigned(mine, box, (metric * scale).amax(0))
