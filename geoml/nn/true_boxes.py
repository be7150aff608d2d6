"""The boxes behind a rendered target (`geoml.nn.centre_heat`), for detectors that learn from boxes, not from heat."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float32, Int64
from torch import Tensor

from geoml.nn.centre_heat import HEAT, INDEX, SIDES
from geoml.nn.metrics import IGNORE

SAME = 4
"""Parts of a pixel; boxes of one class whose edges differ by less are one, seen from several pixels."""


@dataclass(frozen=True)
class TrueBoxes:
    """What is true of one picture."""

    classes: Int64[Tensor, " box"]
    edges: Float[Tensor, "box 4"]
    """Top, left, bottom, right in pixels."""
    unknown: Bool[Tensor, "y x"]
    """Pixels of which nothing is known, also where most of an object lies outside of the picture."""

    def known(self, places: Float[Tensor, "cell 2"]) -> Bool[Tensor, " cell"]:
        """True where something is known of the pixel at a row and column; beyond the picture nothing is."""
        inside = (places[:, 0] < self.unknown.shape[0]) & (places[:, 1] < self.unknown.shape[1])
        row, col = (places[:, k].long().clamp(max=self.unknown.shape[k] - 1) for k in (0, 1))
        return inside & ~self.unknown[row, col]


def true_boxes(target: Float32[Tensor, "6 y x"]) -> TrueBoxes:
    """Those of one picture; boxes of an unknown class become unknown ground."""
    heat, index = target[HEAT], target[INDEX]
    row, col = torch.nonzero(heat == 1, as_tuple=True)
    label, shape = index[row, col], edges_from(target[SIDES, row, col].T, row + 0.5, col + 0.5)
    known = label != IGNORE
    found = torch.cat([label[known, None], shape[known]], 1)
    _, group = torch.unique((found * SAME).round(), dim=0, return_inverse=True)
    count = int(group.max()) + 1 if len(group) else 0
    first = torch.full((count,), len(found), device=group.device)
    first = first.scatter_reduce(0, group, torch.arange(len(group), device=group.device), "amin")
    found = found[first]
    return TrueBoxes(found[:, 0].long(), found[:, 1:], (index == IGNORE) | _elsewhere(target))


def edges_from(
    sides: Float[Tensor, "box 4"], row: Float[Tensor, " box"], col: Float[Tensor, " box"]
) -> Float[Tensor, "box 4"]:
    """Top, left, bottom, right of boxes that reach ``sides`` (north, south, west, east) from a place."""
    north, south, west, east = sides.unbind(1)
    return torch.stack([row - north, col - west, row + south, col + east], 1)


def _elsewhere(target: Tensor) -> Tensor:
    """(y, x) True in pixels of an object whose centre lies outside of the picture."""
    height, width = target.shape[1:]
    north, south, west, east = target[SIDES]
    y = torch.arange(height, device=target.device)[:, None] + 0.5 + (south - north) / 2
    x = torch.arange(width, device=target.device) + 0.5 + (east - west) / 2
    outside: Tensor = (y < 0) | (y > height) | (x < 0) | (x > width)
    return outside & (target[HEAT] > 0)
