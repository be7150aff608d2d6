"""Detectors that look from the cells of a pyramid of features: where the cells are, and their answers as a dense map.

The cell of row i and column j at a step of s pixels looks from the middle of its square, (s (i + 1/2), s (j + 1/2)). In
the dense map its answer stands in the pixel (s i + s / 2, s j + s / 2). For steps that are powers of two from 4 on no
two cells share a pixel or have neighbouring ones, so every cell is a peak of its own, and the map can be cut and joined
like that of any network. Distances are not negative: a box that lies entirely beside its pixel is told as one that
reaches to it. Objects of at least a step hold the middle of a cell, so the first step is to be no larger than they are.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

NOTHING = -12.0
"""Logit of pixels without a cell: six in a million."""
NEAREST = 0.01
"""Pixels; no side of a box is nearer to the pixel that tells of it."""


def centres(
    shape: tuple[int, int], steps: Sequence[int], device: torch.device
) -> tuple[Float[Tensor, "cell 2"], Float[Tensor, " cell"]]:
    """(n, 2) row and column that each cell looks from, and (n,) its step; finest level first, row by row.

    ``shape`` (y, x) pixels, a multiple of every step.
    """
    places, sizes = [], []
    for step in steps:
        y, x = ((torch.arange(n // step, device=device) + 0.5) * step for n in shape)
        places.append(torch.stack(torch.meshgrid(y, x, indexing="ij"), -1).reshape(-1, 2))
        sizes.append(torch.full((len(places[-1]),), float(step), device=device))
    return torch.cat(places), torch.cat(sizes)


def flat(levels: Sequence[Float[Tensor, "batch channel _y _x"]]) -> Float[Tensor, "batch cell channel"]:
    """The answers of all cells, in the order of `centres`."""
    return torch.cat([level.flatten(2) for level in levels], 2).transpose(1, 2)


def dense(
    logits: Sequence[Float[Tensor, "batch class _y _x"]],
    sides: Sequence[Float[Tensor, "batch side _y _x"]],
    steps: Sequence[int],
) -> Float[Tensor, "batch channel y x"]:
    """(B, K + 4, y, x) float32 as task detection has it, of the logits of cells and of how far, in pixels, their boxes
    reach to north, south, west and east from where they look.

    With an angle behind the sides, (B, K + 6, y, x): then the cosine and the sine of twice the angle.
    """
    heat = [_spread(level.float() - NOTHING, step) for level, step in zip(logits, steps, strict=True)]
    told = [_spread(_from_pixel(level.float()), step) for level, step in zip(sides, steps, strict=True)]
    return torch.cat([sum(heat[1:], heat[0]) + NOTHING, sum(told[1:], told[0])], 1)


def _from_pixel(sides: Tensor) -> Tensor:
    """Logarithms of sides (B, 4 or 5, y, x) from the middle of the pixel, half a pixel to the south-east of where the
    cell looks from; then cosine and sine of twice the angle."""
    north, south, west, east, *turn = sides.unbind(1)
    down = right = torch.full_like(north, 0.5)
    if turn:
        cos, sin = turn[0].cos(), turn[0].sin()
        down, right = (cos - sin) / 2, (cos + sin) / 2
    logs = [s.clamp(min=NEAREST).log() for s in (north + down, south - down, west + right, east - right)]
    return torch.stack([*logs, *([(2 * turn[0]).cos(), (2 * turn[0]).sin()] if turn else [])], 1)


def _spread(level: Tensor, step: int) -> Tensor:
    """(B, C, y, x) pixels of cells, 0 where there is none."""
    batch, channels, height, width = level.shape
    before, after = step // 2, step - step // 2 - 1
    apart = F.pad(level[:, :, :, None, :, None], (before, after, 0, 0, before, after))
    return apart.reshape(batch, channels, height * step, width * step)
