"""A row of chips on the device: pixels are sent once, as stored, and chips are cut and scaled there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from geoml.engine.contract import Backend, Pixels
from geoml.grid.plane import Window
from geoml.io.cards.map_card import MapCard


@dataclass(frozen=True, slots=True)
class Strip:
    """Pixels of ``window``: ``raw`` (channel, y, x) as stored, ``known`` (y, x), ``mul`` and ``add`` (channel,)."""

    raw: Tensor
    known: Tensor
    mul: Tensor
    add: Tensor
    complete: bool
    window: Window

    def chips(self, windows: Sequence[Window]) -> Tensor:
        """(B, channel, y, x) float32 of windows of one shape as the model sees them; 0 where there is no data."""
        places = [w.slices(self.window) for w in windows]
        shape = (len(places), *self.raw[(slice(None), *places[0])].shape)
        out = torch.empty(shape, device=self.raw.device)  # scaling it in channels_last takes five times as long
        for chip, (rows, cols) in zip(out, places, strict=True):
            chip.copy_(self.raw[:, rows, cols])
        out.mul_(self.mul[:, None, None]).add_(self.add[:, None, None])
        if not self.complete:
            for chip, (rows, cols) in zip(out, places, strict=True):
                chip.masked_fill_(~self.known[rows, cols], 0.0)
        return out


def strip_of(backend: Backend, card: MapCard, pixels: Pixels, window: Window) -> Strip:
    """The pixels of a window on their way to the device, as stored: floats are four times as large."""
    part = pixels.crop(window)
    mul, add = (torch.from_numpy(v).to(backend.device) for v in pixels.coefficients(card))
    raw, known = backend.upload(part.data), backend.upload(part.valid)
    return Strip(raw, known, mul, add, bool(part.valid.all()), window)
