"""Matched points as a surface on the lattice of a plane: the same cells whatever part of it is asked for."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from geoml.cube.stereo.matching import MatchedPoints
from geoml.grid.plane import Window

SAME = 4.0
"""Expected errors by which a point may differ in height from the one nearest to the middle of a cell, or it shows
another surface, such as the ground beside a roof."""
SIGMA = 0.5
"""Of the weights by distance, as a share of ``reach``."""


def surface(
    matched: Iterable[MatchedPoints], window: Window, resolution: float, reach: float, anchor: tuple[float, float]
) -> dict[str, NDArray[np.float32]]:
    """``dsm`` in metres above the ellipsoid, ``spread`` (its expected standard error in metres) and ``count`` (points
    in the cell) as (y, x) float32 of a window of a plane; NaN, NaN and 0 where no point lies within ``reach`` metres.

    Columns are ``floor(x / resolution - anchor[0])``, rows ``floor(-y / resolution - anchor[1])``. The point nearest to
    the middle of a cell says which surface is meant; the points of that surface within reach are averaged with Gaussian
    weights. What a cell gets depends on the points within reach and their order only.
    """
    rows, columns = window.shape
    cells, away, heights, errors = _reaching(matched, window, resolution, reach, anchor)
    count = np.zeros(rows * columns)
    dsm, spread = (np.full(rows * columns, np.nan, np.float32) for _ in range(2))
    own = cells < 0  # the cell that a point lies in, marked below zero
    cells = np.where(own, -1 - cells, cells)
    np.add.at(count, cells[own], 1)
    if len(cells):
        order = np.lexsort((away, cells))  # stable: equal ones stay in the order of tiles
        cells, away, heights, errors = cells[order], away[order], heights[order], errors[order]
        starts = np.flatnonzero(np.r_[True, cells[1:] != cells[:-1]])
        which = np.repeat(np.arange(len(starts)), np.diff(np.r_[starts, len(cells)]))
        nearest, tolerance = heights[starts][which], SAME * errors[starts][which]
        apart = heights - nearest
        weights = np.exp(-away / (2 * (SIGMA * reach) ** 2)) * (np.abs(apart) <= tolerance)
        total = np.add.reduceat(weights, starts)
        mean = np.add.reduceat(weights * apart, starts) / total
        around = np.add.reduceat(weights * (apart - mean[which]) ** 2, starts) / total
        known = np.add.reduceat(weights * errors**2, starts) / total
        dsm[cells[starts]] = heights[starts] + mean
        spread[cells[starts]] = np.sqrt(known + around)
    shape = (rows, columns)
    return {
        "dsm": dsm.reshape(shape),
        "spread": spread.reshape(shape),
        "count": count.astype(np.float32).reshape(shape),
    }


def _reaching(
    matched: Iterable[MatchedPoints], window: Window, resolution: float, reach: float, anchor: tuple[float, float]
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Of each pair of a cell of the window and a point within reach of its middle: the number of the cell (-1 - number
    where the point lies in it), the squared distance, height and expected error, in the order of points."""
    steps = int(np.ceil(reach / resolution + 0.5))
    found: list[tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]] = []
    for part in matched:
        x = part.xyz[0] / resolution - anchor[0]
        y = -part.xyz[1] / resolution - anchor[1]
        column, row = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
        grown = window.expand(steps)
        near = (row >= grown.y0) & (row < grown.y1) & (column >= grown.x0) & (column < grown.x1)
        column, row = column[near], row[near]
        # from the middle of its own cell, so that it is the same number in every window
        dx, dy = x[near] - (column + 0.5), y[near] - (row + 0.5)
        z, s = part.xyz[2][near], part.spread[near].astype(np.float64)
        for down in range(-steps, steps + 1):
            for beside in range(-steps, steps + 1):
                squared = ((dx - beside) ** 2 + (dy - down) ** 2) * resolution**2
                own = (down, beside) == (0, 0)
                at_row, at_column = row + down - window.y0, column + beside - window.x0
                inside = (at_row >= 0) & (at_row < window.shape[0]) & (at_column >= 0) & (at_column < window.shape[1])
                inside &= own | (squared <= reach**2)
                cell = at_row[inside] * window.shape[1] + at_column[inside]
                found.append((-1 - cell if own else cell, squared[inside], z[inside], s[inside]))
    if not found:
        return np.zeros(0, np.int64), np.zeros(0), np.zeros(0), np.zeros(0)
    return tuple(np.concatenate(c) for c in zip(*found, strict=True))  # type: ignore[return-value]
