"""Openings of surfaces with holes, by octagons near to discs, as the ground filters use them.

A disc of ``radius`` cells is a square widened by a diamond, and both are made of lines, along which a minimum over any
length takes the logarithm of it in steps. Empty cells are left out of every minimum and maximum, so nothing needs to
be filled in before, and what lies beyond the window is empty too.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoml.cube.clouds.cells import Flags

Surface = NDArray[np.float32]


def radii(largest: float) -> list[int]:
    """Whole cells from one to ``largest``, each at most half and at least one more than the one before."""
    out = [1]
    while out[-1] < largest:
        out.append(min(out[-1] + max(1, out[-1] // 2), math.ceil(largest)))
    return out


def opened(z: Surface, within: Flags, radius: int) -> Surface:
    """(y, x) the highest of the lowest: ``z`` (y, x), inf where empty, without what is narrower than the octagon.

    The octagon is only laid on cells of ``within`` (y, x), which is where there are data: laid beyond the edge of them
    it would touch the slice of a roof and call it ground. inf where no octagon that was laid holds a value.
    """
    low = eroded(z, radius)
    low[~within] = np.inf
    return -eroded(np.where(np.isinf(low), low, -low), radius)


def eroded(z: Surface, radius: int) -> Surface:
    """(y, x) the lowest ``z`` (y, x) within an octagon of ``radius`` cells; inf where all of it is empty."""
    square = round(radius * (math.sqrt(2) - 1))
    diamond = radius - square
    out = np.pad(z, radius, constant_values=np.inf)
    out = _line(out, 2 * square + 1, 1, 0)
    out = _line(out, 2 * square + 1, 0, 1)
    if diamond:
        out = _line(out, diamond, 1, 1)
        out = _line(out, diamond, 1, -1)
        cross = out[1:-1, 1:-1]
        for part in (out[:-2, 1:-1], out[2:, 1:-1], out[1:-1, :-2], out[1:-1, 2:]):
            cross = np.minimum(cross, part)
        out = cross
    return out


def dilated(some: Flags, cells: int) -> Flags:
    """(y, x) True within ``cells`` rows and columns of a cell of ``some`` (y, x) that is."""
    wide = np.pad(~some, cells, constant_values=True)
    return np.asarray(~_line(_line(wide, 2 * cells + 1, 1, 0), 2 * cells + 1, 0, 1))


def around(z: Surface, cells: int) -> Surface:
    """(y, x) the lowest ``z`` (y, x) up to ``cells`` rows and columns away, a cell's own left out; inf where empty."""
    height, width = z.shape
    wide = np.pad(z, cells, constant_values=np.inf)
    rows = _line(wide, 2 * cells + 1, 0, 1)
    above, below = _line(rows, cells, 1, 0)[:height], _line(rows, cells, 1, 0)[cells + 1 :]
    row = wide[cells : cells + height]
    left, right = _line(row, cells, 0, 1)[:, :width], _line(row, cells, 0, 1)[:, cells + 1 :]
    return np.asarray(np.minimum(np.minimum(above, below), np.minimum(left, right)))


def _line(z: NDArray[Any], length: int, dy: int, dx: int) -> NDArray[Any]:
    """The lowest of ``length`` cells in direction (dy, dx), of all places where they fit."""
    done = 1
    while done < length:
        step = min(done, length - done)
        first, second = _pair(z.shape[0], step * dy), _pair(z.shape[1], step * abs(dx))
        if dx < 0:
            second = second[::-1]
        z = np.minimum(z[first[0], second[0]], z[first[1], second[1]])
        done += step
    return z


def _pair(size: int, step: int) -> tuple[slice, slice]:
    return slice(0, size - step), slice(step, size)
