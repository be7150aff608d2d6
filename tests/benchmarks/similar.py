"""Search among embeddings, what int8 costs it, and what a map of embeddings costs beside its bare encoder.

Search: 200,000 vectors of 128 numbers, CPU seconds of one thread. Neighbours: share of the ten most similar that are
the same among what a map stores, of vectors by chance and, with ``--model``, of eo-learn's patch of Sentinel-2, whose
int8 steps are fitted on a sixteenth of its pixels as in a run; similarity is the cosine of standardised vectors. Speed:
CPU seconds of a whole run over copies of the patch side by side, against `PixelEmbedder` without its checks, which is
as fast as the bare encoder (fewlabels.py). Memory: peak of a process over growing scenes, by a small encoder.

    python -m tests.benchmarks.similar [--model PACKAGE [--speed]] [--memory]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

import geoml
from geoml import models, testing
from geoml.engine.cards.encoder import EncoderCard
from geoml.engine.inference.embed import PixelEmbedder
from geoml.engine.packages import encoder
from geoml.outputs._embedding_coding import LARGEST
from geoml.outputs.embedding import Output
from geoml.vector.nearest import best, cosines, unit
from tests.benchmarks import fewlabels

VECTORS, WIDTH, NEIGHBOURS, QUERIES = 200_000, 128, 10, 400
PLACE = "EPSG:32633", (465_180.0, 5_080_250.0)
DATES = ("2015-07-11", "2015-07-31", "2015-08-30", "2015-09-09")
STEPS = ("2015-07-01/2015-07-15", "2015-07-16/2015-08-10", "2015-08-11/2015-08-31", "2015-09")

Floats = NDArray[np.float32]


def seconds(what: Callable[[], object], times: int = 5) -> float:
    """Median CPU seconds."""
    took = []
    for _ in range(times):
        start = time.process_time()
        what()
        took.append(time.process_time() - start)
    return statistics.median(took)


def searched() -> None:
    random = np.random.default_rng(0).standard_normal((VECTORS, WIDTH)).astype(np.float32)
    query = unit(random[:1])[0]
    for dtype in (np.float32, np.float16, np.int8):
        vectors = np.clip(np.round(random * 25), -127, 127).astype(dtype)
        took = seconds(lambda vectors=vectors: best(cosines(vectors, query), NEIGHBOURS))
        print(f"search: {VECTORS:,} x {WIDTH} {np.dtype(dtype).name}: {took:.3f} CPU seconds")


def recall(stored: Floats, vectors: Floats) -> tuple[float, float]:
    """Share of the most similar vectors that are still the most similar as stored: with the query as it was, and with
    that too as stored."""
    rows = np.random.default_rng(0).permutation(len(vectors))[:QUERIES]
    same = np.zeros(2)
    for row in rows:
        pairs = (vectors, vectors), (stored, vectors), (stored, stored)
        exact, *others = (set(best(cosines(v, unit(q[row : row + 1])[0]), NEIGHBOURS).tolist()) for v, q in pairs)
        same += [len(exact & other) for other in others]
    plain, rounded = same / (len(rows) * NEIGHBOURS)
    return float(plain), float(rounded)


def neighbours(name: str, vectors: Floats, sample: Floats, shape: tuple[int, int] | None = None) -> None:
    """Of (N, width) embeddings; those of pixels of a ``shape`` as chips too."""
    how = Output.fitted(sample)
    offset, scale = (np.array(how[k], np.float32) for k in ("offset", "scale"))
    standard = (vectors - offset) / scale
    stored = np.clip(np.round(standard), -LARGEST, LARGEST)
    cut = float((np.abs(standard) > LARGEST).mean())
    plain, rounded = recall(stored, standard)
    print(
        f"neighbours: {name}: {plain:.3f} of int8, {rounded:.3f} by a query in int8; {100 * cut:.2f} % of numbers cut"
    )
    for side in (2, 4) if shape else ():
        assert shape is not None
        exact, mean = (_chips(v, shape, side) for v in (standard, stored))
        kept = recall(mean.astype(np.float16).astype(np.float32), exact)[1]
        print(f"neighbours: {name}, {len(exact)} chips of {side} x {side}: {kept:.3f} as float16 means of int8")


def _chips(values: Floats, shape: tuple[int, int], side: int) -> Floats:
    y, x = (n // side for n in shape)
    whole = values.reshape(*shape, -1)[: y * side, : x * side]
    found: Floats = whole.reshape(y, side, x, side, -1).mean(axis=(1, 3)).reshape(y * x, -1).astype(np.float32)
    return found


def patch(package: str) -> None:
    embedder = PixelEmbedder(encoder.load(package))
    given, bbox = fewlabels.series(tuple(b.name for b in embedder.card.bands))
    found = embedder.embed(given, bbox).vectors
    y, x = np.indices(found.shape[1:])
    sample = found[:, (y % 16 < 4) & (x % 16 < 4)].T
    neighbours(embedder.card.name, found.reshape(len(found), -1).T, sample, found.shape[1:])  # type: ignore[arg-type]


def catalog(folder: Path, values: NDArray[np.uint16], bands: tuple[str, ...]) -> testing.Scene:
    """Scenes (date, band, y, x) of the patch's dates as COGs with STAC items; the first of them."""
    about = {"bands": bands, "crs": PLACE[0], "origin": PLACE[1], "unit": "reflectance"}
    pairs = zip(DATES, values, strict=True)
    scenes = [testing.Scene(id=d, data=v, datetime=f"{d}T10:00:00Z", **about) for d, v in pairs]
    testing.write_catalog(folder, scenes)
    return scenes[0]


def run(package: str, folder: Path, scene: testing.Scene, out: Path) -> None:
    query = {"catalog": str(folder / "catalog.json"), "bbox": scene.bbox(), "datetime": STEPS}
    geoml.predict({"model": package, "query": query, "block_size": 512, "crs": PLACE[0]}, out)


def speed(package: str, times: int) -> None:
    """The patch ``times`` by ``times``, interleaved with the bare encoder on batches of its size."""
    embedder = PixelEmbedder(encoder.load(package))
    names = tuple(b.name for b in embedder.card.bands)
    values = np.tile(fewlabels.scenes()[..., fewlabels.OF_13].transpose(0, 3, 1, 2), (1, 1, times, times))
    took: dict[str, list[float]] = {"run": [], "bare": []}
    with tempfile.TemporaryDirectory() as folder:
        scene = catalog(Path(folder) / "made", np.round(values * 10_000).astype(np.uint16), names)
        given, _ = fewlabels.series(names)
        for k in range(3):
            start = time.process_time()
            run(package, Path(folder) / "made", scene, Path(folder) / f"{k}")
            took["run"].append(time.process_time() - start)
            start = time.process_time()
            for _ in range(times**2):
                list(embedder.pieces(given))
            took["bare"].append(time.process_time() - start)
    pixels = values.shape[2] * values.shape[3]
    rates = {name: pixels / statistics.median(t) for name, t in took.items()}
    print(
        ", ".join(f"{n} {r:.0f} pixels/s" for n, r in rates.items()), f"ratio {rates['run'] / rates['bare']:.2f}",
        f"({pixels:,} pixels, CPU time)",
    )  # fmt: skip


def small_encoder(folder: Path, bands: tuple[str, ...]) -> str:
    """A package of a small encoder of 128 numbers with weights by chance."""
    torch.manual_seed(0)
    config = {**models.find("presto").TINY, "width": WIDTH}
    module = models.encoder("presto", {**config, "bands": len(bands)})
    card = EncoderCard(
        name="small",
        architecture="presto",
        config=config,
        bands=[{"name": b} for b in bands],  # type: ignore[arg-type]
        gsd=10,
        steps=24,
        width=WIDTH,
    )
    encoder.save(module, card, folder / "small")
    return str(folder / "small")


def memory(sizes: tuple[int, ...] = (512, 1024, 2048)) -> None:
    """Peak of a process over square scenes, MB."""
    code = (
        "import resource, sys; from pathlib import Path; from geoml import testing; import geoml;"
        "geoml.predict({'model': sys.argv[1], 'block_size': 512, 'crs': 'EPSG:32633', 'query': {'catalog': sys.argv[2],"
        " 'bbox': [float(v) for v in sys.argv[4].split(',')], 'datetime': sys.argv[5].split(',')}}, sys.argv[3]);"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)"
    )
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            here = Path(folder)
            package = small_encoder(here, ("red", "nir"))
            values = np.stack([testing.smooth((2, size, size), seed=k) for k in range(len(DATES))])
            scene = catalog(here / "made", values, ("red", "nir"))
            box = ",".join(map(str, scene.bbox()))
            words = [package, str(here / "made" / "catalog.json"), str(here / "out"), box, ",".join(STEPS)]
            said = subprocess.run([sys.executable, "-c", code, *words], check=True, capture_output=True, text=True)
            print(f"memory: {size} x {size} pixels: {said.stdout.split()[-1]} MB", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", help="package of an encoder of Sentinel-2's ten bands")
    parser.add_argument("--speed", action="store_true", help="of a run over the patch, 2 by 2")
    parser.add_argument("--memory", action="store_true")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    searched()
    random = np.random.default_rng(1).standard_normal((20_000, WIDTH)).astype(np.float32)
    neighbours("random", random, random[::16])
    if asked.model:
        patch(asked.model)
        if asked.speed:
            speed(asked.model, 2)
    if asked.memory:
        memory()


if __name__ == "__main__":
    main()
