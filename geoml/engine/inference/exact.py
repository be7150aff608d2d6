"""Chips joined at their cores: with a halo as wide as the network sees, the answer is that of one forward over all.

With less, it is that of one lattice of whole chips."""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geoml.engine.contract import PixelOutput
from geoml.engine.inference.network import Network, averaged
from geoml.engine.inference.strip import Chips, Strip, strip_of
from geoml.engine.pixels import Pixels
from geoml.grid.plane import Window


def exact(
    network: Network[PixelOutput], pixels: Pixels, window: Window, wanted: NDArray[np.bool_]
) -> Iterator[tuple[Window, list[Tensor]]]:
    """Rows of cores. A chip is trimmed to what touches the window, where its halo makes that free of effect; one
    without a pixel of ``wanted``, which covers the pixels, is not computed."""
    grid, backend = network.grid, network.backend
    for row in grid.rows(window):
        cores = [network.trimmed(grid.output_window(*k), window) for k in row]
        whole = cores[0].union(cores[-1])
        here = Window(max(whole.y0, window.y0), window.x0, min(whole.y1, window.y1), window.x1)
        out = _blank(network, here)
        parts = [part for core in cores for part in network.parts(core)]
        todo = [w for w in parts if wanted[w.intersect(window).slices(pixels.origin)].any()]
        if todo:
            strip = strip_of(backend, network.card, pixels, reduce(Window.union, todo).expand(grid.halo))

            def work(cores: list[Window], strip: Strip = strip) -> list[Tensor]:
                return _encoded(network, strip.chips([c.expand(grid.halo) for c in cores]))

            for batch, found in backend.each(todo, work, grid.stride, free=not grid.whole):
                for i, core in enumerate(batch):
                    kept = core.intersect(window)
                    part = (..., *kept.slices(core))
                    for target, value in zip(out, found, strict=True):
                        target[(..., *kept.slices(here))] = value[i][part]
        yield here, out


def _encoded(network: Network[PixelOutput], chips: Chips) -> list[Tensor]:
    """The encoded cores of chips. Without averaging the raw output is encoded as it is, which is fastest."""
    halo, output = network.grid.halo, network.output
    if network.tta:
        return output.encode(_inner(averaged(network, chips), halo))
    return output.encode_raw(_inner(network.forward(chips), halo))


def _blank(network: Network[PixelOutput], window: Window) -> list[Tensor]:
    shapes = [((len(layer.names), *window.shape), layer.dtype) for layer in network.output.layers]
    return [torch.from_numpy(np.zeros(s, dtype)).to(network.backend.device) for s, dtype in shapes]


def _inner(x: Tensor, halo: int) -> Tensor:
    return x[..., halo : x.shape[-2] - halo, halo : x.shape[-1] - halo]
