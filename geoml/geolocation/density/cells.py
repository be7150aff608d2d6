"""Cells: an adaptive quadtree over lon and lat that follows how dense the training places are.

A box is halved in both directions while it holds more than ``most`` places, and is dropped in the end if it holds
fewer than ``least``: PlaNet, https://arxiv.org/abs/1602.05314; on lon and lat as in OpenStreetView-5M, section 4,
https://arxiv.org/abs/2404.18873. The id of a cell is its path from the root, one digit for each halving: 0 south-west,
1 south-east, 2 north-west, 3 north-east, so the first digits of an id name a parent.

The root is the whole world and is always split. Boxes are half open (west and south edges belong to them, the north
pole to the northernmost), so every place lies in exactly one box and none straddles the antimeridian.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import shapely
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
    each, ``count`` (K,) of them, ``radius`` (K,) km around the mean that holds 90 % of them; ``root`` W S E N."""

    ids: tuple[str, ...]
    bounds: Floats
    lon: Floats
    lat: Floats
    count: Integers
    radius: Floats
    root: tuple[float, float, float, float] = WORLD

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
        """The cell that each of (N,) places lies in, -1 where it was dropped or lies outside of the root."""
        x, y = sphere.check(lon, lat)
        west, south, east, north = (np.full(len(x), edge) for edge in self.root)
        inside = (x >= west) & (x <= east) & (y >= south) & (y <= north)
        found = np.full(len(x), -1, np.int64)
        code = np.zeros(len(x), np.int64)
        for level in range(1, self.depth + 1):
            code = 4 * code + _halve(x, y, west, south, east, north)
            codes, places = self._codes[level]
            if len(codes):
                at = np.minimum(np.searchsorted(codes, code), len(codes) - 1)
                hit = codes[at] == code
                found[hit] = places[at[hit]]
        return np.where(inside, found, -1)

    def assign(self, lon: ArrayLike, lat: ArrayLike) -> Integers:
        """As `find`, but a place of no cell goes to the cell whose mean is nearest by great circle."""
        found = self.find(lon, lat)
        if len(lost := np.flatnonzero(found < 0)):
            x, y = sphere.check(lon, lat)
            found[lost] = cKDTree(self.xyz).query(sphere.to_xyz(x[lost], y[lost]))[1]
        return found

    def parents(self, level: int) -> tuple[tuple[str, ...], Integers]:
        """(ids of P parents of ``level`` digits, (K,) which of them each cell is in); a shallower cell is its own."""
        if level < 1:
            raise InputError(f"level: {level}; expected 1 to {self.depth}")
        short = [name[:level] for name in self.ids]
        ids = tuple(sorted(set(short)))
        place = {name: i for i, name in enumerate(ids)}
        return ids, np.array([place[name] for name in short], np.int64)

    def distances(self, lon: ArrayLike, lat: ArrayLike) -> Floats:
        """(N, K) km from each of (N,) places to the mean of each cell."""
        x, y = sphere.check(lon, lat)
        return sphere.angles(sphere.to_xyz(x, y), self.xyz) * sphere.EARTH_RADIUS_KM

    def reach(self) -> Floats:
        """(K,) km from the mean to the farthest corner of the box: how far a place of the cell can be."""
        w, s, e, n = self.bounds.T
        corners = [sphere.distance(self.lon, self.lat, x, y) for x in (w, e) for y in (s, n)]
        return np.asarray(np.max(corners, axis=0))

    def polygons(self) -> NDArray[np.object_]:
        """(K,) shapely boxes in lon, lat."""
        return np.asarray(shapely.box(*self.bounds.T))

    def table(self) -> dict[str, NDArray[Any]]:
        """Columns for pandas or GeoParquet, those of OSV-5M's ``quadtree_10_1000.csv`` first: ``cluster_id, min_lat,
        min_lon, max_lat, max_lon, mean_lat, mean_lon``, then ``id, count, radius_km``. Read ``id`` back as text."""
        w, s, e, n = self.bounds.T
        return {
            "cluster_id": np.arange(len(self)),
            "min_lat": s, "min_lon": w, "max_lat": n, "max_lon": e,
            "mean_lat": self.lat, "mean_lon": self.lon,
            "id": np.array(self.ids, object), "count": self.count, "radius_km": self.radius,
        }  # fmt: skip

    @cached_property
    def _codes(self) -> list[tuple[Integers, Integers]]:
        """For each level, sorted codes of the ids of that length and the cells that they belong to."""
        found: list[tuple[Integers, Integers]] = []
        for level in range(self.depth + 1):
            places = np.array([i for i, name in enumerate(self.ids) if len(name) == level], np.int64)
            codes = np.array([int(self.ids[i], 4) if level else 0 for i in places], np.int64)
            order = np.argsort(codes)
            found.append((codes[order], places[order]))
        return found


def build(lon: ArrayLike, lat: ArrayLike, most: int = 1000, least: int = 1, depth: int = 10) -> Cells:
    """The cells of (N,) training places, in the order of their ids; see the module.

    Raises InputError for places or numbers that make no sense, or when every cell has fewer than ``least`` places.
    """
    x, y = sphere.check(lon, lat)
    if not 1 <= depth <= DEEPEST or most < 1 or least < 1 or not len(x):
        raise InputError(
            f"most {most}, least {least}, depth {depth}, {len(x)} places; "
            f"expected at least one of each, and a depth of at most {DEEPEST}"
        )
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
    kept = sorted(name for name, rows in leaves.items() if len(rows) >= least)
    if not kept:
        raise InputError(f"least: no cell has {least} of the {len(x)} places; expected at most {len(x)}")
    means = np.array([sphere.mean(x[leaves[name]], y[leaves[name]]) for name in kept])
    far = [sphere.distance(x[leaves[name]], y[leaves[name]], *m) for name, m in zip(kept, means, strict=True)]
    return Cells(
        ids=tuple(kept),
        bounds=boxes(kept),
        lon=means[:, 0],
        lat=means[:, 1],
        count=np.array([len(leaves[name]) for name in kept], np.int64),
        radius=np.array([np.quantile(km, 0.9, method="higher") for km in far]),
    )


def boxes(ids: Iterable[str], root: tuple[float, float, float, float] = WORLD) -> Floats:
    """(K, 4) bounds W S E N of paths. Raises InputError for an id that is no path."""
    found = []
    for name in ids:
        if not isinstance(name, str) or not name or len(name) > DEEPEST or set(name) - set("0123"):
            raise InputError(f"id: {name!r} is no path; expected text of 1 to {DEEPEST} digits 0 to 3")
        w, s, e, n = root
        for digit in name:
            x, y = (w + e) / 2, (s + n) / 2
            w, e = (x, e) if digit in "13" else (w, x)
            s, n = (y, n) if digit in "23" else (s, y)
        found.append((w, s, e, n))
    return np.array(found, np.float64).reshape(-1, 4)


def from_table(columns: Mapping[str, Any]) -> Cells:
    """Cells from the columns of `Cells.table` or of OSV-5M's file (a dict or a data frame).

    OSV-5M's root is the extent of its places and it has no ids: they follow from the bounds. Without ``count`` it is 0;
    without ``radius_km`` it is that of a disk of 90 % of the box's area. Raises InputError for a column that is
    missing, an id that is no text, and bounds that are not those of a quadtree.
    """
    need = ("min_lon", "min_lat", "max_lon", "max_lat", "mean_lon", "mean_lat")
    if missing := [name for name in need if name not in columns]:
        raise InputError(f"cells: no column {missing[0]}; expected {', '.join(need)}")
    bounds = np.stack([np.asarray(columns[name], np.float64) for name in need[:4]], axis=1)
    w, s, e, n = bounds.T
    if not len(bounds) or not (np.isfinite(bounds).all() and (w < e).all() and (s < n).all()):
        raise InputError("cells: no boxes, or one without an inside; expected min_lon < max_lon, min_lat < max_lat")
    roots = [WORLD, (float(w.min()), float(s.min()), float(e.max()), float(n.max()))]
    ids = [tuple(columns["id"])] * 2 if "id" in columns else [_paths(bounds, root) for root in roots]
    fits = [np.allclose(boxes(i, r), bounds, rtol=0, atol=1e-6) for i, r in zip(ids, roots, strict=True)]
    if not any(fits) or len(set(ids[fits.index(True)])) < len(bounds):
        raise InputError("cells: the bounds are not boxes of one quadtree, each one once")
    lon, lat = sphere.check(columns["mean_lon"], columns["mean_lat"])
    area = np.radians(e - w) * (np.sin(np.radians(n)) - np.sin(np.radians(s)))
    disk = 2 * sphere.EARTH_RADIUS_KM * np.arcsin(np.sqrt(np.minimum(0.9 * area / (4 * np.pi), 1)))
    which = fits.index(True)
    return Cells(
        ids=ids[which],
        bounds=boxes(ids[which], roots[which]),
        lon=lon,
        lat=lat,
        count=np.asarray(columns["count"], np.int64) if "count" in columns else np.zeros(len(lon), np.int64),
        radius=np.asarray(columns["radius_km"], np.float64) if "radius_km" in columns else disk,
        root=roots[which],
    )


def _paths(bounds: Floats, root: tuple[float, float, float, float]) -> tuple[str, ...]:
    """Ids from the bounds: as many halvings as make the width, along the middle of the box."""
    levels = np.round(np.log2((root[2] - root[0]) / (bounds[:, 2] - bounds[:, 0]))).astype(int).clip(1, DEEPEST)
    x, y = (bounds[:, 0] + bounds[:, 2]) / 2, (bounds[:, 1] + bounds[:, 3]) / 2
    edges = [np.full(len(x), edge) for edge in root]
    digits = np.stack([_halve(x, y, *edges) for _ in range(levels.max())], axis=1)
    return tuple("".join(map(str, row[:level])) for row, level in zip(digits, levels, strict=True))


def _halve(x: Floats, y: Floats, west: Floats, south: Floats, east: Floats, north: Floats) -> Integers:
    """Which quarter (N,) of its box each place is in; the boxes become these quarters, in place."""
    mid_x, mid_y = (west + east) / 2, (south + north) / 2
    right, upper = x >= mid_x, y >= mid_y
    west[right], east[~right] = mid_x[right], mid_x[~right]
    south[upper], north[~upper] = mid_y[upper], mid_y[~upper]
    return np.asarray(right + 2 * upper, np.int64)
