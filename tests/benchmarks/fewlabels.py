"""Land cover of one patch with few labels: embeddings beside raw bands, on squares that no label comes from.

Sentinel-2 L1C of eo-learn's test patch, four clear dates, four classes. Training pixels come from every second
square of 200 m, test pixels are all of the others, 20 m inside their edges; draws are the same for every row. A
prototype is the mean of a class, after scaling by the whole patch without labels. Prints macro F1, its deviation over
draws, and how fast an embedding is beside its bare encoder (CPU time, interleaved, one thread).

    python tests/benchmarks/fewlabels.py --presto PACKAGE [--galileo PACKAGE] [--fold even] [--forest] [--speed]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from geoml.cube.series import Series
from geoml.engine.inference.embed import PixelEmbedder
from geoml.engine.packages import encoder
from geoml.grid.lonlat import lonlat
from geoml.grid.plane import Plane, Window
from geoml.models.presto import PrestoEncoder
from geoml.nn.steps import on_sphere, with_ndvi

PATCH = Path(os.environ.get("GEOML_DATA", "../shared/data")) / "timeseries" / "eolearn_testeopatch"
DATES = {4: 6, 1: 6, 3: 7, 2: 8}
"""Scenes without clouds in the order of their dates, and the months of these: 2015-07-11, 07-31, 08-30, 09-09."""
OF_13 = [1, 2, 3, 4, 5, 6, 7, 8, 11, 12]
CLASSES = {2: "forest", 3: "grassland", 4: "shrub", 8: "built"}
SQUARE, EDGE = 20, 2
LABELS = (1, 5, 20, 100)
FOLDS = ("even", "odd", "both")

Floats = NDArray[np.float32]
Head = Callable[[Floats, NDArray[np.int64], Floats, int], NDArray[np.int64]]


def scenes() -> Floats:
    """(date, y, x, 13) reflectance."""
    found: Floats = np.load(PATCH / "REFERENCE_SCENES.npy")[list(DATES)]
    return found


def series(bands: tuple[str, ...]) -> tuple[Series, tuple[float, float, float, float]]:
    """The patch with its place, and its bbox in degrees."""
    values = np.ascontiguousarray(scenes()[..., OF_13].transpose(0, 3, 1, 2))
    ring = json.loads((PATCH / "TestEOPatch" / "bbox.geojson").read_text(encoding="utf-8"))["coordinates"][0]
    west, north = min(x for x, _ in ring), max(y for _, y in ring)
    height, width = values.shape[2:]
    x0, y0 = round(west / 10), round(-north / 10)  # within half a pixel
    place = lonlat(Plane("EPSG:32633", 10.0), Window(y0, x0, y0 + height, x0 + width))
    bbox = tuple(float(v) for v in (place[0].min(), place[1].min(), place[0].max(), place[1].max()))
    looks = np.ones((len(values), height, width), np.bool_)
    return Series(bands, values, looks, tuple(DATES.values()), place, "L1C"), bbox  # type: ignore[return-value]


def squares(shape: tuple[int, int]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """(y, x) of the even and the odd squares, without their edges."""
    y, x = np.indices(shape)
    inner = (np.minimum(y % SQUARE, x % SQUARE) >= EDGE) & (np.maximum(y % SQUARE, x % SQUARE) < SQUARE - EDGE)
    odd = (y // SQUARE + x // SQUARE) % 2 == 1
    return inner & ~odd, inner & odd


def prototype(x: Floats, y: NDArray[np.int64], test: Floats, seed: int) -> NDArray[np.int64]:
    known = np.unique(y)
    means = np.stack([x[y == k].mean(axis=0) for k in known])
    away = ((test[:, None] - means[None]) ** 2).sum(axis=2)
    nearest: NDArray[np.int64] = known[away.argmin(axis=1)]
    return nearest


def forest(x: Floats, y: NDArray[np.int64], test: Floats, seed: int) -> NDArray[np.int64]:
    from sklearn.ensemble import RandomForestClassifier  # no requirement of geoml: see --forest

    found: NDArray[np.int64] = RandomForestClassifier(100, random_state=seed).fit(x, y).predict(test)
    return found


def macro_f1(truth: NDArray[np.int64], said: NDArray[np.int64]) -> float:
    """The mean of 2 TP / (2 TP + FP + FN) over the classes."""
    right = truth == said
    return float(
        np.mean([2 * (right & (truth == k)).sum() / ((truth == k).sum() + (said == k).sum()) for k in CLASSES])
    )


def scores(
    features: Floats, truth: NDArray[np.int64], head: Head, draws: int, fold: str = "both"
) -> dict[int, list[float]]:
    """Macro F1 by labels a class; ``features`` are (y, x, F). Labels are of even or odd squares, or in turn."""
    flat = features.reshape(-1, features.shape[-1])
    scaled = ((features - flat.mean(axis=0)) / flat.std(axis=0)).astype(np.float32)
    found: dict[int, list[float]] = {n: [] for n in LABELS}
    labelled = np.isin(truth, list(CLASSES))
    for seed in range(draws):
        random = np.random.default_rng(seed)
        first = seed % 2 if fold == "both" else FOLDS.index(fold)
        parts = squares(truth.shape)
        train, test = (labelled & parts[(first + k) % 2] for k in (0, 1))
        order = {k: random.permutation(np.flatnonzero(train & (truth == k))) for k in CLASSES}
        for n in LABELS:
            rows = np.concatenate([o[:n] for o in order.values()])
            x, y = scaled.reshape(-1, scaled.shape[-1])[rows], truth.ravel()[rows]
            said = head(x, y, scaled[test], seed)
            found[n].append(macro_f1(truth[test], said))
    return found


def speed(embedder: PixelEmbedder, given: Series) -> None:
    """Pixels in a second of CPU time, embedded and by the bare encoder in batches of the same size."""
    module = embedder.module
    assert isinstance(module, PrestoEncoder)
    pixels = torch.from_numpy(given.values).permute(2, 3, 0, 1).flatten(0, 1)
    values = with_ndvi(pixels, module.ndvi)
    codes = module.step_codes(1, len(given.months), torch.tensor([given.months]))
    assert given.place is not None
    place = on_sphere(torch.from_numpy(given.place)[None])
    size = 8192 // (len(given.months) * len(module.groups))
    took: dict[str, list[float]] = {"embedded": [], "bare": []}
    for _ in range(4):
        start = time.process_time()
        embedder.embed(given)
        took["embedded"].append(time.process_time() - start)
        start = time.process_time()
        with torch.inference_mode():
            for part in torch.arange(len(values)).split(size):
                module.encode(values[part], codes.expand(len(part), -1, -1), place[part])
        took["bare"].append(time.process_time() - start)
    rates = {name: len(values) / statistics.median(t) for name, t in took.items()}
    print(
        ", ".join(f"{n} {r:.0f} pixels/s" for n, r in rates.items()), f"ratio {rates['embedded'] / rates['bare']:.2f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--presto", required=True)
    parser.add_argument("--galileo")
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--fold", choices=FOLDS, default="both", help="squares that labels come from")
    parser.add_argument("--forest", action="store_true", help="also random forests; needs scikit-learn")
    parser.add_argument("--speed", action="store_true")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    truth = np.load(PATCH / "TestEOPatch" / "mask_timeless" / "LULC.npy")[..., 0].astype(np.int64)
    features = {"52 raw values": np.moveaxis(scenes(), 0, 2).reshape(*truth.shape, -1)}
    for name in ("presto", "galileo"):
        if package := getattr(asked, name):
            made = PixelEmbedder(encoder.load(package))
            given, bbox = series(tuple(b.name for b in made.card.bands))
            if asked.speed and name == "presto":
                speed(made, given)
                return
            found = made.embed(given, bbox)
            print(f"{name}: {found.doubt or 'nothing speaks against it'}")
            features[name] = np.moveaxis(found.vectors, 0, 2)
    print("| features + head |", " | ".join(f"{n}" for n in LABELS), "|")
    rows: dict[str, dict[int, list[float]]] = {}
    for name, values in features.items():
        for head in (prototype, forest) if asked.forest else (prototype,):
            rows[f"{name} + {head.__name__}"] = got = scores(values, truth, head, asked.draws, asked.fold)
            shown = " | ".join(f"{np.mean(v):.3f} ({np.std(v):.3f})" for v in got.values())
            print(f"| {name} + {head.__name__} | {shown} |", flush=True)
    raw, ours = rows["52 raw values + prototype"], rows["presto + prototype"]
    ahead = {n: np.array(ours[n]) - np.array(raw[n]) for n in LABELS}
    print(
        "paired, presto - raw by prototype:",
        {n: f"{d.mean():+.3f}, {(d > 0).sum()} of {len(d)}" for n, d in ahead.items()},
    )


if __name__ == "__main__":
    main()
