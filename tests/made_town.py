"""A town of known shape as laser points: a slope, boxes with flat roofs, cones for trees, a pond without returns."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.made_clouds import las_bytes

X0, Y0 = 500_000.0, 5_000_000.0
WIDTH, HEIGHT = 160.0, 130.0
CRS = "EPSG:32632+5773"
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class House:
    """A box: its south-west corner from that of the town, its sides, and its roof above the datum, metres."""

    x: float
    y: float
    wide: float
    deep: float
    roof: float


HOUSES = (House(20, 20, 24, 16, 112.0), House(58, 56, 12, 20, 118.0), House(110, 30, 20, 20, 125.0))
TREES = ((90.0, 20.0, 4.0, 9.0), (30.0, 80.0, 5.0, 12.0), (120.0, 90.0, 4.0, 8.0))
"""Middle, radius and height."""
POND = (90.0, 70.0, 24.0, 24.0)
"""South-west corner and sides."""


def terrain(x: Floats, y: Floats) -> Floats:
    """Height of the ground, from coordinates of the CRS."""
    return 100 + 0.05 * (x - X0) + 0.5 * np.sin((y - Y0) / 25)


def columns(density: float = 3.0, seed: int = 0) -> dict[str, NDArray[np.generic]]:
    """Points of the town, ``density`` of them on a square metre, as scanned: one return each, none of the pond."""
    rng = np.random.default_rng(seed)
    count = int(density * WIDTH * HEIGHT)
    x, y = (np.round(rng.uniform(0, side, count), 2) for side in (WIDTH, HEIGHT))
    z, kind = terrain(x + X0, y + Y0), np.full(count, 2, np.uint8)
    for house in HOUSES:
        on = (x >= house.x) & (x < house.x + house.wide) & (y >= house.y) & (y < house.y + house.deep)
        z[on], kind[on] = house.roof, 6
    for middle_x, middle_y, radius, height in TREES:
        away = np.hypot(x - middle_x, y - middle_y)
        on = (away < radius) & (rng.random(count) < 0.8)  # the others reach the ground
        z[on] += height * (1 - away[on] / radius) + 1
        kind[on] = 5
    left, low, wide, deep = POND
    dry = ~((x > left) & (x < left + wide) & (y > low) & (y < low + deep))
    ones = np.ones(int(dry.sum()), np.uint8)
    made = {"x": x[dry] + X0, "y": y[dry] + Y0, "z": np.round(z[dry], 2), "classification": kind[dry]}
    return {**made, "return_number": ones, "number_of_returns": ones}


def write_town(folder: Path, crs: str | None = CRS, cut: float = 71.3) -> list[Path]:
    """The town in two files of different kinds, cut at ``cut`` metres from the west."""
    folder.mkdir(parents=True, exist_ok=True)
    every = columns()
    west = np.asarray(every["x"], float) < X0 + cut
    kinds = (("west.laz", west, "1.4", 6, True), ("east.las", ~west, "1.4", 7, False))
    paths = []
    for name, part, version, point_format, compressed in kinds:
        body = las_bytes({k: v[part] for k, v in every.items()}, version, point_format, crs, compressed)
        (folder / name).write_bytes(body)
        paths.append(folder / name)
    return paths
