"""Classes of points, two ways of learning them, over folds of ground: PointNet++, and a U-Net over rasters of cells.

Each cloud of a recipe is held out in turn and both ways are trained on the others, from the same chips by the same loop
and for as many steps. The rasters have, per cell of 0.5 m, lowest and highest height above openings, count, mean
number of the return and share of first returns; what the U-Net says of a cell goes back to its points beside what each
knows of itself. Prints IoU by class, errors of ground, CPU seconds. Trainings are kept below ``--out``.

    python -m tests.benchmarks.point_classes point-classes --out DIR [--ways points rasters] [--folds NAME …]
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import OneCycleLR

from geoml.cube.clouds.openings import heights_above_openings
from geoml.data.chips import OwnRows
from geoml.data.recipe import recipe_file
from geoml.elevation.accuracy.point_scores import PointScores
from geoml.elevation.training.clouds import LabelledCloud, chip, clouds
from geoml.elevation.training.fit import fit, set_loss
from geoml.elevation.training.recipe import CloudSplit, PointRecipe
from geoml.engine.packages import points
from geoml.engine.packages.points import PointColumns
from geoml.engine.train.loop import Training, TrainingBatch, learn
from geoml.nn.plain_unet import PlainUNet
from geoml.recipe import load_yaml, parse

CELL = 500
OPENINGS = (1, 2, 4, 8, 16)
CHANNELS = (96, 64, 48, 32)
SIDE = 1 << len(CHANNELS)
LAYERS = 2 * len(OPENINGS) + 3
OWN = len(OPENINGS) + 5


class Rasters(nn.Module):
    """Logits (n, class) of points: a U-Net over (1, layers, y, x) cells, then a perceptron of point and cell."""

    def __init__(self, classes: int, width: int = 32) -> None:
        super().__init__()
        self.net = PlainUNet(LAYERS, CHANNELS, width)
        self.head = nn.Sequential(
            nn.Linear(width + OWN, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Dropout(0.2), nn.Linear(64, classes)
        )

    def forward(self, cells: Tensor, at: Tensor, own: Tensor) -> Tensor:
        told = self.net(cells)[0].flatten(1).T.index_select(0, at)
        out: Tensor = self.head(torch.cat([told, own], 1))
        return out


def rasters(columns: PointColumns) -> tuple[Tensor, Tensor, Tensor]:
    """Arguments of `Rasters`, in the order of the points."""
    height = heights_above_openings(columns.points, 2 * CELL, OPENINGS) / 1000
    height = np.sign(height) * np.sqrt(np.abs(height))
    cell = np.floor_divide(columns.points[:, :2], CELL)
    cell -= cell.min(0)
    width, rows = (-(-(int(n) + 1) // SIDE) * SIDE for n in cell.max(0))
    at = cell[:, 1] * width + cell[:, 0]
    count = np.bincount(at, minlength=rows * width)
    first = (columns.returned <= 1).astype(np.float64)
    layers = []
    for k in range(len(OPENINGS)):
        low, high = np.full(rows * width, np.inf), np.full(rows * width, -np.inf)
        np.minimum.at(low, at, height[:, k])
        np.maximum.at(high, at, height[:, k])
        layers += [np.where(count > 0, low, 0), np.where(count > 0, high, 0)]
    mean = np.bincount(at, first, rows * width) / np.maximum(count, 1)
    returns = np.bincount(at, columns.returns, rows * width) / np.maximum(count, 1)
    stack = np.stack([*layers, np.log1p(count), mean, returns / 4]).reshape(1, LAYERS, rows, width)
    lowest = np.full(rows * width, np.iinfo(np.int64).max)
    np.minimum.at(lowest, at, columns.points[:, 2])
    over = np.sqrt((columns.points[:, 2] - lowest[at]) / 1000)
    last = columns.returned >= np.maximum(columns.returns, 1)
    echo = [over, first, last, columns.returns <= 1, columns.returned / np.maximum(columns.returns, 1)]
    own = np.concatenate([height, np.stack(echo, 1)], 1)
    return torch.from_numpy(stack).float(), torch.from_numpy(at), torch.from_numpy(own).float()


def chips(recipe: PointRecipe, train: Sequence[LabelledCloud], epoch: int, rows: OwnRows) -> Iterator[TrainingBatch]:
    for step in range(recipe.steps):
        random = np.random.default_rng([recipe.seed, epoch, step])
        columns, may = chip(train, recipe.chip, recipe.augmentation, random)
        target = torch.from_numpy((may[:, None] >> np.arange(len(recipe.classes))) & 1 > 0)
        yield TrainingBatch(rasters(columns), target, 1)


def by_rasters(recipe: PointRecipe, out: Path) -> dict[str, Any]:
    """Trained and scored as `geoml.elevation.training.fit.fit` does it of points."""
    torch.manual_seed(recipe.seed)
    net = Rasters(len(recipe.classes))
    training = Training(
        name=recipe.name, lower="lr", net=net, batches=partial(chips, recipe, clouds(recipe, "train")), loss=set_loss,
        optimiser=partial(AdamW, net.parameters(), weight_decay=recipe.weight_decay),
        schedule=partial(OneCycleLR, max_lr=recipe.lr, total_steps=recipe.steps * recipe.epochs),
        epochs=recipe.epochs, clip=5.0, seed=recipe.seed,
    )  # fmt: skip
    out.mkdir(parents=True, exist_ok=True)
    learn(training, out)
    scores = PointScores([c.name for c in recipe.classes])
    with torch.inference_mode():
        for cloud in clouds(recipe, "test"):
            answer: NDArray[np.int64] = net(*rasters(cloud.columns)).numpy().argmax(1)
            scores.update(answer, cloud.may)
    return scores.compute()


def by_points(recipe: PointRecipe, out: Path) -> dict[str, Any]:
    return dict(fit(recipe, out).scores)


WAYS = {"points": by_points, "rasters": by_rasters}


def speed(recipe: PointRecipe, package: Path) -> float:
    """Points that are classified in a CPU second, reading apart."""
    loaded = points.load(package)
    held = clouds(recipe, "test")
    start = time.process_time()
    for cloud in held:
        loaded.classify(cloud.cloud)
    return sum(map(len, held)) / (time.process_time() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--folds", nargs="+", help="names of clouds or parts of them; by default each cloud")
    given = parser.parse_args()
    torch.set_num_threads(1)
    recipe = parse(PointRecipe, load_yaml(recipe_file(given.recipe)), given.recipe)
    whole = recipe.model_copy(update={"split": CloudSplit()})
    for name in given.folds or [cloud.name for cloud in clouds(whole, "train")]:
        fold = recipe.model_copy(update={"split": CloudSplit(test=(f"*{name}*",))})
        for way in given.ways:
            start = time.process_time()
            found = WAYS[way](fold, given.out / way / name)
            row = {k: found[k] for k in ("iou", "ground", "right")} | {"fold": name, "way": way}
            row["cpu_s"] = round(time.process_time() - start, 1)
            if way == "points":
                row["others"] = {k: v["ground"] for k, v in found["methods"].items()}
                row["points_per_cpu_s"] = round(speed(fold, given.out / way / name))
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
