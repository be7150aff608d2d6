"""The boxes behind a rendered target (`geoml.nn.objects.centre_heat`), for detectors that learn from boxes alone.

Boxes are (n, 4) top, left, bottom, right in pixels, or oriented, (n, 5): what they are when they are turned back about
their middle, and the angle in radians from east towards south, from -pi / 2 on and below pi / 2, of the longer side.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float32, Int64
from torch import Tensor

from geoml.nn.metrics import IGNORE
from geoml.nn.objects.centre_heat import HEAT, INDEX, box_channels

THIN = 0.1
"""Pixels; no side of a box is shorter."""
LIKE = 1e-3
"""Pixels by which one side is longer than the other, or it is a square."""
SAME = 4
"""Parts of a pixel; boxes of one class whose edges differ by less are one, seen from several pixels."""


@dataclass(frozen=True)
class TrueBoxes:
    """What is true of one picture."""

    classes: Int64[Tensor, " box"]
    edges: Float[Tensor, "box side"]
    pixels: Int64[Tensor, "box 2"]
    """Row and column of a pixel that holds the centre and tells of the box."""
    unknown: Bool[Tensor, "y x"]
    """Pixels of which nothing is known, also where most of an object lies outside of the picture."""

    def known(self, places: Float[Tensor, "cell 2"]) -> Bool[Tensor, " cell"]:
        """True where something is known of the pixel at a row and column; beyond the picture nothing is."""
        inside = (places[:, 0] < self.unknown.shape[0]) & (places[:, 1] < self.unknown.shape[1])
        row, col = (places[:, k].long().clamp(max=self.unknown.shape[k] - 1) for k in (0, 1))
        return inside & ~self.unknown[row, col]


def true_boxes(target: Float32[Tensor, "channel y x"]) -> TrueBoxes:
    """Those of one picture, oriented where it has angles; boxes of an unknown class become unknown ground."""
    heat, index = target[HEAT], target[INDEX]
    row, col = torch.nonzero(heat == 1, as_tuple=True)
    told = target[box_channels(len(target))]
    label, shape = index[row, col], edges_from(told[:, row, col].T, row + 0.5, col + 0.5)
    known = label != IGNORE
    found = torch.cat([label[known, None], _lying(_thick(shape[known]))], 1)
    _, group = torch.unique((found * SAME).round(), dim=0, return_inverse=True)
    count = int(group.max()) + 1 if len(group) else 0
    first = torch.full((count,), len(found), device=group.device)
    first = first.scatter_reduce(0, group, torch.arange(len(group), device=group.device), "amin")
    found, pixels = found[first], torch.stack([row, col], 1)[known][first]
    return TrueBoxes(found[:, 0].long(), found[:, 1:], pixels, (index == IGNORE) | _elsewhere(target))


def edges_from(
    sides: Float[Tensor, "box side"], row: Float[Tensor, " box"], col: Float[Tensor, " box"]
) -> Float[Tensor, "box side"]:
    """Boxes that reach ``sides`` (north, south, west, east and perhaps an angle) from a place."""
    north, south, west, east, *turn = sides.unbind(1)
    if not turn:
        return torch.stack([row - north, col - west, row + south, col + east], 1)
    cos, sin, down, right = turn[0].cos(), turn[0].sin(), (south - north) / 2, (east - west) / 2
    row, col = row + right * sin + down * cos, col + right * cos - down * sin
    tall, wide = (north + south) / 2, (west + east) / 2
    return torch.stack([row - tall, col - wide, row + tall, col + wide, turn[0]], 1)


def sides_from(edges: Float[Tensor, "*#box side"], places: Float[Tensor, "*#box 2"]) -> Float[Tensor, "*box 4"]:
    """How far boxes reach to north, south, west and east, in their own frame, from a row and column; shapes broadcast.

    All are positive inside of a box and only there.
    """
    middle, half = (edges[..., :2] + edges[..., 2:4]) / 2, (edges[..., 2:4] - edges[..., :2]) / 2
    off = places - middle
    if edges.shape[-1] > 4:
        cos, sin = edges[..., 4].cos(), edges[..., 4].sin()
        off = torch.stack([off[..., 0] * cos - off[..., 1] * sin, off[..., 1] * cos + off[..., 0] * sin], -1)
    (low, high), (left, right) = ((half[..., k] + off[..., k], half[..., k] - off[..., k]) for k in (0, 1))
    return torch.stack([low, high, left, right], -1)


def _thick(edges: Tensor) -> Tensor:
    """Boxes that are at least `THIN` wide about their middle."""
    middle, half = (edges[:, :2] + edges[:, 2:4]) / 2, (edges[:, 2:4] - edges[:, :2]) / 2
    half = half.clamp(min=THIN / 2)
    return torch.cat([middle - half, middle + half, edges[:, 4:]], 1)


def _lying(edges: Tensor) -> Tensor:
    """Oriented boxes (n, 5) with their longer side along the angle; upright ones as they are."""
    if edges.shape[1] == 4:
        return edges
    middle, half = (edges[:, :2] + edges[:, 2:4]) / 2, (edges[:, 2:4] - edges[:, :2]) / 2
    upright = half[:, 0] > half[:, 1] + LIKE  # of a square every pixel has to say the same
    half = torch.where(upright[:, None], half.flip(1), half)
    angle = edges[:, 4] + torch.pi / 2 * upright
    angle = torch.remainder(angle + torch.pi / 2, torch.pi) - torch.pi / 2
    return torch.cat([middle - half, middle + half, angle[:, None]], 1)


def _elsewhere(target: Tensor) -> Tensor:
    """(y, x) True in pixels of an object whose centre lies outside of the picture."""
    height, width = target.shape[1:]
    y, x = (torch.arange(n, device=target.device) + 0.5 for n in (height, width))
    places = torch.cartesian_prod(y, x).unbind(1)
    shape = edges_from(target[box_channels(len(target))].flatten(1).T, *places)
    middle = ((shape[:, :2] + shape[:, 2:4]) / 2).T.reshape(2, height, width)
    outside: Tensor = (middle < 0).any(0) | (middle[0] > height) | (middle[1] > width)
    return outside & (target[HEAT] > 0)
