"""What the shipped Dynamic World is worth on labels that it never saw, beside the commonest class and a simple method.

    python tests/benchmarks/dynamic_world.py --model DIR [--write]

Three sets of `GEOML_DATA`: five dates of a patch in Slovenia (level L1C, land cover of every pixel), a flood in Spain
(L1C, water drawn by hand) and nine patches of BigEarthNet (L2A, a list of what lies in each). The temperature is fitted
on every second square of the patch, on its clear dates; everything about the patch is measured on the other squares.
``--write`` puts scores and temperature into the card. North Carolina (``sentinel2_rcr_nc``) is left out: it lacks both
bands of short-wave infrared, and its bytes have no stated scale.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from numpy.typing import NDArray
from rasterio.enums import Resampling
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from geoml.engine.packages import cards, package
from geoml.engine.packages.package import Package
from geoml.io.cards.map_card import TEMPERATURE
from geoml.nn.linear_heads import softmax, temperature
from geoml.nn.metrics import IGNORE, MacroScores

DATA = Path(os.environ.get("GEOML_DATA", "../shared/data"))
PATCH = DATA / "timeseries" / "eolearn_testeopatch"
NINE_OF_13 = [1, 2, 3, 4, 5, 6, 7, 11, 12]
DATES = {"2015-07-11": 4, "2015-08-30": 3, "2015-09-09": 2, "2015-07-31, thin cloud": 1, "thick cloud": 0}
"""Scenes of the patch; its files do not say the date of the last. The first three have no cloud in its cloud mask."""
CLEAR = tuple(DATES)[:3]
REFERENCE = {"cultivated land": 4, "forest": 1, "grassland": 2, "shrubland": 5, "artificial surface": 6}
"""Classes of the patch's reference (1, 2, 3, 4, 8) as those of the model."""
VALUES = (1, 2, 3, 4, 8)
CORINE = {
    "trees": ("forest", "woodland"),
    "crops": ("arable", "agricult", "cultivation", "crops", "orchard", "vineyard", "rice", "olive"),
    "grass": ("pasture", "grassland"),
    "shrub_and_scrub": ("shrub", "heath", "sclerophyllous"),
    "flooded_vegetation": ("bog", "marsh"),
    "water": ("water", "sea", "lagoon"),
    "built": ("urban", "industrial"),
}  # fmt: skip
"""Words in the labels of BigEarthNet that admit a class of the model."""
SQUARE, EDGE = 20, 2
STEPS = 250

Floats = NDArray[Any]


def logits(model: Package, reflectance: Floats) -> Floats:
    """(y, x, class) of (y, x, 9) reflectance."""
    with torch.inference_mode():
        x = torch.from_numpy(np.ascontiguousarray(reflectance, np.float32)).movedim(-1, 0)[None]
        found: Floats = model.module(x / model.card.bands[0].std)[0].movedim(0, -1).double().numpy()
    return found


def scored(classes: int, chance: Floats, truth: NDArray[np.int64]) -> dict[str, Any]:
    """Accuracy, F1 of the classes that are there, and expected calibration error of (n, class) probabilities."""
    scores = MacroScores(classes, STEPS)
    scores.update(chance.argmax(-1), np.rint(chance.max(-1) * STEPS).astype(np.int64), truth)
    found = scores.compute()
    return {"accuracy": found["overall_accuracy"], "macro_f1": found["macro_f1"], "ece": found["ece"]}


def rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: rounded(v) for k, v in value.items()}
    return round(value, 3) if isinstance(value, float) else value


def slovenia(model: Package) -> tuple[dict[str, Any], float]:
    """Scores by date on the odd squares, and the temperature of the even ones."""
    scenes = np.load(PATCH / "REFERENCE_SCENES.npy")[..., NINE_OF_13]
    lulc = np.load(PATCH / "TestEOPatch" / "mask_timeless" / "LULC.npy")[..., 0]
    truth = np.full(lulc.shape, IGNORE, np.int64)
    for value, ours in zip(VALUES, REFERENCE.values(), strict=True):
        truth[lulc == value] = ours
    y, x = np.indices(truth.shape)
    inner = (np.minimum(y % SQUARE, x % SQUARE) >= EDGE) & (np.maximum(y % SQUARE, x % SQUARE) < SQUARE - EDGE)
    odd = (y // SQUARE + x // SQUARE) % 2 == 1
    known = inner & (truth != IGNORE)
    fit, test = known & ~odd, known & odd
    raw = {date: logits(model, scenes[k]) for date, k in DATES.items()}
    taught = np.concatenate([raw[d][fit] for d in CLEAR])
    t = temperature(taught, np.tile(truth[fit], len(CLEAR)), np.ones(len(taught)))
    commonest = np.bincount(truth[fit]).argmax()
    out: dict[str, Any] = {}
    for date, k in DATES.items():
        bands, where = scenes[k].reshape(-1, len(NINE_OF_13)), truth.ravel()
        simple = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
        simple.fit(bands[fit.ravel()], where[fit.ravel()])
        out[date] = {
            "model": scored(9, softmax(raw[date][test] / t), truth[test]),
            "ece_without_temperature": scored(9, softmax(raw[date][test]), truth[test])["ece"],
            "commonest_class": scored(9, np.eye(9)[np.full(test.sum(), commonest)], truth[test]),
            "logistic_regression_of_its_labels": scored(5, simple.predict_proba(bands[test.ravel()]),
                                                        np.searchsorted(simple.classes_, truth[test])),
        }  # fmt: skip
    clear = {
        f"{who}_accuracy_on_clear_dates": float(np.mean([out[d][who]["accuracy"] for d in CLEAR]))
        for who in ("model", "commonest_class", "logistic_regression_of_its_labels")
    }
    return {**clear, "pixels": int(test.sum()), "dates": out}, t


def spain(model: Package, t: float) -> dict[str, Any]:
    """IoU of water of a hand-drawn flood, beside NDWI above zero and no water anywhere."""
    folder = DATA / "segmentation" / "sen1floods11"
    with rasterio.open(folder / "Spain_7370579_S2Hand.tif") as file:
        bands = file.read().astype(np.float64)[NINE_OF_13].transpose(1, 2, 0) * 1e-4
    with rasterio.open(folder / "Spain_7370579_LabelHand.tif") as file:
        label = file.read(1)
    raw = logits(model, bands)[label >= 0]
    said = raw.argmax(-1) == 0
    ndwi = ((bands[..., 1] - bands[..., 6]) > 0)[label >= 0]
    truth = label[label >= 0] == 1
    chance = {n: softmax(raw / s)[:, 0] for n, s in (("with", t), ("without", 1.0))}
    ece = {n: scored(2, np.stack([1 - c, c], -1), truth.astype(np.int64))["ece"] for n, c in chance.items()}
    iou = {n: float((m & truth).sum() / (m | truth).sum()) for n, m in (("model", said), ("ndwi", ndwi))}
    return {
        "pixels": int(truth.size), "water_share": float(truth.mean()), "water_iou": iou["model"],
        "ndwi_above_zero_iou": iou["ndwi"], "accuracy": float((said == truth).mean()),
        "no_water_accuracy": float(1 - truth.mean()), "ece": ece["with"], "ece_without_temperature": ece["without"],
    }  # fmt: skip


def bigearthnet(model: Package) -> dict[str, Any]:
    """Share of pixels whose class is among those that the labels of the patch admit; level L2A."""
    names = [c.name for c in model.card.classes]
    shares: dict[str, float] = {}
    commonest: list[float] = []
    for folder in sorted((DATA / "fewlabels" / "bigearthnet" / "tiny").iterdir()):
        bands = []
        for band in ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B11", "B12"):
            with rasterio.open(folder / f"{folder.name}_{band}.tif") as file:
                bands.append(file.read(1, out_shape=(120, 120), resampling=Resampling.bilinear) * 1e-4)
        labels = " ".join(json.loads((folder / f"{folder.name}_labels_metadata.json").read_text())["labels"]).lower()
        admitted = [n for n, words in CORINE.items() if any(w in labels for w in words)]
        said = logits(model, np.stack(bands, -1)).argmax(-1)
        shares[folder.name] = float(np.isin(said, [names.index(n) for n in admitted]).mean())
        commonest.append("trees" in admitted)
    return {
        "patches": shares,
        "mean": float(np.mean(list(shares.values()))),
        "trees_everywhere": float(np.mean(commonest)),
    }


def beside(found: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows that `geoml models show` prints: each score beside doing nothing and a simple method."""
    patch, flood, tiny = (found[name] for name in ("eolearn_testeopatch", "sen1floods11_spain", "bigearthnet"))
    return [
        {
            "data": f"eo-learn patch in Slovenia, {len(CLEAR)} clear dates, {patch['level']}",
            "measure": "accuracy",
            "model": patch["model_accuracy_on_clear_dates"],
            "nothing": patch["commonest_class_accuracy_on_clear_dates"],
            "nothing_is": "the commonest class everywhere",
            "simple": patch["logistic_regression_of_its_labels_accuracy_on_clear_dates"],
            "simple_is": "logistic regression with labels of the patch",
        },
        {
            "data": f"Sen1Floods11, a flood in Spain, {flood['level']}",
            "measure": "IoU of water",
            "model": flood["water_iou"],
            "nothing": 0.0,
            "nothing_is": "no water",
            "simple": flood["ndwi_above_zero_iou"],
            "simple_is": "NDWI above 0",
        },
        {
            "data": f"{len(tiny['patches'])} patches of BigEarthNet, {tiny['level']}",
            "measure": "pixels whose class is in the patch's list of labels",
            "model": tiny["mean"],
            "nothing": tiny["trees_everywhere"],
            "nothing_is": "trees everywhere",
        },
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="dynamic-world")
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    model = package.load(asked.model)
    patch, t = slovenia(model)
    scores = {
        "eolearn_testeopatch": {**patch, "level": "L1C", "classes": REFERENCE, "temperature": t},
        "sen1floods11_spain": {**spain(model, t), "level": "L1C"},
        "bigearthnet": {**bigearthnet(model), "level": "L2A"},
    }
    found = rounded(scores)
    found["beside"] = beside(found)
    print(json.dumps(found, indent=1))
    if asked.write:
        kept = {k: v for k, v in model.card.scores.items() if k == "reference_difference"}
        made = {**model.card.made, TEMPERATURE: round(t, 3)}
        cards.write(model.card.model_copy(update={"scores": {**kept, **found}, "made": made}), model.path)


if __name__ == "__main__":
    main()
