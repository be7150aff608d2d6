"""A row of chips on the device: pixels are sent once, as stored, and chips are cut and scaled there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from geoml.engine.contract import Backend
from geoml.engine.pixels import Pixels
from geoml.grid.plane import Window
from geoml.io.cards.map_card import MapCard
from geoml.nn.context import Context


@dataclass(frozen=True, slots=True)
class Chips:
    """(B, channel, y, x) float32 as the model sees it, 0 where there is no data, and what the network asks for."""

    x: Tensor
    context: Context

    def turned(self, turns: int, flip: bool) -> Chips:
        """Mirrored, then turned by so many quarters."""

        def turn(x: Tensor) -> Tensor:
            return torch.rot90(x.flip(-1) if flip else x, turns, (-2, -1))

        return Chips(turn(self.x), {k: turn(v) if v.ndim == 4 else v for k, v in self.context.items()})


@dataclass(frozen=True, slots=True)
class Strip:
    """Pixels of ``window``: ``raw`` (channel, y, x) as stored, ``mul`` and ``add`` (channel,).

    ``looks`` (step, y, x) is True where the channels of a step have data; there is one step where all come together.
    ``context`` holds what the network asks for, (n, y, x) or (n,).
    """

    raw: Tensor
    looks: Tensor
    mul: Tensor
    add: Tensor
    complete: bool
    window: Window
    context: Mapping[str, Tensor]

    @property
    def known(self) -> Tensor:
        """(y, x) True where there is data."""
        return self.looks.any(0)

    def chips(self, windows: Sequence[Window]) -> Chips:
        """Windows of one shape."""
        places = [w.slices(self.window) for w in windows]
        shape = (len(places), *self.raw[(slice(None), *places[0])].shape)
        out = torch.empty(shape, device=self.raw.device)  # scaling it in channels_last takes five times as long
        for chip, part in zip(out, places, strict=True):
            chip.copy_(self.raw[:, *part])
        out.mul_(self.mul[:, None, None]).add_(self.add[:, None, None])
        if not self.complete:
            for chip, part in zip(out, places, strict=True):
                steps = chip.view(len(self.looks), -1, *chip.shape[1:])
                steps.masked_fill_(~self.looks[:, None, *part], 0.0)
        return Chips(out, {k: _cut(v, places) for k, v in self.context.items()})


def _cut(values: Tensor, places: Sequence[tuple[slice, slice]]) -> Tensor:
    """(B, n, y, x) of (n, y, x), and (B, n) of (n,), which is the same for all."""
    if values.ndim == 1:
        return values.expand(len(places), -1)
    return torch.stack([values[:, *part] for part in places])


def strip_of(backend: Backend, card: MapCard, pixels: Pixels, window: Window) -> Strip:
    """The pixels of a window on their way to the device, as stored: floats are four times as large."""
    part = pixels.crop(window)
    mul, add = (torch.from_numpy(v).to(backend.device) for v in pixels.coefficients(card))
    looks = part.valid[None] if part.looks is None else part.looks
    raw, sent = backend.upload(part.data), backend.upload(looks)
    context = {} if part.looks is None else {"looks": sent}
    if part.months:
        context["months"] = backend.upload(np.array(part.months, np.int64))
    if part.plane is not None and "place" in backend.asks:
        context["place"] = backend.upload(part.place())
    context = {k: v for k, v in context.items() if k in backend.asks}
    return Strip(raw, sent, mul, add, bool(looks.all()), window, context)
