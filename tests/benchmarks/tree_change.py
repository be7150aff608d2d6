"""Gain and loss of trees by what a detector finds on each date: detect, then compare.

Trees are found by `urban-trees-points`, whose target is a heat map of centres, on ground that it has not seen (folds as
in `tests.benchmarks.defaults`). What is found on one date only is a change, as sure as it was found there and not found
within ``apart`` metres on the other date; it is painted as the disc that the labels of `tree-change-*` have, and scored
by pixels as their maps are. Trainings are kept below ``--out``.

    python -m tests.benchmarks.tree_change --out DIR [--seeds 1 2 3]
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import KDTree

from geoml.data.chips import Reader
from geoml.data.prepare import prepare
from geoml.data.recipe import Folds, RasterRecipe
from geoml.data.scene import Sample
from geoml.data.sources.point_change import Config as PointChange
from geoml.engine.inference.predict import Predictor, map_sample
from geoml.engine.train.evaluate import score
from geoml.engine.train.fit import fit
from geoml.engine.train.folds import Fold, train_folds
from geoml.grid.plane import Window
from geoml.tasks.change import STEPS
from geoml.vector.boxes import COLUMNS
from tests.benchmarks.defaults import figures, folded, said

Y, X, SURE = (COLUMNS.index(name) for name in ("y", "x", "score"))
GAIN, LOSS = 1, 2
"""Indices of the classes of `tree-change-*`."""


def found(predictor: Predictor, sample: Sample, window: Window) -> NDArray[np.float64]:
    """Objects (n, 8) of a window of one date, of any score."""
    rows = [predictor.output.answer(part)[0] for part in map_sample(predictor, sample, window)]
    return np.concatenate(rows).astype(np.float64)


def alone(mine: NDArray[np.float64], other: NDArray[np.float64], apart: float) -> NDArray[np.float64]:
    """How sure (n,) each object of one date is one of that date only, pixels ``apart``."""
    if not len(other) or not len(mine):
        return np.asarray(mine[:, SURE])
    near = KDTree(other[:, [Y, X]]).query_ball_point(mine[:, [Y, X]], apart)
    return np.asarray(mine[:, SURE] * [1 - max(other[i, SURE], default=0.0) for i in near])


def painted(
    dates: Sequence[NDArray[np.float64]], window: Window, apart: float, radius: float
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Index of the change and its probability in steps, (y, x), from the objects of two dates; lengths in pixels."""
    sure = np.zeros((3, *window.shape))
    for kind, mine, other in ((GAIN, dates[1], dates[0]), (LOSS, dates[0], dates[1])):
        for (y, x), p in zip(mine[:, [Y, X]], alone(mine, other, apart), strict=True):
            rows, cols = np.ogrid[: window.shape[0], : window.shape[1]]
            disc = (rows + 0.5 + window.y0 - y) ** 2 + (cols + 0.5 + window.x0 - x) ** 2 <= radius**2
            sure[kind][disc] = np.maximum(sure[kind][disc], p)
    most = sure.max(0)
    index = np.where(most >= 0.5, sure.argmax(0), 0)
    return index.astype(np.uint8), np.round(most * STEPS).astype(np.uint8)


def compared(fold: Fold, change: RasterRecipe, split: Folds, reader: Reader) -> dict[str, Any]:
    """Scores of the changes of the ground that a detector has not seen."""
    from geoml.nn.change_scores import ChangeScores

    source = change.source
    assert isinstance(source, PointChange)
    pieces = prepare(change.model_copy(update={"split": split.model_copy(update={"hold": fold.name})}))["test"]
    predictor, scores = Predictor(fold.package), ChangeScores(len(change.classes), STEPS)
    bands = len(change.bands)
    for piece in pieces:
        sample = reader(piece.scene)
        halves = [replace(sample, image=part) for part in (sample.image[:bands], sample.image[bands:])]
        dates = [found(predictor, half, piece.window) for half in halves]
        answer = painted(dates, piece.window, source.apart / change.gsd, source.radius / change.gsd)
        part = piece.window.slices(piece.scene.window)
        scores.update(*answer, change.target.only(sample.target, sample.valid)[part])
    return scores.compute()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--epochs", type=int, help="instead of those of the recipe")
    given = parser.parse_args()
    torch.set_num_threads(1)
    points, split = folded("urban-trees-points")
    change, _ = folded("tree-change")
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in split.of}
    for seed in given.seeds:
        update = {"seed": seed} | ({"epochs": given.epochs} if given.epochs else {})
        recipe, reader = points.model_copy(update=update), Reader()
        for fold in train_folds(recipe, given.out / "urban-trees-points" / str(seed), fit):
            objects = score(fold.package, fold.pieces, recipe)
            shown = {k: objects["points"][k] for k in ("precision", "recall", "f1", "rmse")} | {"ap50": objects["ap50"]}
            print(
                f"points             {fold.name:12} " + "  ".join(f"{k} {v:.3f}" for k, v in shown.items()), flush=True
            )
            rows[fold.name].append(compared(fold, change, split, reader))
    for name, of in rows.items():
        parts = [figures({**r, "iou": {}}) for r in of]
        print(f"detect, compare    {name:12} " + "  ".join(f"{k} {said([p[k] for p in parts])}" for k in parts[0]))


if __name__ == "__main__":
    main()
