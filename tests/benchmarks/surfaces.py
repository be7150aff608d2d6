"""Terrain and surface of real and made clouds: errors at points left out beside scipy's linear TIN, and cells a second.

``python -m tests.benchmarks.surfaces`` on the clouds of ``$GEOML_DATA``. One in ten ground points is left out by
chance, then one in five of the squares of 10 m; both surfaces see the same points and are asked at the same places,
where both have a value: the terrain between its cell centres, the TIN (about an origin: scipy drops points of grids in
UTM coordinates) at the place itself. Seconds are of all layers, from points in memory, without reading and filter.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import LinearNDInterpolator

from geoml.cube.clouds.cells import cell_of
from geoml.cube.clouds.surfaces import SurfaceOptions, surfaces, terrain
from geoml.elevation.accuracy.bilinear import between
from geoml.grid.plane import Plane
from geoml.io.points.cloud import Cloud, joined
from geoml.settings import settings
from tests.benchmarks.ground import clouds

GROUND = 2
SIDE = 10.0
REAL = (("ahn3_cropped_2", 0.5), ("ahn3_cropped_2", 1.0), ("test_data_77055_627755_LA93_IGN69", 0.5), ("4_6_crop", 1.0))
MADE = ((1, 0.5), (1, 1.0), (2, 1.0), (4, 1.0), (8, 0.5), (12, 1.0))
"""Points a square metre, and metres of a cell."""


def cloud_of(points: NDArray[np.float64], classes: NDArray[np.uint8]) -> Cloud:
    x, y, z = points.T.copy()
    byte = np.ones(len(x), np.uint8)
    return joined([Cloud(x, y, z, classes, byte, byte, byte.astype(np.uint16), np.zeros(len(x), bool))])


def made(density: float, side: float) -> Cloud:
    """A slope, houses of 40 m on a quarter of it, and bushes."""
    rng = np.random.default_rng(0)
    n = int(side * side * density)
    x, y = rng.random((2, n)) * side
    house = (x // 40 % 2 == 0) & (y // 40 % 2 == 0)
    bare = ~house & (rng.random(n) < 0.7)
    z = 100 + 0.05 * x + rng.normal(0, 0.03, n) + np.where(house, 8, np.where(bare, 0, 3 * rng.random(n)))
    classes = np.where(bare, GROUND, np.where(house, 6, 5)).astype(np.uint8)
    return cloud_of(np.column_stack([x + 512_000, y + 5_400_000, z]), classes)


def errors(points: Cloud, hidden: NDArray[np.bool_], plane: Plane) -> tuple[float, float]:
    """RMSE of the terrain and of the TIN at the hidden points, where both have a value."""
    seen, asked = points.take(~hidden), points.take(hidden)
    window = plane.window(points.x.min(), points.y.min(), points.x.max(), points.y.max()).expand(2)
    options = SurfaceOptions(void=1000.0)
    cell = cell_of(plane, window, seen.x, seen.y)
    found = terrain(seen, np.ones(len(seen), bool), cell, plane, window, options)
    ours = between(plane, asked.x, asked.y, lambda r, c: found[r - window.y0, c - window.x0]).value - asked.z
    left, low = seen.x.min(), seen.y.min()
    tin = LinearNDInterpolator(np.column_stack([seen.x - left, seen.y - low]), seen.z)
    theirs = tin(asked.x - left, asked.y - low) - asked.z
    both = np.isfinite(ours) & np.isfinite(theirs)
    return float(np.sqrt(np.mean(ours[both] ** 2))), float(np.sqrt(np.mean(theirs[both] ** 2)))


def hidings(points: Cloud) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    rng = np.random.default_rng(0)
    yield "chance", rng.random(len(points)) < 0.1
    square = np.stack([points.x // SIDE, points.y // SIDE], axis=1)
    which = np.unique(square, axis=0, return_inverse=True)[1].reshape(-1)
    yield "squares", rng.permutation(which.max() + 1)[which] % 5 == 0


def main() -> None:
    data = settings().data
    if data is None:
        raise SystemExit("GEOML_DATA is not set")
    real = {name: cloud_of(points, classes) for _, name, points, classes in clouds(data)}
    for name, res in REAL:
        points = real[name].take(real[name].classification == GROUND)
        for kind, hidden in hidings(points):
            ours, theirs = errors(points, hidden, Plane("EPSG:28992", res))
            print(f"{name[:24]:24} {res:4} m {kind:8} RMSE {ours:.3f} m, TIN {theirs:.3f} m: {ours / theirs:.3f}")
    timed = [(f"made, {density} points/m2", made(density, 500 * res), res) for density, res in MADE]
    timed += [(name[:24], real[name], res) for name, res in REAL]
    for name, points, res in timed:
        plane = Plane("EPSG:28992", res)
        window = plane.window(points.x.min(), points.y.min(), points.x.max(), points.y.max())
        took = []
        for _ in range(3):
            start = time.process_time()
            surfaces(points, points.classification == GROUND, plane, window, SurfaceOptions())
            took.append(time.process_time() - start)
        cells, rate = window.shape[0] * window.shape[1], len(points) / min(took) / 1e6
        print(f"{name:24} {res:4} m: {cells / min(took) / 1e6:5.2f} M cells, {rate:5.2f} M points a CPU second")


if __name__ == "__main__":
    main()
