"""Candidates of objects in the raw output of a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from geoml.errors import ModelError
from geoml.grid.plane import Window
from geoml.outputs._objects.tables import SIDES
from geoml.vector.boxes import ANGLE
from geoml.vector.masks import MASK, WORDS

STEPS = 10_000
"""Steps of a score: what two processors make differently in the last digits is no other peak."""
FINE = 16
"""Steps of a pixel that sides of boxes lie on."""
TURNS = 1024
"""Steps of a radian that angles lie on."""


def candidates(
    raw: Tensor, chip: Window, known: Tensor, classes: Sequence[int], least: float, longest: int
) -> Mapping[str, Tensor]:
    """The columns (n,) of things in (K + 4, y, x) raw output of ``chip``: peaks of at least ``least``; with an angle in
    (K + 6, y, x), with a mask (n, `WORDS`) in (K + 4 + `WORDS`, y, x).

    ``classes`` are the values of the K classes. No side is longer than ``longest`` pixels. Raises ModelError if the
    raw output is not finite and something is ``known`` (y, x).
    """
    raw = raw.float()
    if bad := int((~torch.isfinite(raw).all(0) & known).sum()):
        raise ModelError(f"the output of the model is not finite in {bad} pixels; check weights and normalisation")
    last = len(classes) + len(SIDES)
    heat = torch.sigmoid(raw[: len(classes)]).masked_fill(~known, 0)
    index, y, x = torch.nonzero(_peaks(heat) & (heat >= least), as_tuple=True)
    sides = raw[len(classes) : last, y, x].exp().clamp(0.5, longest).mul(FINE).round().div(FINE)
    values = torch.tensor(list(classes), device=raw.device)
    found = {"y": y + chip.y0, "x": x + chip.x0, **dict(zip(SIDES, sides, strict=True))}
    if len(raw) == last + WORDS:
        found[MASK] = raw[last:, y, x].T.round().int()
    elif len(raw) > last:
        cos, sin = raw[last:, y, x]
        found[ANGLE] = (torch.atan2(sin, cos) / 2).mul(TURNS).round().div(TURNS)
        sides = _upright(sides, found[ANGLE])
    share = _share(known, y, x, sides)
    return {
        **found,
        "score": heat[index, y, x].mul(STEPS).round().div(STEPS),
        "class": values[index],
        "valid": share,
    }


def _upright(sides: Tensor, angle: Tensor) -> Tensor:
    """(4, n) how far the upright boxes around oriented ones reach."""
    north, south, west, east = sides
    cos, sin = angle.cos(), angle.sin()
    corners = [(x * cos - y * sin, x * sin + y * cos) for y in (-north, south) for x in (-west, east)]
    x, y = (torch.stack(part) for part in zip(*corners, strict=True))
    return torch.stack([-y.amin(0), y.amax(0), -x.amin(0), x.amax(0)]).clamp(min=0.5)


def _peaks(heat: Tensor) -> Tensor:
    """(K, y, x) True where no neighbour is higher; of a flat top the first pixel alone, or it would be many peaks."""
    around = F.pad(heat, (1, 1, 1, 1), value=-1.0)
    height, width = heat.shape[1:]
    peak = torch.ones_like(heat, dtype=torch.bool)
    for dy in range(3):
        for dx in range(3):
            other = around[:, dy : dy + height, dx : dx + width]
            peak &= heat > other if (dy, dx) < (1, 1) else heat >= other
    return peak


def _share(known: Tensor, y: Tensor, x: Tensor, sides: Tensor) -> Tensor:
    """(n,) share of the pixels of boxes, as far as they lie in the chip, that are ``known`` (y, x)."""
    height, width = known.shape
    total = F.pad(known.to(torch.int32).cumsum(0).cumsum(1), (1, 0, 1, 0))
    north, south, west, east = sides
    top, left = ((c + 0.5 - side).floor().clamp(min=0).long() for c, side in ((y, north), (x, west)))
    bottom = (y + 0.5 + south).ceil().clamp(max=height).long()
    right = (x + 0.5 + east).ceil().clamp(max=width).long()
    seen = total[bottom, right] - total[top, right] - total[bottom, left] + total[top, left]
    share: Tensor = seen / ((bottom - top) * (right - left))
    return share
