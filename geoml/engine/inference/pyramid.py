"""Objects larger than a network sees: it also runs on coarser pixels, and the results of all levels are merged.

Level k of a pyramid has pixels k times as wide as those of the plane, on a lattice that begins at the plane's own
origin, so that no level hangs on how the work was cut. Which level speaks of which size is the output's business, as in
SNIP (Singh, Davis: An Analysis of Scale Invariance in Object Detection. 2018, https://arxiv.org/abs/1711.08189): each
keeps what lies in a range of sizes, and all that is kept is suppressed together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from geoml.engine.contract import OwnedOutput, Rows
from geoml.engine.inference.network import Network
from geoml.engine.inference.owner import owned
from geoml.engine.pixels import Pixels
from geoml.grid.plane import Window

Columns = dict[str, NDArray[np.number]]


def coarser(pixels: Pixels, window: Window, factor: int) -> Pixels:
    """A ``window`` of pixels ``factor`` times as wide, as float32: means over the known ones of factor x factor pixels.

    Known is where half of them are, in each step of a series by itself; ``pixels`` cover all of them. The plane is that
    of the finer pixels, so that it is not known here.
    """
    part = pixels.crop(window.finer(factor))
    looks = part.valid[None] if part.looks is None else part.looks
    many = np.stack([_sums(look, factor) for look in looks])
    data = np.zeros((len(part.data), *window.shape), np.float32)
    each = len(part.data) // len(looks)
    for n, channel in enumerate(part.data):
        total = _sums(np.where(looks[n // each], channel, channel.dtype.type(0)), factor)
        np.divide(total, many[n // each], out=data[n], where=many[n // each] > 0, casting="same_kind")
    known = 2 * many >= factor**2
    count = known.sum(0, dtype=np.uint16)
    shown = known if part.looks is not None else None
    return replace(part, data=data, count=count, looks=shown, origin=window, plane=None)


def _sums(values: NDArray[np.number | np.bool_], factor: int) -> NDArray[np.float64]:
    """Over factor x factor pixels, in one order of adding whatever lies around them."""
    rows = np.zeros((values.shape[0] // factor, values.shape[1]))
    for dy in range(factor):
        rows += values[dy::factor]
    out = np.zeros((len(rows), values.shape[1] // factor))
    for dx in range(factor):
        out += rows[:, dx::factor]
    return out


def on_all_levels(levels: Mapping[int, Network[OwnedOutput]], pixels: Pixels, window: Window) -> Iterator[Rows]:
    """As `geoml.engine.inference.owner.owned`, with what every level has to say; ``levels`` are by factor, 1 first."""
    first, *coarse = levels
    found = [_found(levels[k], k, pixels, window) for k in coarse]
    for rows in owned(levels[first], pixels, window):
        here = [levels[first].output.at_level(rows.arrays, first)] if rows.arrays else []
        here += [_inside(part, rows.window) for part in found if part]
        yield Rows(rows.window, _joined(here))


def _found(network: Network[OwnedOutput], factor: int, pixels: Pixels, window: Window) -> Columns:
    """What a coarser level finds in ``window``; empty if it has no data."""
    there = window.coarser(factor)
    seen = coarser(pixels, network.grid.input_window(there), factor)
    every = (rows.arrays for rows in owned(network, seen, there) if rows.arrays)
    return _joined([network.output.at_level(arrays, factor) for arrays in every])


def _inside(columns: Columns, window: Window) -> Columns:
    y, x = np.floor(columns["y"]), np.floor(columns["x"])
    mine = (y >= window.y0) & (y < window.y1) & (x >= window.x0) & (x < window.x1)
    return {name: column[mine] for name, column in columns.items()}


def _joined(parts: Sequence[Mapping[str, NDArray[np.number]]]) -> Columns:
    return {name: np.concatenate([p[name] for p in parts]) for name in parts[0]} if parts else {}
