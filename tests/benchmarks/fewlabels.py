"""Land cover of one patch with few labels: embeddings beside raw bands, on squares that no label comes from.

Sentinel-2 L1C of eo-learn's test patch, four clear dates, four classes. Training pixels come from every second
square of 200 m, test pixels are all of the others, 20 m inside their edges; draws are the same for every row. Features
are scaled by the whole patch without labels. Prints macro F1 and its deviation over draws, what prediction sets and the
area of applicability say on the other squares and on foreign ground, what the next labels bring beside random ones,
how fast an embedding is beside its bare encoder (CPU time, interleaved, one thread), and what is learnt from some
polygons of the bundled scene, which has three bands, scored on the others.

    python tests/benchmarks/fewlabels.py [--presto PACKAGE] [--fold even] [--only curve|trust|next|speed|polygons]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from geoml.cli.demos.learn import make_recipe
from geoml.cube.series import Series
from geoml.engine.inference.embed import PixelEmbedder
from geoml.engine.learn import fit
from geoml.engine.learn.choose import HeadCandidate, Learnt, Standard, candidates, choose, forest, judged, macro_f1
from geoml.engine.learn.gather import FeatureReader
from geoml.engine.learn.next_places import CERTAIN, spread
from geoml.engine.learn.recipe import HEADS
from geoml.engine.packages import encoder, package
from geoml.engine.run.plan import make_plan
from geoml.grid.lonlat import lonlat
from geoml.grid.plane import Plane, Window
from geoml.models.presto import PrestoEncoder
from geoml.nn import applicability
from geoml.nn.linear_heads import softmax
from geoml.nn.prediction_sets import sets
from geoml.nn.steps import on_sphere, with_ndvi

PATCH = Path(os.environ.get("GEOML_DATA", "../shared/data")) / "timeseries" / "eolearn_testeopatch"
DATES = {4: 6, 1: 6, 3: 7, 2: 8}
"""Scenes without clouds in the order of their dates, and the months of these: 2015-07-11, 07-31, 08-30, 09-09."""
OF_13 = [1, 2, 3, 4, 5, 6, 7, 8, 11, 12]
CLASSES = {2: "forest", 3: "grassland", 4: "shrub", 8: "built"}
SQUARE, EDGE = 20, 2
LABELS = (1, 5, 20, 100)
FOLDS = ("even", "odd", "both")

FIRST = candidates(("embedding", "bands"), HEADS)[0]
"""What is learnt where nothing is clearly better."""

Floats = NDArray[Any]


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


def learnt(parts: dict[str, Floats], rows: NDArray[np.int64], truth: NDArray[np.int64]) -> Learnt:
    """Pixels as heads see them: each is a place of its own, on the ground of its square."""
    of = {k: n for n, k in enumerate(CLASSES)}
    y = np.array([of[int(v)] for v in truth.ravel()[rows]], np.int64)
    row, col = np.divmod(rows, truth.shape[1])
    ground = row // SQUARE * 1000 + col // SQUARE
    return Learnt({n: v[rows] for n, v in parts.items()}, y, np.arange(len(rows)), ground, len(CLASSES))


def standardised(features: dict[str, Floats]) -> dict[str, Floats]:
    """(pixel, feature) of all parts, scaled by the whole patch without labels."""
    out = {}
    for name, values in features.items():
        flat = values.reshape(-1, values.shape[-1])
        scaling = Standard.of(flat)
        out[name] = (flat - scaling.center) / scaling.spread
    return out


def draws_of(
    truth: NDArray[np.int64], draws: int, fold: str
) -> Iterator[tuple[int, dict[int, NDArray[np.int64]], NDArray[np.int64]]]:
    """Seed, rows of the training squares by class in random order, rows of the others. Squares are even or odd, or in
    turn."""
    flat, parts = truth.ravel(), squares(truth.shape)
    labelled = np.isin(flat, list(CLASSES))
    for seed in range(draws):
        random = np.random.default_rng(seed)
        first = seed % 2 if fold == "both" else FOLDS.index(fold)
        train, test = (np.flatnonzero(labelled & parts[(first + k) % 2].ravel()) for k in (0, 1))
        yield seed, {k: random.permutation(train[flat[train] == k]) for k in CLASSES}, test


def curve(
    parts: dict[str, Floats], truth: NDArray[np.int64], draws: int, fold: str
) -> dict[str, dict[int, list[float]]]:
    """Macro F1 of each row by labels a class; ``learn`` is what `geoml learn` takes."""
    simple = {
        "presto, prototype": HeadCandidate(("embedding",), "prototype", 0.0),
        "bands, prototype": HeadCandidate(("bands",), "prototype", 0.0),
        "bands, logistic": HeadCandidate(("bands",), "logistic", FIRST.strength),
        "presto + bands, prototype": HeadCandidate(("embedding", "bands"), "prototype", 0.0),
        "presto + bands, logistic": FIRST,
    }
    found: dict[str, dict[int, list[float]]] = {}
    for seed, order, test in draws_of(truth, draws, fold):
        asked = learnt(parts, test, truth)
        for n in LABELS:
            given = learnt(parts, np.concatenate([o[:n] for o in order.values()]), truth)
            rows = {name: c.logits(given, asked).argmax(1) for name, c in simple.items()}
            chosen = choose(given, HEADS, 5, seed, simple=False).chosen if n > 1 else simple["presto + bands, logistic"]
            rows["learn"] = chosen.logits(given, asked).argmax(1)
            rows |= {f"{p}, forest": forest((p,), seed)(given, asked) for p in parts}
            for name, said in rows.items():
                found.setdefault(name, {m: [] for m in LABELS})[n].append(macro_f1(asked.y, said, len(CLASSES)))
    return found


def trusted(
    parts: dict[str, Floats], truth: NDArray[np.int64], draws: int, fold: str, strange: dict[str, Floats]
) -> None:
    """Cover of 90 % sets on the other squares, and what is outside of the area of applicability there and elsewhere."""
    head = FIRST
    for n in (5, 20, 50):
        rows = []
        for seed, order, test in draws_of(truth, draws, fold):
            given, asked = (
                learnt(parts, np.concatenate([o[:n] for o in order.values()]), truth),
                learnt(parts, test, truth),
            )
            cut = given.fold_of(5, seed)
            worth, fitted = judged(head, given, cut, 0.9), head.fit(given)
            near = applicability.fit(given.x(head.parts), applicability.importance(fitted.weight), cut, seed)
            others = Learnt(
                strange, np.zeros(len(strange["bands"]), np.int64), *[np.arange(len(strange["bands"]))] * 2, 4
            )
            outside = [float((near.index(x.x(head.parts)) > 1).mean()) for x in (asked, others)]
            if worth.limit is None:
                continue
            inside = sets(softmax(fitted.logits(asked.x(head.parts)) / worth.temperature), worth.limit)
            hit = inside[np.arange(len(asked.y)), asked.y]
            by_class = float(np.mean([hit[asked.y == k].mean() for k in range(len(CLASSES))]))
            rows.append([float(hit.mean()), by_class, float(inside.sum(1).mean()), *outside])
        if not rows:
            print(f"{n} labels a class: too few places for sets")
            continue
        said = ("sets cover", "mean over classes", "classes in a set", "own ground outside", "foreign ground outside")
        print(f"{n} labels a class:", ", ".join(f"{w} {v:.3f}" for w, v in zip(said, np.mean(rows, 0), strict=True)))


def next_labels(parts: dict[str, Floats], truth: NDArray[np.int64], draws: int, fold: str) -> None:
    """Macro F1 after more labels, of places that `geoml area next` would ask for and of random ones."""
    head = FIRST
    for n, more in ((5, 20), (5, 40), (20, 40)):
        ahead, base = [], []
        for seed, order, test in draws_of(truth, draws, fold):
            asked = learnt(parts, test, truth)
            rows = np.concatenate([o[:n] for o in order.values()])
            given = learnt(parts, rows, truth)
            random = np.random.default_rng([seed, n, more])
            pool = random.permutation(np.setdiff1d(np.concatenate(list(order.values())), rows))[:2000]
            there = learnt(parts, pool, truth)
            fitted, cut = head.fit(given), given.fold_of(5, seed)
            p = softmax(fitted.logits(there.x(head.parts)) / judged(head, given, cut, 0.9).temperature)
            near = applicability.fit(given.x(head.parts), applicability.importance(fitted.weight), cut, seed)
            inside = np.flatnonzero(near.index(there.x(head.parts)) <= 1)
            unsure = np.exp(-(p * np.log(np.maximum(p, 1e-12))).sum(1)) - 1 + CERTAIN
            place = np.stack([pool % truth.shape[1] * 1.3e-4, 45.87 - pool // truth.shape[1] * 9e-5], 1)
            chosen = inside[spread(there.x(head.parts)[inside], unsure[inside], place[inside], more, 30.0, seed)]

            def after(extra: NDArray[np.int64], rows: NDArray[np.int64] = rows, asked: Learnt = asked) -> float:
                wider = learnt(parts, np.concatenate([rows, extra]), truth)
                return macro_f1(asked.y, head.logits(wider, asked).argmax(1), len(CLASSES))

            chance = np.mean([after(random.permutation(pool)[:more]) for _ in range(5)])
            ahead.append(after(pool[chosen]) - chance)
            base.append(chance)
        said = f"random {np.mean(base):.3f}, next {np.mean(ahead):+.3f} ({np.std(ahead):.3f})"
        print(f"{n} labels a class and {more} more: {said}")


def lakes(embedder: PixelEmbedder, bands: tuple[str, ...]) -> dict[str, Floats]:
    """Features of lakes in the United States in the same months, foreign ground (series of the Presto repository)."""
    folder = PATCH.parents[1] / "fewlabels" / "pixel_series" / "algae_blooms"
    values, months, latlon = (np.load(folder / f"{n}.npy") for n in ("s1_s2_era5_srtm", "month", "latlon"))
    wanted = (np.array(list(DATES.values()))[None] - months[:, :1]).astype(int) % 12
    looks = np.take_along_axis(values, wanted[..., None], 1)[..., [2, 3, 4, 5, 6, 7, 8, 9, 11, 12]] / 10000
    place = latlon[:, ::-1].T[..., None].astype(np.float32)
    seen = np.ones((len(DATES), len(looks), 1), np.bool_)
    given = Series(
        bands, looks.transpose(1, 2, 0)[..., None].astype(np.float32), seen, tuple(DATES.values()), place, "L1C"
    )
    vectors = np.concatenate([found for _, found in embedder.pieces(given)], axis=1)[..., 0].T
    return {"embedding": vectors, "bands": looks.reshape(len(looks), -1)}


def polygons(draws: int) -> None:
    """Macro F1 on the polygons of the bundled scene that were not drawn, by how many of each class were."""
    ready = fit.prepare(make_recipe())
    with tempfile.TemporaryDirectory() as folder:
        package.save(fit._network(ready.card, None), ready.card, folder)
        plan, items = make_plan(fit.map_recipe(ready, folder))
        given, _, _ = fit._learnt(
            ready, *fit._features(ready, FeatureReader(plan, items, None, None), items, Path(folder))
        )
    place, label, _ = given.by_place
    names = ready.labels.classes
    for counts in ([6, 2, 6, 6], [5, 5, 5, 5]):
        found: dict[str, list[float]] = {}
        for seed in range(draws):
            random = np.random.default_rng(seed)
            drawn = np.concatenate([random.permutation(place[label == k])[:n] for k, n in enumerate(counts)])
            mine = np.isin(given.place, drawn)
            some, asked = given.take(np.flatnonzero(mine)), given.take(np.flatnonzero(~mine))
            chosen = choose(some, HEADS, 5, 0, simple=False).chosen
            rows = {"learn": chosen.logits(some, asked).argmax(1), "forest": forest(("bands",), seed)(some, asked)}
            rows |= {c.name: c.logits(some, asked).argmax(1) for c in (HeadCandidate(("bands",), "prototype", 0.0),)}
            for name, said in rows.items():
                found.setdefault(name, []).append(macro_f1(asked.y, said, len(names)))
        told = ", ".join(f"{name} {np.mean(v):.3f} ({np.std(v):.3f})" for name, v in found.items())
        print(f"{', '.join(f'{n} {name}' for n, name in zip(counts, names, strict=True))}: {told}")


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
    parser.add_argument("--presto", default="presto")
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--fold", choices=FOLDS, default="both", help="squares that labels come from")
    parser.add_argument("--only", choices=("curve", "trust", "next", "speed", "polygons"))
    asked = parser.parse_args()
    torch.set_num_threads(1)
    if asked.only in (None, "polygons"):
        polygons(min(asked.draws, 10))
    if asked.only == "polygons":
        return
    truth = np.load(PATCH / "TestEOPatch" / "mask_timeless" / "LULC.npy")[..., 0].astype(np.int64)
    made = PixelEmbedder(encoder.load(asked.presto))
    bands = tuple(b.name for b in made.card.bands)
    given, bbox = series(bands)
    if asked.only in (None, "speed"):
        speed(made, given)
    found = made.embed(given, bbox)
    print(f"presto: {found.doubt or 'nothing speaks against it'}")
    raw = {
        "embedding": np.moveaxis(found.vectors, 0, 2),
        "bands": np.moveaxis(scenes()[..., OF_13], 0, 2).reshape(*truth.shape, -1),
    }
    parts = standardised(raw)
    if asked.only in (None, "curve"):
        all_bands = np.moveaxis(scenes(), 0, 2).reshape(*truth.shape, -1)
        rows = curve(standardised({**raw, "bands": all_bands}), truth, asked.draws, asked.fold)
        print("| features and head |", " | ".join(f"{n}" for n in LABELS), "|")
        for name, got in rows.items():
            print(f"| {name} |", " | ".join(f"{np.mean(v):.3f} ({np.std(v):.3f})" for v in got.values()), "|")
        ahead = {n: np.array(rows["learn"][n]) - np.array(rows["presto, prototype"][n]) for n in LABELS}
        print("paired, learn - presto by prototype:", {n: f"{d.mean():+.3f}" for n, d in ahead.items()})
    if asked.only in (None, "trust"):
        scaled = {n: Standard.of(v.reshape(-1, v.shape[-1])) for n, v in raw.items()}
        there = {n: (v - scaled[n].center) / scaled[n].spread for n, v in lakes(made, bands).items()}
        trusted(parts, truth, asked.draws, asked.fold, there)
    if asked.only in (None, "next"):
        next_labels(parts, truth, min(asked.draws, 10), asked.fold)


if __name__ == "__main__":
    main()
