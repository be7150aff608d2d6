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
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import rasterio
import torch
from rasterio.windows import from_bounds
from safetensors.torch import load_file, save_file
from torchvision.transforms import Normalize

from geoml.geolocation.locate.locator import load
from geoml.geolocation.nn.backbones import IMAGENET_MEAN, IMAGENET_STD
from geoml.geolocation.nn.places import WIDTH, Places
from geoml.geolocation.training.contrastive import fit
from geoml.geolocation.training.positives import DateStack
from geoml.geolocation.training.recall import recall
from geoml.geolocation.training.retrieval_recipe import RetrievalTraining

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


class Columns(torch.nn.Module):
    """Some of the features of a model, as unit vectors."""

    def __init__(self, model: torch.nn.Module, columns: list[slice]) -> None:
        super().__init__()
        self.model, self.columns = model, columns

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        vectors = self.model(x)
        return torch.nn.functional.normalize(torch.cat([vectors[:, k] for k in self.columns], 1), dim=1)


def of_pixels(net: torch.nn.Module) -> torch.nn.Module:
    """For RGB in 0..1."""
    return torch.nn.Sequential(Normalize(IMAGENET_MEAN, IMAGENET_STD), net).eval()


def stack(images: Iterable[np.ndarray]) -> DateStack:
    pictures = np.stack(list(images))
    items = tuple(frozenset({str(k)}) for k in range(len(pictures)))
    return DateStack(pictures, np.ones(pictures.shape[:3], bool), items)


def embedder(
    images: dict[int, np.ndarray], area: tuple[int, int, int, int], given: argparse.Namespace
) -> torch.nn.Module:
    """Of the package ``--model``; else read from ``--weights`` where that is a file, else trained and written there."""
    if given.model:
        return of_pixels(load(given.model).backbone)
    if given.weights and given.weights.is_file():
        net = Places(kept=True)
        net.load_state_dict(load_file(given.weights), strict=False)
        return of_pixels(net)
    started = time.monotonic()
    y0, x0, y1, x1 = area
    ground = stack(images[k][y0:y1, x0:x1] for k in (2009, 2015))
    model, losses = fit([(1.0, [ground])], RetrievalTraining(steps=given.steps, batch=given.batch))
    print(
        f"trained {time.monotonic() - started:.0f} s, loss {np.mean(losses[:10]):.2f} to {np.mean(losses[-10:]):.2f}",
        flush=True,
    )
    if given.weights:
        save_file({k: v.contiguous() for k, v in model.state_dict().items()}, given.weights)
    return model.eval()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=RetrievalTraining().steps)
    parser.add_argument("--batch", type=int, default=RetrievalTraining().batch)
    parser.add_argument("--model", help="package of the recipe naip-years")
    parser.add_argument("--weights", type=Path, help="a .safetensors file: read if it is there, else written")
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--part", choices=("east", "whole", "inner"), help="else east and whole")
    given = parser.parse_args()
    images = {k: year(v) for k, v in NAMES.items()}
    x0 = int(WEST * images[2009].shape[1])
    inner = given.part == "inner"
    area = (0, 0, SOUTH if inner else images[2009].shape[0], x0)
    quarters, both = of_pixels(Places(project=False, pretrained=True)), embedder(images, area, given)
    whole = Columns(quarters, [slice(0, 112), slice(5 * 112, 5 * 112 + 320)])  # of both scales, without the quarters
    models = [whole, quarters, Columns(both, [slice(-WIDTH, None)]), both]
    rows = ((2015, 2015), (2015, 2009), (2015, 2020), (2009, 2020))
    parts = {"east": ("east part, never trained", x0), "whole": ("whole tile", 0)}
    if inner:  # 2020 stays unseen
        images, rows = {k: v[SOUTH:, :x0] for k, v in images.items()}, ((2009, 2015), (2015, 2009))
        parts = {"inner": ("south of the west, not trained", 0)}
    years = list(images)
    for name in parts if given.part is None else [given.part]:
        label, start = parts[name]
        ground = stack(image[:, start:] for image in images.values())
        for reference, other in rows:
            for turn in (False, True):
                dates = years.index(reference), years.index(other)
                scores = [recall(model, ground, dates, SIDE, given.queries, turn=turn) for model in models]
                shares = [row.at_1 for row in scores]
                print(
                    f"{label}: {other} in {reference}, {'turned' if turn else 'north up'}, {scores[0].tiles} tiles, "
                    f"chance {scores[0].chance:.3f}: R@1 frozen {shares[0]:.3f}, with quarters {shares[1]:.3f}, "
                    + ("" if name == "whole" else f"trained {shares[2]:.3f}, both {shares[3]:.3f}"),
                    flush=True,
                )


if __name__ == "__main__":
    main()
