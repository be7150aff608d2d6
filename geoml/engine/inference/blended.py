"""Overlapping chips blended: for a network whose output depends on its whole chip."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geoml.engine.contract import PixelOutput
from geoml.engine.inference.network import Network, averaged
from geoml.engine.inference.strip import Strip, strip_of
from geoml.engine.pixels import Pixels
from geoml.grid.chips import blend_window
from geoml.grid.plane import Window


def blended(
    network: Network[PixelOutput], pixels: Pixels, window: Window, wanted: NDArray[np.bool_]
) -> Iterator[tuple[Window, list[Tensor]]]:
    """What the output averages, summed under the card's window in a rolling buffer as high as one chip.

    Every pixel gets all chips of the lattice that hold it, also at the border of the data, so no weight is zero. A chip
    without a pixel of ``wanted``, which covers the pixels, is not computed.
    """
    grid, backend, output = network.grid, network.backend, network.output
    weight = torch.from_numpy(blend_window(network.card.window, grid.size)).to(backend.device)
    rows = list(grid.rows(window))
    for n, row in enumerate(rows):
        chips = [grid.chip(*k) for k in row]
        place = chips[0].union(chips[-1])
        if n == 0:
            total = torch.zeros((output.channels, *place.shape), device=backend.device)
            norm = torch.zeros(place.shape, device=backend.device)
        todo = [c for c in chips if wanted[c.slices(pixels.origin)].any()]
        if todo:
            strip = strip_of(backend, network.card, pixels, place)

            def work(batch: list[Window], strip: Strip = strip) -> Tensor:
                return averaged(network, strip.chips(batch))

            for batch, found in backend.each(todo, work, grid.stride, free=False):
                for i, chip in enumerate(batch):
                    cols = slice(chip.x0 - place.x0, chip.x1 - place.x0)
                    total[..., cols] += found[i] * weight
                    norm[..., cols] += weight
        bottom = place.y1 if n == len(rows) - 1 else place.y0 + grid.step
        done = Window(place.y0, place.x0, bottom, place.x1).intersect(window)
        if not done.empty:
            part = done.slices(place)
            weights = norm[part]
            mean = torch.where(weights > 0, total[(slice(None), *part)] / weights, 0.0)  # 0: no chip had data
            yield done, [v[0] for v in output.encode(mean[None])]
        total = torch.cat([total[:, grid.step :], torch.zeros_like(total[:, : grid.step])], 1)
        norm = torch.cat([norm[grid.step :], torch.zeros_like(norm[: grid.step])])
