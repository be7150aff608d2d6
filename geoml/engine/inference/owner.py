"""Things that one pixel tells of: each is owned by the chip whose core holds that pixel, and so found once.

Chips are chips of one lattice of the plane, one at a time, without what lies far from their data: what a block finds in
one is, to the last bit, what every other block finds in it, however large blocks and batches are.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from geoml.engine.contract import OwnedOutput, Rows
from geoml.engine.inference.network import Network
from geoml.engine.inference.strip import Strip, strip_of
from geoml.engine.pixels import Pixels
from geoml.grid.plane import Window


def owned(network: Network[OwnedOutput], pixels: Pixels, window: Window) -> Iterator[Rows]:
    """Rows of cores with the candidates whose pixel lies in the core and in the window.

    Ordered by chip, then as the output gives them: not for who wants one order for any block.
    """
    grid, backend = network.grid, network.backend
    for row in grid.rows(window):
        cores = [grid.output_window(*k) for k in row]
        top, bottom = max(cores[0].y0, window.y0), min(cores[0].y1, window.y1)
        here = Window(top, window.x0, bottom, window.x1)
        parts = []
        for core in cores:
            kept = core.intersect(window)
            if pixels.valid[kept.slices(pixels.origin)].any():  # a candidate's pixel has data
                strip = strip_of(backend, network.card, pixels, _seen(network, pixels, core))
                parts.append(_found(network, strip, kept))
        names = list(parts[0]) if parts else []
        yield Rows(here, {name: np.concatenate([p[name] for p in parts]) for name in names})


def _seen(network: Network[OwnedOutput], pixels: Pixels, core: Window) -> Window:
    """The chip of a core without what lies farther from its data than the network sees: a matter of the data alone."""
    grid, chip = network.grid, core.expand(network.grid.halo)
    if network.backend.fixed or network.card.radius is None:
        return chip
    valid = pixels.valid[chip.slices(pixels.origin)]
    (top, bottom), (left, right) = (_ends(np.logical_or.reduce(valid, axis), grid.halo, grid.stride) for axis in (1, 0))
    return Window(chip.y0 + top, chip.x0 + left, chip.y0 + bottom, chip.x0 + right)


def _ends(some: NDArray[np.bool_], halo: int, stride: int) -> tuple[int, int]:
    """Where the True of (n,) begin and end, ``halo`` farther out, on the stride and within n."""
    at = np.flatnonzero(some)
    first, last = max(at[0] - halo, 0), min(at[-1] + 1 + halo, len(some))
    return int(first // stride * stride), int(-(-last // stride) * stride)


def _found(network: Network[OwnedOutput], strip: Strip, kept: Window) -> dict[str, np.ndarray]:
    """The columns of what one chip holds whose pixel lies in ``kept``."""

    def work(batch: list[Window]) -> dict[str, np.ndarray]:
        raw = network.forward(strip.chips(batch))[0]
        found = network.output.candidates(raw, strip.window, strip.known)
        return {name: column.cpu().numpy() for name, column in found.items()}

    _, columns = next(network.backend.each([strip.window], work, network.grid.stride, free=False))
    y, x = np.floor(columns["y"]), np.floor(columns["x"])
    mine = (y >= kept.y0) & (y < kept.y1) & (x >= kept.x0) & (x < kept.x1)
    return {name: column[mine] for name, column in columns.items()}
