"""Latency of one chip through the warm model, on this processor: p50 and p99 of the stages of `geoml stream`.

    make bench-stream
    make bench-stream ARGS="--frames 200 --threads 1 --halo off"

A U-Net with a resnet18 encoder (random weights, radius 286) answers GeoTIFFs of four uint16 bands. Ways are taken in
turns, some frames each, so that what else runs on the machine falls on all of them; the warm-up is not counted.
"""

from __future__ import annotations

import argparse
import itertools
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import rasterio
import torch
from affine import Affine

from geoml.backends.torch import choose
from geoml.engine.inference.predict import Predictor
from geoml.engine.packages.package import load
from geoml.engine.stream.answers import answers
from geoml.engine.stream.frames import Frame, read
from geoml.engine.stream.latency import Latency
from geoml.engine.stream.recipe import StreamRecipe
from tests.benchmarks.predict import package

AT_ONCE = 10
"""Frames of a way before the next one has its turn."""


def chip(folder: Path, side: int) -> Path:
    """A GeoTIFF that compresses like Sentinel-2."""
    path = folder / f"chip-{side}.tif"
    rng = np.random.default_rng(0)
    data = np.clip(np.cumsum(rng.normal(0, 60, (4, side, side)), axis=2) + 3000, 1, 10_000).astype(np.uint16)
    kind = {"driver": "GTiff", "count": 4, "height": side, "width": side, "dtype": "uint16", "nodata": 0}
    kind |= {"compress": "deflate", "predictor": 2, "tiled": True, "blockxsize": 256, "blockysize": 256}
    with rasterio.open(path, "w", crs="EPSG:32633", transform=Affine(10, 0, 0, 0, -10, 0), **kind) as file:
        file.write(data)
    return path


def measured(predictor: Predictor, path: Path, recipe: StreamRecipe, count: int, found: Latency) -> float:
    """Add the stages of ``count`` frames; the CPU seconds that they took, without the warm-up."""

    def coming() -> Iterator[Frame]:
        for k in range(count):
            yield read(path, k, 0.0, predictor.card, recipe)

    with answers(predictor, coming(), recipe) as stream:
        start = time.process_time()
        for answer in stream:
            assert answer.status == "done", answer.reason
            found.add({**answer.ms, "latency": sum(answer.ms.values())})
        return time.process_time() - start


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=100, help="of each way")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--precision", nargs="+", default=["fp32", "bf16"])
    parser.add_argument("--halo", nargs="+", choices=["on", "off"], default=["off", "on"])
    parser.add_argument("--work", type=Path, default=None)
    given = parser.parse_args(words)
    work = given.work or Path(tempfile.mkdtemp(prefix="geoml-bench-"))
    path, loaded = chip(work, given.size), load(package(work / "unet-1", 1))
    ways = list(itertools.product(given.threads, given.precision, given.halo))
    predictors = {p: Predictor(loaded, device=choose(precision=p)) for p in given.precision}
    recipes = {h: StreamRecipe(model=str(work), scale=1e-4, size=given.size, halo=h == "on") for h in given.halo}
    latencies, cpu = {way: Latency() for way in ways}, dict.fromkeys(ways, 0.0)
    for done in range(0, given.frames, AT_ONCE):
        for way in ways:
            threads, precision, halo = way
            torch.set_num_threads(threads)
            some = min(AT_ONCE, given.frames - done)
            cpu[way] += measured(predictors[precision], path, recipes[halo], some, latencies[way])
    print(
        f"{given.frames} chips of {given.size} x {given.size} each, {os.cpu_count()} cores, "
        f"load {os.getloadavg()[0]:.1f}"
    )
    print("threads  precision  halo   model p50     p99 ms   read p50     p99 ms   CPU ms a chip")
    for way in ways:
        threads, precision, halo = way
        told = latencies[way].summary()
        model, reading = told["model"], told["read"]
        print(
            f"{threads:7d}  {precision:9}  {halo:4} {model['p50']:11.1f} {model['p99']:10.1f} {reading['p50']:10.1f} "
            f"{reading['p99']:10.1f} {1000 * cpu[way] / given.frames:15.1f}"
        )


if __name__ == "__main__":
    main()
