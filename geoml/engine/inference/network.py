"""A network as the joiners run it: on a device, with its card, its lattice of chips and the decoding of its output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor

from geoml.engine.contract import AnyOutput, Backend, PixelOutput
from geoml.engine.inference.strip import Chips
from geoml.grid.chips import CORE, ChipGrid
from geoml.grid.plane import Window
from geoml.io.cards.map_card import MapCard

OutputT = TypeVar("OutputT", bound=AnyOutput)


@dataclass(frozen=True)
class Network(Generic[OutputT]):
    """``tta``: what is averaged is averaged over the eight flips and quarter turns (D4)."""

    backend: Backend
    card: MapCard
    grid: ChipGrid
    output: OutputT
    tta: bool = False

    def forward(self, chips: Chips) -> Tensor:
        """Raw output (B, K, y, x)."""
        return self.backend.forward(chips.x, chips.context)

    def parts(self, core: Window) -> list[Window]:
        """A core, or its halves and theirs, so that no chip has more pixels than are worth their memory."""
        height, width = core.expand(self.grid.halo).shape
        if self.grid.whole or not self.backend.most or max(core.shape) <= CORE or height * width <= self.backend.most:
            return [core]
        return [part for half in core.halves(self.grid.stride) for part in self.parts(half)]

    def trimmed(self, core: Window, window: Window) -> Window:
        """The part of a core that touches ``window``, on the network's stride."""
        if self.grid.whole or self.backend.fixed:  # a compiled program has one shape
            return core
        s, w = self.grid.stride, core.intersect(window)
        return Window(w.y0 // s * s, w.x0 // s * s, -(-w.y1 // s) * s, -(-w.x1 // s) * s)


def averaged(network: Network[PixelOutput], chips: Chips) -> Tensor:
    """(B, channel, y, x) of chips: what the output averages, over flips and turns when asked."""
    forward, average = network.forward, network.output.average
    if not network.tta:
        return average(forward(chips))
    total = torch.zeros(())
    for turns in range(4):
        for flip in (False, True):
            found = torch.rot90(average(forward(chips.turned(turns, flip))), -turns, (-2, -1))
            total = total.to(found.device) + (found.flip(-1) if flip else found)
    return total / 8
