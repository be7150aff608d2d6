"""Cells: an adaptive quadtree over lon and lat that follows how dense the training places are.

A box is halved in both directions while it holds more than ``most`` places, and is dropped in the end if it holds
fewer than ``least``: PlaNet, https://arxiv.org/abs/1602.05314; on lon and lat as in OpenStreetView-5M, section 4,
https://arxiv.org/abs/2404.18873. The id of a cell is its path from the root, one digit for each halving: 0 south-west,
1 south-east, 2 north-west, 3 north-east, so the first digits of an id name a parent.

The root is the whole world and is always split. Boxes are half open (west and south edges belong to them, the north
pole to the northernmost), so every place lies in exactly one box and none straddles the antimeridian.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree

from geoml.errors import InputError
from geoml.grid import sphere

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

WORLD = (-180.0, -90.0, 180.0, 90.0)
DEEPEST = 24
"""Halvings that ids are looked up for: boxes of a metre or two."""


@dataclass(frozen=True, eq=False)
class Cells:
    """K cells: ``bounds`` (K, 4) W S E N in degrees; ``lon``, ``lat`` (K,) spherical mean of the training places in
    each, ``count`` (K,) of them, ``radius`` (K,) km around the mean that holds 90 % of them."""

    ids: tuple[str, ...]
    bounds: Floats
    lon: Floats
    lat: Floats
    count: Integers
    radius: Floats

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def xyz(self) -> Floats:
        """(K, 3) unit vectors of the means."""
        return sphere.to_xyz(self.lon, self.lat)

    @property
    def depth(self) -> int:
        """Length of the longest id."""
        return max(map(len, self.ids))

    def find(self, lon: ArrayLike, lat: ArrayLike) -> Integers:
        """The cell that each of (N,) places lies in, -1 where it was dropped."""
        x, y = sphere.check(lon, lat)
        west, south, east, north = (np.full(len(x), edge) for edge in WORLD)
        cell = np.full(len(x), -1, np.int64)
        code = np.zeros(len(x), np.int64)
        for level in range(1, self.depth + 1):
            code = 4 * code + _halve(x, y, west, south, east, north)
            codes, places = self._codes[level]
            if len(codes):
                at = np.minimum(np.searchsorted(codes, code), len(codes) - 1)
                hit = codes[at] == code
                cell[hit] = places[at[hit]]
        return cell

    def assign(self, lon: ArrayLike, lat: ArrayLike) -> Integers:
        """As `find`, but a place of no cell goes to the cell whose mean is nearest by great circle."""
        cell = self.find(lon, lat)
        if len(lost := np.flatnonzero(cell < 0)):
            x, y = sphere.check(lon, lat)
            cell[lost] = cKDTree(self.xyz).query(sphere.to_xyz(x[lost], y[lost]))[1]
        return cell

    def parents(self, level: int) -> tuple[tuple[str, ...], Integers]:
        """(ids of P parents of ``level`` digits, (K,) which of them each cell is in); a shallower cell is its own."""
        short = [name[:level] for name in self.ids]
        ids = tuple(sorted(set(short)))
        place = {name: i for i, name in enumerate(ids)}
        return ids, np.array([place[name] for name in short], np.int64)

    def reach(self) -> Floats:
        """(K,) km from the mean to the farthest corner of the box: how far a place of the cell can be."""
        w, s, e, n = self.bounds.T
        corners = [sphere.distance(self.lon, self.lat, x, y) for x in (w, e) for y in (s, n)]
        return np.asarray(np.max(corners, axis=0))

    @cached_property
    def _codes(self) -> list[tuple[Integers, Integers]]:
        """For each level, sorted codes of the ids of that length and the cells that they belong to."""
        levels: list[tuple[Integers, Integers]] = []
        for level in range(self.depth + 1):
            places = np.array([i for i, name in enumerate(self.ids) if len(name) == level], np.int64)
            codes = np.array([int(self.ids[i], 4) if level else 0 for i in places], np.int64)
            order = np.argsort(codes)
            levels.append((codes[order], places[order]))
        return levels


def build(lon: ArrayLike, lat: ArrayLike, most: int = 1000, least: int = 1, depth: int = 10) -> Cells:
    """The cells of (N,) training places, in the order of their ids; see the module.

    Raises InputError for what is not a place, or when every cell has fewer than ``least`` places.
    """
    x, y = sphere.check(lon, lat)
    west, south, east, north = (np.full(len(x), edge) for edge in WORLD)
    inside: dict[str, Integers] = {"": np.arange(len(x))}
    leaves: dict[str, Integers] = {}
    for level in range(1, depth + 1):
        split: dict[str, Integers] = {}
        quarter = _halve(x, y, west, south, east, north)
        for name, rows in inside.items():
            for q in range(4):
                part = rows[quarter[rows] == q]
                target = split if len(part) > most and level < depth else leaves
                if len(part):
                    target[f"{name}{q}"] = part
        inside = split
    ids = sorted(name for name, rows in leaves.items() if len(rows) >= least)
    if not ids:
        raise InputError(f"least: no cell has {least} of the {len(x)} places; expected at most {len(x)}")
    means = np.array([sphere.mean(x[leaves[name]], y[leaves[name]]) for name in ids])
    far = [sphere.distance(x[leaves[name]], y[leaves[name]], *m) for name, m in zip(ids, means, strict=True)]
    return Cells(
        ids=tuple(ids),
        bounds=boxes(ids),
        lon=means[:, 0],
        lat=means[:, 1],
        count=np.array([len(leaves[name]) for name in ids], np.int64),
        radius=np.array([np.quantile(km, 0.9, method="higher") for km in far]),
    )


def boxes(ids: Iterable[str]) -> Floats:
    """(K, 4) bounds W S E N of paths."""
    bounds = []
    for name in ids:
        w, s, e, n = WORLD
        for digit in name:
            x, y = (w + e) / 2, (s + n) / 2
            w, e = (x, e) if digit in "13" else (w, x)
            s, n = (y, n) if digit in "23" else (s, y)
        bounds.append((w, s, e, n))
    return np.array(bounds, np.float64).reshape(-1, 4)


def from_bounds(bounds: Floats, lon: Floats, lat: Floats, count: Integers, radius: Floats) -> Cells:
    """The cells of these (K, 4) bounds in degrees, whose ids follow from them; the other columns as `Cells` has them.

    Raises InputError for bounds that are not those of a quadtree of the world, each once.
    """
    w, s, e, n = bounds.T
    if not len(bounds) or not (np.isfinite(bounds).all() and (w < e).all() and (s < n).all()):
        raise InputError("cells: no boxes, or one without an inside")
    ids = _paths(bounds)
    if not np.allclose(boxes(ids), bounds, rtol=0, atol=1e-6) or len(set(ids)) < len(bounds):
        raise InputError("cells: the bounds are not boxes of one quadtree, each one once")
    return Cells(ids, boxes(ids), *sphere.check(lon, lat), count, radius)


def _paths(bounds: Floats) -> tuple[str, ...]:
    """Ids from the bounds: as many halvings as make the width, along the middle of the box."""
    levels = np.round(np.log2(360 / (bounds[:, 2] - bounds[:, 0]))).astype(int).clip(1, DEEPEST)
    x, y = (bounds[:, 0] + bounds[:, 2]) / 2, (bounds[:, 1] + bounds[:, 3]) / 2
    edges = [np.full(len(x), edge) for edge in WORLD]
    digits = np.stack([_halve(x, y, *edges) for _ in range(levels.max())], axis=1)
    return tuple("".join(map(str, row[:level])) for row, level in zip(digits, levels, strict=True))


def _halve(x: Floats, y: Floats, west: Floats, south: Floats, east: Floats, north: Floats) -> Integers:
    """Which quarter (N,) of its box each place is in; the boxes become these quarters, in place."""
    mid_x, mid_y = (west + east) / 2, (south + north) / 2
    right, upper = x >= mid_x, y >= mid_y
    west[right], east[~right] = mid_x[right], mid_x[~right]
    south[upper], north[~upper] = mid_y[upper], mid_y[~upper]
    return np.asarray(right + 2 * upper, np.int64)
