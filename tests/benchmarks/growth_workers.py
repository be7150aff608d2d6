"""A run of thousands of tiny blocks over many items, by one worker, by two processes and by Dask: the same bytes.

    python -m tests.benchmarks.growth_workers [--items 10000 --rows 40 --columns 50] [--work DIR]

Each run is ``geoml predict`` in a process tree of its own: CPU seconds of all of it, and seconds by the clock.
`tests/e2e/test_many_blocks.py` holds the same for fewer blocks.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pystac

from geoml import testing
from geoml.io.stac.search import write_items

SIDE = 64
"""Pixels of a side of a block."""
BANDS = ("red", "nir")
WORKERS = {"one": "here", "two": "processes:2", "dask": "cluster:2"}
MACHINE = {"GEOML_PRECISION": "fp32", "GEOML_DEVICE": "cpu", "GEOML_THREADS": "1"}
CHANGING = {"run.json", "report.html"}
"""They tell seconds."""


def make(folder: Path, items: int, rows: int, columns: int) -> list[str]:
    """A catalog in one file, and a model; the command of a run over it.

    The scene has ``rows`` x ``columns`` blocks of pixels. The other items are on the same file, each smaller than a
    block, at other places of the region.
    """
    data = testing.smooth((2, rows * SIDE, columns * SIDE), seed=5)
    scene = testing.Scene(id="scene", data=data, bands=BANDS, origin=(601_600.0, 7_200_000.0))
    testing.write_catalog(folder / "made", [scene])
    testing.threshold_model(folder / "model", BANDS, (0.2, 0.4))
    item = pystac.Item.from_file(str(folder / "made" / "scene" / "item.json"))
    item.make_asset_hrefs_absolute()
    item.clear_links()
    west, south, east, north = scene.bbox()
    found = [item]
    for k in range(1, items):
        other = item.clone()
        other.id = f"other-{k}"
        x, y = west + (east - west) * (k % 97) / 97, south + (north - south) * (k % 89) / 89
        box = [x, y, x + (east - west) / columns / 4, y + (north - south) / rows / 4]
        corners = [[box[0], box[1]], [box[2], box[1]], [box[2], box[3]], [box[0], box[3]], [box[0], box[1]]]
        other.bbox, other.geometry = box, {"type": "Polygon", "coordinates": [corners]}
        found.append(other)
    write_items(found, folder / "items.parquet")
    where: list[Any] = ["--bbox", *scene.bbox(inner=0.002), "--datetime", "2024", "--block-size", SIDE]
    words = ["predict", "--model", folder / "model", "--catalog", folder / "items.parquet", *where]
    return [str(word) for word in words]


def different(one: Mapping[str, str], other: Mapping[str, str]) -> set[str]:
    """Files of two runs (`geoml.testing.tree`) that only one has, or whose bytes differ, but for those with seconds."""
    return {name for name in one.keys() | other.keys() if one.get(name) != other.get(name)} - CHANGING


def main() -> None:
    from tests.benchmarks.rate import measured

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--rows", type=int, default=40)
    parser.add_argument("--columns", type=int, default=50)
    parser.add_argument("--work", type=Path, default=None, help="keeps the runs; empty or not there")
    given = parser.parse_args()
    work = (given.work or Path(tempfile.mkdtemp(prefix="geoml-workers-"))).absolute()
    command = [sys.executable, "-m", "geoml.cli", *make(work, given.items, given.rows, given.columns)]
    here, trees = Path.cwd(), {}
    print(f"load {os.getloadavg()[0]:.1f}", flush=True)
    for name, workers in WORKERS.items():
        start = time.perf_counter()
        env = {**MACHINE, "GEOML_WORKERS": workers, "PYTHONPATH": str(here)}
        cost = measured([*command, "--out", str(work / name)], here, env)
        wall = time.perf_counter() - start
        trees[name] = testing.tree(work / name)
        run = json.loads((work / name / "run.json").read_text())
        blocks, sources = len(run["blocks"]["done"]), len(run["sources"])
        those = different(trees["one"], trees[name])
        print(
            f"{workers}: {blocks:,} blocks, {sources:,} of {given.items:,} items; {cost.cpu:.0f} CPU s, {wall:.0f} s, "
            f"peak {cost.peak_mb:.0f} MB; {len(trees[name]):,} files, "
            f"{len(those)} with other bytes {sorted(those)[:5]}",
            flush=True,
        )


if __name__ == "__main__":
    main()
