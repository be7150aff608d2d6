"""How well a place is known again in another year: retrieval of NAIP tiles, as it is and trained on pairs of years.

    python -m tests.benchmarks.map_years [--model DIR] [--steps 600] [--weights FILE.safetensors]
        [--queries 100] [--part east|whole|inner]

Reference: one year in tiles of 640 m every 240 m; queries: crops of another year in any heading. Right is a nearest
tile whose middle is within 160 m. Training sees the west 60 % of two years only; the test is the east part. The package
of the recipe naip-years is ``--model``; without it and without weights, the features are trained here on the two years.
Frozen features are those of the whole picture, and those of the whole and its quarters; trained ones are shown alone
and beside the frozen, as the package has them.
``inner`` trains on the north of the west and asks its south, to choose by. What keypoints give is in map_keypoints.py.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import numpy as np
import rasterio
from rasterio.windows import from_bounds
from safetensors.torch import load_file, save_file

from geoml.geolocation.locate.locator import load
from geoml.geolocation.nn.places import CELLS
from geoml.geolocation.training.contrastive import Embedder, Fit, fit
from geoml.geolocation.training.positives import Ground
from geoml.geolocation.training.recall import recall
from geoml.geolocation.training.retrieval import embedder_of

FOLDER = Path(os.environ.get("GEOML_DATA", "../shared/data")) / "change" / "naip_pothole_series"
NAMES = {
    year: f"m_4709963_se_14_1_{day}.tif" for year, day in ((2009, "20090818"), (2015, "20150926"), (2020, "20200831"))
}
BOUNDS = (485900.0, 5205631.0, 490565.0, 5209241.0)
GSD, SIDE = 5.0, 128
WEST = 0.6
SOUTH = 480


def year(name: str) -> np.ndarray:
    with rasterio.open(FOLDER / name) as file:
        window = from_bounds(*BOUNDS, file.transform)
        shape = (round((BOUNDS[3] - BOUNDS[1]) / GSD), round((BOUNDS[2] - BOUNDS[0]) / GSD))
        return np.moveaxis(file.read([1, 2, 3], window=window, out_shape=(3, *shape), boundless=True), 0, -1)


def embedder(images: dict[int, np.ndarray], area: tuple[int, int, int, int], given: argparse.Namespace) -> Embedder:
    """Of the package ``--model``; else read from ``--weights`` where that is a file, else trained and written there."""
    if given.model:
        return embedder_of(load(given.model).backbone)
    if given.weights and given.weights.is_file():
        model = Embedder(project=True, pretrained=False, cells=CELLS, kept=True)
        model.load_state_dict(load_file(given.weights))
        return model.eval()
    started = time.monotonic()
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
    parser.add_argument("--model", help="package of the recipe naip-years")
    parser.add_argument("--weights", type=Path, help="a .safetensors file: read if it is there, else written")
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--part", choices=("east", "whole", "inner"), help="else east and whole")
    given = parser.parse_args()
    images = {k: year(v) for k, v in NAMES.items()}
    x0 = int(WEST * images[2009].shape[1])
    inner = given.part == "inner"
    area = (0, 0, SOUTH if inner else images[2009].shape[0], x0)
    models = [Embedder(project=False, cells=cells).eval() for cells in (1, CELLS)]
    both = embedder(images, area, given)
    models += [both.alone(), both]
    rows = ((2015, 2015), (2015, 2009), (2015, 2020), (2009, 2020))
    parts = {"east": ("east part, never trained", x0), "whole": ("whole tile", 0)}
    if inner:  # 2020 stays unseen
        images, rows = {k: v[SOUTH:, :x0] for k, v in images.items()}, ((2009, 2015), (2015, 2009))
        parts = {"inner": ("south of the west, not trained", 0)}
    years = list(images)
    for name in parts if given.part is None else [given.part]:
        label, start = parts[name]
        pictures = np.stack([image[:, start:] for image in images.values()])
        ground = Ground(pictures, np.ones(pictures.shape[:3], bool), tuple(frozenset({str(k)}) for k in years))
        for reference, other in rows:
            for turn in (False, True):
                dates = years.index(reference), years.index(other)
                row = recall(models, ground, dates, SIDE, given.queries, turn=turn)
                whole, quarters, *trained = row.found
                print(
                    f"{label}: {other} in {reference}, {'turned' if turn else 'north up'}, {row.tiles} tiles, chance "
                    f"{row.chance:.3f}: R@1 frozen {whole:.3f}, with quarters {quarters:.3f}, "
                    + ("" if name == "whole" else f"trained {trained[0]:.3f}, both {trained[1]:.3f}"),
                    flush=True,
                )


if __name__ == "__main__":
    main()
