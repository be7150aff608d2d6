"""What the defaults of training are worth: shipped recipes, and these with parts taken away, over folds of ground.

Each group of scenes is held out in turn (`geoml.engine.train.folds`), so that every row is of ground that its network
has not seen. Beside it the best threshold of one index on the same ground, chosen on the other groups. Prints IoU or
average precision and ECE, mean and range over seeds. Trainings are kept below ``--out``: give the same command again
after a stop, and it goes on.

    python -m tests.benchmarks.defaults osm-buildings --seeds 1 2 3 --out DIR [--variant shipped before]
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from geoml.data.chips import Reader
from geoml.data.prepare import prepare
from geoml.data.recipe import BY_BAND, STANDARD, Folds, RasterRecipe
from geoml.data.scene import Piece
from geoml.engine.packages import package
from geoml.engine.packages.compare import compare
from geoml.engine.train.evaluate import score
from geoml.engine.train.fit import fit
from geoml.engine.train.folds import score_folds, train_folds
from geoml.models import despeckled as speckle
from geoml.nn.metrics import IGNORE
from geoml.pipeline import training
from geoml.recipe import parse

LOOKS = speckle.Config.looks
Index = Callable[[NDArray[np.float64]], NDArray[np.float64]]


def ndvi(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return (x[3] - x[0]) / np.maximum(x[3] + x[0], 1)


def vh(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return x[1]


def filtered(how: Callable[[torch.Tensor], torch.Tensor]) -> Index:
    """VH without its speckle, dB."""

    def index(x: NDArray[np.float64]) -> NDArray[np.float64]:
        found: NDArray[np.float64] = speckle.decibels(how(speckle.power(torch.from_numpy(x[None, 1:2])))).numpy()[0, 0]
        return found

    return index


SPECKLE: dict[str, Index] = {
    "VH": vh,
    "VH, boxcar 7": filtered(lambda power: speckle.boxcar(power, 7)),
    "VH, Lee 3": filtered(lambda power: speckle.lee(power, 3, LOOKS)),
    "VH, Lee 7": filtered(lambda power: speckle.lee(power, 7, LOOKS)),
}
INDEX: dict[str, Index] = {
    "sen1floods11-water": vh,
    "osm-buildings": lambda x: x[0] - x[1],  # red minus green: roofs and earth against plants
    "urban-trees": ndvi,
}


def pixels(pieces: Sequence[Piece], index: Index) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The index and the truth (class 1) of every known pixel."""
    values, truth = [], []
    for piece in pieces:
        sample = piece.scene.read()
        part = piece.window.slices(piece.scene.window)
        known = sample.target[part] != IGNORE
        values.append(index(sample.image.astype(float))[part][known])
        truth.append(sample.target[part][known] == 1)
    return np.concatenate(values), np.concatenate(truth)


def iou(guess: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    return float((guess & truth).sum() / max(1, (guess | truth).sum()))


def _iou_at(side: int, t: float, every: NDArray[np.float64], true: NDArray[np.float64]) -> float:
    """IoU of what is above ``t`` (below it, for side -1) with what is true, of sorted values."""
    if side > 0:
        called, hit = (len(v) - np.searchsorted(v, t, "right") for v in (every, true))
    else:
        called, hit = (np.searchsorted(v, t, "left") for v in (every, true))
    return float(hit / max(1, called + len(true) - hit))


def threshold(recipe: RasterRecipe, learnt: Sequence[str] = ("train",), index: Index | None = None) -> dict[str, float]:
    """The threshold and side with the best IoU on the splits ``learnt``, and its scores on test."""
    splits, index = prepare(recipe), index or INDEX[recipe.name]
    values, truth = pixels([p for name in learnt for p in splits[name]], index)
    every, true = np.sort(values), np.sort(values[truth])
    best = max(
        (_iou_at(s, float(t), every, true), s, float(t))
        for s in (1, -1)
        for t in np.quantile(every, np.linspace(0.01, 0.99, 99))
    )
    values, truth = pixels(splits["test"], index)
    guess = best[1] * values > best[1] * best[2]
    return {
        "side": best[1],
        "threshold": float(best[2]),
        "iou": iou(guess, truth),
        "miou": (iou(guess, truth) + iou(~guess, ~truth)) / 2,
        "accuracy": float((guess == truth).mean()),
        "pixels": len(truth),
    }


LITE0 = STANDARD.model_dump(mode="json")
SIAMESE = {**LITE0, "architecture": "siamese_unet"}
WATER = {
    "architecture": "unet",
    "config": {"encoder": "resnet18", "depth": 4, "decoder_channels": [128, 64, 32, 16]},
}
VARIANTS: dict[str, dict[str, Mapping[str, Any]]] = {
    "osm-buildings": {
        "shipped": {},
        "before": {
            "model": {"architecture": "unet", "config": {"encoder": "resnet18", "depth": 5}},
            "init": None,
            "augmentation": {"flips": True, "brightness": 0.3, "contrast": 0.25, "band_jitter": 0.15},
            "sampling": {"kind": "uniform", "samples": 128},
        },
        "random weights": {"init": None},
        "weak augmentation": {
            "augmentation": {"flips": True, "brightness": 0.3, "contrast": 0.25, "band_jitter": 0.15}
        },
        "by size": {"sampling": {"kind": "labelled", "samples": 128}},
        "averaged": {"averaging": 0.99},
    },
    "urban-trees": {"shipped": {}, "lite0": {"model": LITE0, "init": BY_BAND, "loss": {"parts": "auto"}}},
    "tree-change": {"shipped": {}, "lite0": {"model": SIAMESE, "init": BY_BAND, "loss": {"parts": "auto"}}},
    "sen1floods11-water": {
        "shipped": {},
        "lite0": {"model": LITE0, "init": BY_BAND},
        "despeckled": {"model": {"architecture": "despeckled", "config": WATER}},
    },
}
"""What is changed of a shipped recipe."""
LAST = ("claremont_*_15", "claremont_*_73", "long_*_46", "palm_*_71", "palm_*_87", "riverside_*_87", "santa_*_68")
TREES = {
    "kind": "folds",
    "of": {"santa": ["santa_*"], "inland": ["claremont_*", "riverside_*"], "south": ["long_*", "palm_*"]},
    "never": [*LAST, "santa_*_7", "santa_*_8"],
    "carve": {"size": 160, "share": 0.15},
}
FOLDED: dict[str, Mapping[str, Any]] = {
    "urban-trees": TREES,
    "urban-trees-points": TREES,
    "tree-change": TREES,
    "sen1floods11-water": {
        "kind": "folds",
        "of": {"africa": ["Ghana_*", "Nigeria_*", "Somalia_*"], "asia": ["India_*", "Mekong_*"], "spain": ["Spain_*"]},
        "carve": {"size": 2560, "share": 0.2},
    },
}
"""Splits of recipes that are shipped with another; of the trees the ground of the official test list stays unseen."""


def run(recipe: RasterRecipe, seed: int, folder: Path) -> dict[str, Any]:
    """Scores of the folds of a recipe; they are kept in the folder when they are there."""
    kept = folder / "scores.json"
    if kept.exists():
        found: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8"))
        return found
    began = time.process_time()
    asked = recipe.model_copy(update={"seed": seed})
    folds = train_folds(asked, folder, fit)
    scores, temperature = score_folds(folds, asked, Reader())
    found = {**scores, "temperature": temperature, "cpu": time.process_time() - began}
    kept.write_text(json.dumps(found), encoding="utf-8")
    return found


def figures(scores: Mapping[str, Any]) -> dict[str, float]:
    """What the table shows of scores: the classes but the first, and how wrong the confidence is."""
    change = scores.get("change") or {}
    shown = {f"IoU {name}": v for name, v in list(scores["iou"].items())[1:]} if not change else {}
    if change:
        shown = {"AP": change["average_precision"], "F1": change["f1"]}
    return {**shown, "ECE": scores["ece"]}


def said(values: Sequence[float]) -> str:
    """Mean, and range where there are several."""
    spread = f" ({min(values):.3f}-{max(values):.3f})" if len(values) > 1 else ""
    return f"{np.mean(values):.3f}{spread}"


def folded(name: str) -> tuple[RasterRecipe, Folds]:
    """A shipped recipe, split by folds."""
    shipped = training(SHIPPED.get(name, name))[1]
    assert isinstance(shipped, RasterRecipe), name
    value = shipped.model_dump(mode="json")
    recipe = parse(type(shipped), {**value, "split": FOLDED.get(name, value["split"])}, name)
    assert isinstance(recipe.split, Folds), name
    return recipe, recipe.split


SHIPPED = {"tree-change": "tree-change-unet"}


def compared(of: Path, recipe: RasterRecipe, split: Folds) -> dict[str, Any]:
    """Scores of the maps of each date, compared, by the packages of the folds of a recipe of one date."""
    every: dict[str, Any] = {}
    for name in split.of:
        held = recipe.model_copy(update={"split": split.model_copy(update={"hold": name})})
        made = compare(package.load(str(of / name)))
        every[name] = score(made, prepare(held)["test"], recipe)
    return every


def show(label: str, fold: str, scores: Sequence[Mapping[str, Any]]) -> None:
    parts = [figures(s) for s in scores]
    print(f"{label:18} {fold:12} " + "  ".join(f"{k} {said([p[k] for p in parts])}" for k in parts[0]), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("recipe", choices=list(VARIANTS))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--variant", nargs="*", default=["shipped"], help="none: the thresholds alone")
    parser.add_argument("--epochs", type=int, help="instead of those of the recipe")
    parser.add_argument("--samples", type=int, help="crops in an epoch, instead of those of the recipe")
    parser.add_argument("--compare", type=Path, help="folder of a recipe of one date, whose maps are compared")
    given = parser.parse_args()
    torch.set_num_threads(1)
    shipped, split = folded(given.recipe)
    value = shipped.model_dump(mode="json")
    value |= {"epochs": given.epochs} if given.epochs else {}
    value["sampling"] |= {"samples": given.samples} if given.samples else {}
    if given.compare:
        for fold, scores in compared(given.compare, shipped, split).items():
            show("compared", fold, [scores])
        return
    for name in given.variant:
        recipe = parse(type(shipped), {**value, **VARIANTS[given.recipe][name]}, name)
        rows = [run(recipe, s, given.out / given.recipe / name.replace(" ", "-") / str(s)) for s in given.seeds]
        for fold in split.of:
            show(name, fold, [row["folds"][fold] for row in rows])
        show(name, "all", rows)
        print(f"{name:18} {sum(r['cpu'] for r in rows) / 60:.1f} CPU minutes", flush=True)
    table = SPECKLE if given.recipe == "sen1floods11-water" else {"threshold": INDEX.get(given.recipe)}
    for name, index in table.items():
        for fold in split.of if index else ():
            held = shipped.model_copy(update={"split": split.model_copy(update={"hold": fold})})
            best = threshold(held, ("train", "val"), index)
            print(f"{name:18} {fold:12} IoU {best['iou']:.3f} at {best['side']:+.0f} x {best['threshold']:.3f}")


if __name__ == "__main__":
    main()
