"""Set abstraction and feature propagation of PointNet++ over given groups.

Qi et al. 2017, https://arxiv.org/abs/1706.02413, sections 3.2 to 3.4: a group of places is mapped by a shared
perceptron and its maximum is what the centre knows; on the way back finer places are interpolated from coarser ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from geoml.nn.points.exact import ExactLayer, taken

PART = 1 << 14
"""Rows of groups at a time in eval mode."""


def perceptron(*widths: int) -> nn.Sequential:
    """Layers from each width to the next."""
    return nn.Sequential(*(ExactLayer(a, b) for a, b in pairwise(widths)))


def group_maximum(rows: Float[Tensor, "row width"], count: Int[Tensor, " group"]) -> Float[Tensor, "group width"]:
    """The largest value of each group of ``count`` rows, one after the other; no group is empty."""
    out: Tensor = torch.segment_reduce(rows, "max", lengths=count, axis=0)
    return out


def parts(count: Int[Tensor, " group"]) -> Iterator[tuple[slice, slice]]:
    """Whole groups with some `PART` rows together, one after the other, and their rows."""
    ends = torch.cumsum(count, 0)
    cuts = torch.searchsorted(ends, torch.arange(PART, int(ends[-1]) + PART, PART, device=ends.device), right=True)
    begun = start = 0
    for cut in [*cuts.tolist(), len(count)]:
        if cut > begun:
            end = int(ends[cut - 1])
            yield slice(begun, cut), slice(start, end)
            begun, start = cut, end


class SetAbstraction(nn.Module):
    """What the centres know: the maximum over their groups of what is known of each place and where it lies."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.layers = perceptron(inputs + 3, width, width)

    def forward(
        self,
        known: Float[Tensor, "fine inputs"],
        source: Int[Tensor, " edge"],
        count: Int[Tensor, " coarse"],
        place: Float[Tensor, "edge 3"],
    ) -> Float[Tensor, "coarse width"]:
        """Each group has ``count`` rows: ``source``, which places they are, and ``place``, where these lie from it."""
        if self.training:
            return group_maximum(self.layers(torch.cat([taken(known, source), place], 1)), count)
        first, second = self.layers
        assert isinstance(first, ExactLayer)
        brought = first.of_known(known)
        out = []
        for groups, rows in parts(count):
            found = second(first.beside(brought, source[rows], place[rows]))
            out.append(group_maximum(found, count[groups]))
        return torch.cat(out)


class FeaturePropagation(nn.Module):
    """What finer places know, after those about them have told what they know."""

    def __init__(self, coarse: int, fine: int, width: int) -> None:
        super().__init__()
        self.layers = perceptron(coarse + fine, width)

    def forward(
        self,
        coarse: Float[Tensor, "coarse inputs"],
        fine: Float[Tensor, "fine own"],
        near: Int[Tensor, "fine nearest"],
        weight: Float[Tensor, "fine nearest"],
    ) -> Float[Tensor, "fine width"]:
        """``near`` are the coarser places to interpolate from, ``weight`` says how much each counts."""
        told = taken(coarse, near[:, 0]) * weight[:, :1]
        for k in range(1, near.shape[1]):
            told = told + taken(coarse, near[:, k]) * weight[:, k : k + 1]
        out: Tensor = self.layers(torch.cat([told if self.training else told.round_(), fine], 1))
        return out
