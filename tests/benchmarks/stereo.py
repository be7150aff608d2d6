"""Stereo: figures of docs/elevation.md on the Ventoux pair and on made pairs, and speed beside OpenCV.

    python tests/benchmarks/stereo.py figures [--matching census|mccnn|FILE.safetensors]
    python tests/benchmarks/stereo.py speed
    python tests/benchmarks/stereo.py train OUT.safetensors

``figures`` and ``speed`` take the pair of ``$GEOML_DATA/elevation/stereo_ventoux`` and made pairs of known geometry;
``train`` teaches a network on other made pairs. One thread; CPU seconds.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pyproj
import torch
from numpy.typing import NDArray

from geoml.cube.stereo.census import Costs, census_costs
from geoml.cube.stereo.coarse import CoarseSurface
from geoml.cube.stereo.matching import MatchedPoints, Matcher
from geoml.cube.stereo.pair import HeightBounds, Pair, SensorView, overlap
from geoml.cube.stereo.parallax import parallax
from geoml.cube.stereo.rpc import SensorModel
from geoml.cube.stereo.sgm import aggregate
from geoml.cube.stereo.tile import CORE, TileViews, tile, views
from geoml.elevation.run.pair import sampled
from geoml.elevation.training.matching import KnownTile, fit
from geoml.engine.packages import matching
from geoml.io.heights import height_shift
from geoml.io.sensor_image import open_image
from geoml.models.siamese_matching import Config, NetworkCosts
from geoml.testing.stereo import MadePair, from_plane, made_pair, to_plane, town

NOISES = (0.02, 0.05, 0.1, 0.2)
STEP = 1 / 3600


def nmad(values: NDArray[np.floating]) -> float:
    return float(1.4826 * np.median(np.abs(values - np.median(values))))


def ventoux(margin: float = 60.0) -> tuple[Pair, CoarseSurface]:
    """The pair with SRTM as coarse surface, brought to the ellipsoid by EGM96."""
    folder = Path(os.environ["GEOML_DATA"]) / "elevation" / "stereo_ventoux"
    os.environ.setdefault("GEOML_GRIDS", str(folder))
    images = [open_image(str(folder / f"{side}_image.tif")) for side in ("left", "right")]
    west, north, n = 5.18, 44.23, 100
    lon, lat = (a.ravel() for a in np.meshgrid(west + STEP * np.arange(n), north - STEP * np.arange(n)))
    srtm = sampled(str(folder / "srtm_crop_egm96.tif"), lon, lat)
    shift = height_shift("EPSG:4326", "EPSG:5773", "ellipsoid", (west, north - STEP * n, west + STEP * n, north))
    surface = CoarseSurface(shift.apply(lon, lat, srtm).reshape(n, n), west, north, STEP)
    left, right = (SensorView(i.name, SensorModel(i.rpc), i.first, i.shape, i.read) for i in images)
    return Pair(left, right, HeightBounds(surface, margin, margin)), surface


def corrected(pair: Pair) -> Pair:
    found = parallax(pair, overlap(pair))
    print(f"  {found.text}")
    return pair.shifted(np.array(found.shift))


def tiles_of(pair: Pair) -> Iterator[tuple[int, int]]:
    rows, columns = (
        range(f // CORE, (f + n - 1) // CORE + 1) for f, n in zip(pair.left.first, pair.left.shape, strict=True)
    )
    return ((r, c) for r in rows for c in columns)


def every(pair: Pair, costs: Costs) -> tuple[NDArray[np.float64], NDArray[np.float32], float, float]:
    """Points, their expected errors, the share of the pixels that both pictures show, and CPU seconds."""
    matcher = Matcher(pair, overlap(pair), to_plane, from_plane, costs)
    start = time.process_time()
    found: list[MatchedPoints] = [matcher.points(*t) for t in tiles_of(pair)]
    seconds = time.process_time() - start
    spread = np.concatenate([f.spread for f in found])
    share = len(spread) / sum(f.asked for f in found)
    return np.concatenate([f.xyz for f in found], axis=1), spread, share, seconds


def costs_of(name: str) -> Costs:
    path = matching.file_of(name)
    return census_costs if path is None else NetworkCosts(matching.load(path, matching.sha256_of(path)))


def figures(name: str) -> None:
    costs = costs_of(name)
    print(f"Ventoux, {name}:")
    pair, surface = ventoux()
    xyz, _, share, seconds = every(corrected(pair), costs)
    to = pyproj.Transformer.from_crs("EPSG:32631", "EPSG:4326", always_xy=True)
    off = xyz[2] - surface(*to.transform(xyz[0], xyz[1]))
    print(f"  {100 * share:.1f} % matched, minus SRTM: median {np.median(off):.2f} m, NMAD {nmad(off):.2f} m")
    print(f"  {seconds:.1f} s")
    print("made pairs (roofs: 1.5 m from their edges), pixels:")
    for noise in NOISES:
        made = made_pair(town(1), parallax=-3.0, noise=noise)
        xyz, spread, share, _ = every(corrected(made.pair()), costs)
        pixel = made.gsd / made.ratio
        off = (xyz[2] - made.scene.z(xyz[0], xyz[1])) / pixel
        roofs = [off[r.inside(xyz[0], xyz[1], 1.5)] for r in made.scene.roofs]
        within = np.concatenate([r - np.median(r) for r in roofs])
        print(
            f"  noise {noise:.2f}: matched {100 * share:.1f} %, NMAD of roofs {nmad(np.concatenate(roofs)):.3f}, of one"
            f" roof {nmad(within):.3f}, of all {nmad(off):.3f}; 95 % within {np.quantile(np.abs(off), 0.95):.2f};"
            f" error over expected error, NMAD {nmad(off * pixel / spread):.2f}"
        )


def speed(rounds: int = 5) -> None:
    """Pixel-disparities per CPU second of census, paths and check, and of OpenCV's eight-path SGBM, interleaved."""
    cv2.setNumThreads(1)
    rng = np.random.default_rng(0)
    for height, width, depth in ((416, 416, 64), (416, 416, 128), (510, 510, 112)):
        texture = cv2.GaussianBlur(rng.integers(0, 4000, (height, width + depth - 1)).astype(np.float32), (5, 5), 1)
        left = np.ascontiguousarray(texture[:, depth // 2 : depth // 2 + width])
        known = np.ones(left.shape, bool), np.ones(texture.shape, bool)
        seen = TileViews(left, texture, *known)
        a, b = ((v / 16).astype(np.uint8) for v in (left, texture[:, -width:]))
        wide = [cv2.copyMakeBorder(p, 0, 0, depth, 0, cv2.BORDER_REPLICATE) for p in (a, b)]
        sgbm = cv2.StereoSGBM_create(0, depth, 5, 200, 800, 1, mode=cv2.STEREO_SGBM_MODE_HH)
        ours, theirs, costs = [], [], []
        for _ in range(rounds):
            start = time.process_time()
            volume = census_costs(seen, depth)
            middle = time.process_time()
            aggregate(volume)
            ours.append(time.process_time() - start)
            costs.append(middle - start)
            start = time.process_time()
            sgbm.compute(*wide)  # the border that it does not match is added, so that it matches as many pixels
            theirs.append(time.process_time() - start)
        count = height * width * depth / 1e6
        mine, other = count / np.median(ours), count / np.median(theirs)
        print(
            f"{height} x {width} x {depth}: {mine:.0f} M a second"
            f" ({100 * np.median(costs) / np.median(ours):.0f} % of the time is"
            f" the census), SGBM {other:.0f}, ratio {mine / other:.2f}"
        )


def known_tiles(made: MadePair) -> Iterator[KnownTile]:
    """Tiles of a made pair, rectified by its true sensors, with the disparity of what each pixel sees."""
    pair = made.pair().shifted(made.sensors[1].shift)
    for place in tiles_of(pair):
        geometry = tile(pair, *place, to_plane)
        if geometry is None:
            continue
        seen = views(pair, geometry)
        row, column = geometry.left_places
        i, j = (np.rint(a).astype(int) - f for a, f in zip((row, column), made.firsts[0], strict=True))
        inside = (i >= 0) & (i < made.heights.shape[0]) & (j >= 0) & (j < made.heights.shape[1])
        h = np.full(geometry.shape, np.nan)
        h[inside] = made.heights[i[inside], j[inside]]
        known = np.isfinite(h)
        if known.sum() < 5000:
            continue
        far = pair.across(row[known], column[known], h[known])
        back = np.linalg.solve(geometry.to_right[:, 1:], far - geometry.to_right[:, :1])[0]
        disparity = np.full(geometry.shape, np.nan, np.float32)
        disparity[known] = np.nonzero(known)[1] - back - geometry.first
        yield KnownTile(seen, disparity, geometry.depth)


def train(out: Path, pairs: int = 12, steps: int = 2000) -> None:
    rng = np.random.default_rng(1)
    tiles: list[KnownTile] = []
    for seed in range(100, 100 + pairs):
        noise, ratio = float(rng.uniform(0.02, 0.3)), float(rng.uniform(0.15, 0.6))
        tiles += known_tiles(made_pair(town(seed), noise=noise, ratio=ratio, seed=seed))
    start = time.process_time()
    matching.save(fit(tiles, Config(), steps=steps), out)
    print(f"{len(tiles)} tiles of {pairs} pairs, {steps} steps: {time.process_time() - start:.0f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("figures", "speed", "train"))
    parser.add_argument("out", nargs="?", type=Path)
    parser.add_argument("--matching", default="census")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    if asked.what == "figures":
        figures(asked.matching)
    elif asked.what == "speed":
        speed()
    else:
        train(asked.out)


if __name__ == "__main__":
    main()
