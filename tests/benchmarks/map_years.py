"""How well a place is known again in another year: retrieval of NAIP tiles, as it is and trained on pairs of years.

    python tests/benchmarks/map_years.py [--steps 150] [--weights FILE.safetensors] [--only retrieval|sift]
        [--queries 100] [--part east|whole]

Reference: one year in tiles of 640 m every 240 m; queries: crops of another year in any heading. Right is a nearest
tile whose middle is within 160 m. Training sees the west 60 % of two years only; the test is the east part.
Then what keypoints alone give: crops of 1 km in any heading, looked up on the map of 2015 with its own acceptance.
"""

from __future__ import annotations

import argparse
import math
import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyproj
import rasterio
from rasterio.windows import from_bounds
from safetensors.torch import load_file, save_file

from geoml.engine.acceptance import Acceptance
from geoml.engine.fit_retrieval import Embedder, Fit, crop, embed, fit, turned
from geoml.engine.map_calibrate import of_map
from geoml.engine.map_match import locate
from geoml.engine.reference import MapReference, index

FOLDER = Path(os.environ.get("GEOML_DATA", "../shared/data")) / "change" / "naip_pothole_series"
NAMES = {
    year: f"m_4709963_se_14_1_{day}.tif" for year, day in ((2009, "20090818"), (2015, "20150926"), (2020, "20200831"))
}
BOUNDS = (485900.0, 5205631.0, 490565.0, 5209241.0)
GSD, SIDE, STEP, RIGHT = 5.0, 128, 48, 160.0
WEST = 0.6
KILOMETRE, FEW, WEAK = 200, 20, 12


def year(name: str) -> np.ndarray:
    with rasterio.open(FOLDER / name) as file:
        window = from_bounds(*BOUNDS, file.transform)
        shape = (round((BOUNDS[3] - BOUNDS[1]) / GSD), round((BOUNDS[2] - BOUNDS[0]) / GSD))
        return np.moveaxis(file.read([1, 2, 3], window=window, out_shape=(3, *shape), boundless=True), 0, -1)


def recall(
    model: Embedder, reference: np.ndarray, other: np.ndarray, x0: int, count: int, *, turn: bool, seed: int = 1
) -> tuple[float, float, int]:
    height, width = reference.shape[:2]
    half = SIDE // 2
    ys, xs = np.arange(half, height - half + 1, STEP), np.arange(x0 + half, width - half + 1, STEP)
    middles = np.array([(y, x) for y in ys for x in xs], float)
    gallery = turned(model, np.stack([crop(reference, y, x, SIDE) for y, x in middles]))
    rng = np.random.default_rng(seed)
    edge = SIDE / math.sqrt(2) if turn else half
    places = np.column_stack([rng.uniform(edge, height - edge, count), rng.uniform(x0 + edge, width - edge, count)])
    angles = rng.uniform(0, math.tau, count) * turn
    asked = embed(model, np.stack([crop(other, y, x, SIDE, a) for (y, x), a in zip(places, angles, strict=True)]))
    score = np.einsum("qd,gtd->qgt", asked, gallery).max(-1) if turn else asked @ gallery[:, 0].T
    away = GSD * np.hypot(*(middles[score.argmax(1)] - places).T)
    chance = (GSD * np.hypot(*np.moveaxis(middles[None] - places[:, None], -1, 0)) <= RIGHT).mean()
    return float((away <= RIGHT).mean()), float(chance), len(middles)


def sift(reference: int, other: int, image: np.ndarray, acceptance: Acceptance, mapped: MapReference) -> None:
    """Crops of one year in any heading, looked up on the map of another by keypoints alone."""
    rng = np.random.default_rng(2)
    edge = KILOMETRE / math.sqrt(2)
    inliers, away, weaker = [], [], []
    place = pyproj.Transformer.from_crs("EPSG:4326", mapped.crs, always_xy=True)
    for _ in range(FEW):
        y, x = (rng.uniform(edge, n - edge) for n in image.shape[:2])
        seen = np.moveaxis(crop(image, y, x, KILOMETRE, rng.uniform(0, math.tau)), 0, -1)
        found = locate(np.rint(255 * seen).astype(np.uint8), mapped, acceptance)
        inliers.append(found.inliers)
        sure = found.status == "ok"
        if not sure and found.inliers >= WEAK:
            found = locate(np.rint(255 * seen).astype(np.uint8), mapped, replace(acceptance, threshold=WEAK))
        if found.status == "ok":
            e, n = place.transform(found.lon, found.lat)
            (away if sure else weaker).append(math.hypot(e - BOUNDS[0] - GSD * x, n - BOUNDS[3] + GSD * y))
    print(
        f"SIFT, {other} in {reference}: {len(away)} of {FEW} accepted, off by {_metres(away)}; inliers "
        f"{np.median(inliers):.0f} (median), {max(inliers)} (most); refused with {WEAK} or more: {_metres(weaker)}",
        flush=True,
    )


def _metres(away: list[float]) -> str:
    return " ".join(f"{a:.1f}" for a in sorted(away)) + " m" if away else "none"


def embedder(images: dict[int, np.ndarray], x0: int, given: argparse.Namespace) -> Embedder:
    """Read from ``--weights`` where that is a file, else trained and written there."""
    if given.weights and given.weights.is_file():
        model = Embedder(project=True)
        model.load_state_dict(load_file(given.weights))
        return model.eval()
    started = time.monotonic()
    area = (0, 0, images[2009].shape[0], x0)
    model, losses = fit([images[2009], images[2015]], area, Fit(steps=given.steps, batch=given.batch))
    print(
        f"trained {time.monotonic() - started:.0f} s, loss {np.mean(losses[:10]):.2f} to {np.mean(losses[-10:]):.2f}",
        flush=True,
    )
    if given.weights:
        save_file({k: v.contiguous() for k, v in model.state_dict().items()}, given.weights)
    return model.eval()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=Fit.steps)
    parser.add_argument("--batch", type=int, default=Fit.batch)
    parser.add_argument("--weights", type=Path, help="a .safetensors file: read if it is there, else written")
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--part", choices=("east", "whole"), help="else both")
    parser.add_argument("--only", choices=("retrieval", "sift"))
    given = parser.parse_args()
    images = {k: year(v) for k, v in NAMES.items()}
    if given.only != "retrieval":
        with tempfile.TemporaryDirectory() as cache:
            mapped = index([FOLDER / NAMES[2015]], Path(cache))
            acceptance = of_map(mapped, side=KILOMETRE)
            print(acceptance, flush=True)
            for other in (2015, 2009, 2020):
                sift(2015, other, images[other], acceptance, mapped)
    if given.only == "sift":
        return
    x0 = int(WEST * images[2009].shape[1])
    frozen = Embedder(project=False).eval()
    trained = embedder(images, x0, given)
    parts = {"east": ("east part, never trained", x0), "whole": ("whole tile", 0)}
    for label, start in parts.values() if given.part is None else [parts[given.part]]:
        for reference, other in ((2015, 2015), (2015, 2009), (2015, 2020), (2009, 2020)):
            for turn in (False, True):
                pair = images[reference], images[other], start, given.queries
                a, chance, count = recall(frozen, *pair, turn=turn)
                b = recall(trained, *pair, turn=turn)[0] if start else math.nan
                print(
                    f"{label}: {other} in {reference}, {'turned' if turn else 'north up'}, {count} tiles, "
                    f"chance {chance:.3f}: frozen R@1 {a:.2f}, trained {b:.2f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
