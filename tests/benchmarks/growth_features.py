"""Polygons of many blocks to one features.parquet: CPU seconds and peak memory, from 10⁵ to 10⁷ of them.

    python -m tests.benchmarks.growth_features --polygons 100000 1000000 [--old WORKTREE_OF_AN_EARLIER_GEOML]

Blocks hold one made map of classes each, traced once and moved, so that no network and no tracing is in the figures.
Two processes a size: what a worker does of each block (``blocks``), and the end of the run (``collect``). With
``--old`` those of another geoml, which had ``FeatureMerger``, run in between.
"""

from __future__ import annotations

import argparse
import datetime as dt
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pystac
import scipy.ndimage

from geoml.grid.plane import Block, Plane

SIDE = 512
PLANE = Plane("EPSG:32621", 10.0)
WHEN = dt.datetime(2024, 5, 1, tzinfo=dt.UTC)
SIZES = (100_000, 1_000_000)
SIGMA = 1.0
"""Pixels over which the classes are smooth: 18,600 polygons of 14 vertices a block; with 3 they are 1,000 of 87."""


@dataclass(frozen=True)
class Measured:
    """Of one size: CPU seconds of both processes, and the larger of their peaks."""

    polygons: int
    blocks: float
    collect: float
    peak_mb: float

    @property
    def cpu(self) -> float:
        """Seconds, user and system."""
        return self.blocks + self.collect


def made(sigma: float = SIGMA) -> np.ndarray:
    """(SIDE, SIDE) uint8 of three classes."""
    noise = np.random.default_rng(0).normal(size=(SIDE, SIDE))
    field = scipy.ndimage.gaussian_filter(noise, sigma, mode="wrap")
    return np.digitize(field, np.quantile(field, [0.3, 0.7])).astype(np.uint8)


def blocks_of(count: int) -> list[Block]:
    """Blocks of a square, row by row, in the middle of a zone."""
    wide = math.ceil(math.sqrt(count))
    y, x = -700_000 // SIDE, 50_000 // SIDE - wide // 2
    return [Block(PLANE, SIDE, y + k // wide, x + k % wide) for k in range(count)]


def write_blocks(count: int, sigma: float, folder: Path) -> int:
    """What workers leave of blocks; returns how many polygons they traced."""
    from geoml.io.tables.parts import write_part
    from geoml.vector.polygonise import polygonise

    blocks, classes = blocks_of(count), made(sigma)
    first = blocks[0].window
    traced = polygonise(classes, np.full_like(classes, 200), 255, first)
    for block in blocks:
        moved = traced.rings.coords + np.array([block.window.x0 - first.x0, block.window.y0 - first.y0])
        write_part(block, replace(traced, rings=traced.rings.moved(moved)), folder / f"{block.id}.parquet")
    return len(traced) * count


def collect(count: int, sigma: float, folder: Path) -> int:
    """The end of a run of these blocks; returns how many features it wrote."""
    import pyarrow.parquet as pq

    from geoml.engine.contract import FinishedRun
    from geoml.outputs._class_features import write_rows

    def parts(read: Callable[[Path], Any]) -> Iterator[tuple[Block, Any]]:
        return ((block, read(folder / f"{block.id}.parquet")) for block in blocks_of(count))

    plan = SimpleNamespace(card=_card(), recipe=SimpleNamespace(min_area=0.0, simplify=0.0))
    item = pystac.Item("made", None, None, WHEN, {})
    run = FinishedRun(folder, cast(Any, plan), [b.id for b in blocks_of(count)], [item], [item], parts)
    write_rows(run, 1 / 250, folder / "features.parquet")
    return int(pq.read_metadata(folder / "features.parquet").num_rows)


def _card() -> Any:
    from geoml.io.cards.map_card import Band, ClassInfo, MapCard

    classes = tuple(ClassInfo(value=k, name=f"class {k}", color="#336699") for k in range(3))
    bands = (Band(name="red"),)
    return MapCard(name="made", architecture="unet", bands=bands, gsd=10, chip_size=256, classes=classes)


OLD_BLOCKS = """
import sys; from pathlib import Path; import numpy as np
from tests_growth import blocks_of, made
from geoml.vector.polygonise import polygonise
from geoml.io.tables.parts import write_polygons
import shapely; from dataclasses import replace
count, sigma, folder = int(sys.argv[1]), float(sys.argv[2]), Path(sys.argv[3])
blocks, classes = blocks_of(count), made(sigma); first = blocks[0].window
traced = polygonise(classes, np.full_like(classes, 200), 255, first)
for block in blocks:
    by = [block.window.x0 - first.x0, block.window.y0 - first.y0]
    write_polygons(replace(traced, geometry=shapely.transform(traced.geometry, lambda c: c + by)),
                   folder / f"{block.id}.parquet")
print(len(traced) * count)
"""
OLD_COLLECT = """
import sys; from pathlib import Path
from tests_growth import WHEN, _card, blocks_of
from geoml.io.tables.features import features_frame, write_features
from geoml.io.tables.parts import read_polygons
from geoml.vector.merge import FeatureMerger
count, folder = int(sys.argv[1]), Path(sys.argv[3])
merger = FeatureMerger()
for block in blocks_of(count):
    merger.add(block, read_polygons(folder / f"{block.id}.parquet"))
frame = features_frame(merger.merged(), card=_card(), model_id="made", datetime=(WHEN, WHEN), scale=1 / 250)
write_features(frame, folder / "features.parquet")
print(len(frame))
"""


def measure(polygons: int, *, sigma: float = SIGMA, old: Path | None = None, scratch: Path | None = None) -> Measured:
    """Both processes for about so many polygons, of this geoml or of that in the worktree ``old``."""
    per_block = 18_600 if sigma == 1.0 else max(1, round(18_600 / sigma**2.65))
    count = max(1, round(polygons / per_block))
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        work = Path(folder, "work")
        work.mkdir()
        words = [str(count), str(sigma), str(work)]
        if old is None:
            steps = [
                [sys.executable, "-m", "tests.benchmarks.growth_features", step, *words]
                for step in ("blocks", "collect")
            ]
            path = os.environ.get("PYTHONPATH", "")
        else:
            Path(folder, "tests_growth.py").write_text(Path(__file__).read_text())
            steps = [[sys.executable, "-c", code, *words] for code in (OLD_BLOCKS, OLD_COLLECT)]
            path = f"{old}:{folder}"
        here = None if old is None else folder  # python -c looks into the working directory first
        # importing costs the same for any number, so it is measured and left out
        free = [_run([sys.executable, "-c", code], path, here)[0] for code in _IMPORTS[old is None]]
        cpu, peak, said = zip(*(_run(s, path, here) for s in steps), strict=True)
    return Measured(int(said[-1]), cpu[0] - free[0], cpu[1] - free[1], max(peak))


_IMPORTS = {
    True: (
        "import scipy.ndimage, geoml.vector.polygonise, geoml.io.tables.parts, pystac",
        "import scipy.ndimage, geoml.outputs._class_features, pystac",
    ),
    False: (
        "import scipy.ndimage, geoml.vector.polygonise, geoml.io.tables.parts, pystac",
        "import scipy.ndimage, geoml.io.tables.features, geoml.io.tables.parts, geoml.vector.merge, pystac",
    ),
}


def _run(command: list[str], path: str, cwd: str | None) -> tuple[float, float, str]:
    """(CPU seconds, peak MB, last line printed) of a process of one thread."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True, cwd=cwd)
    assert process.stdout is not None
    said = process.stdout.read().strip().splitlines()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{command[:4]} ended with {status}")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, said[-1] if said else "0"


def exponent(small: Measured, large: Measured) -> float:
    """Of CPU seconds by polygons."""
    return math.log(large.cpu / small.cpu) / math.log(large.polygons / small.polygons)


def main(words: Sequence[str] | None = None) -> None:
    """Measure each size, and print a row for each and the exponents."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--polygons", type=int, nargs="+", default=SIZES)
    parser.add_argument("--sigma", type=float, default=SIGMA)
    parser.add_argument("--old", type=Path)
    parser.add_argument("--old-up-to", type=int, default=1_000_000)
    args = parser.parse_args(words)
    rows: list[Measured] = []
    for polygons in args.polygons:
        start = time.perf_counter()
        rows.append(measure(polygons, sigma=args.sigma))
        _told("now", rows[-1], time.perf_counter() - start)
        if args.old and polygons <= args.old_up_to:
            start = time.perf_counter()
            before = measure(polygons, sigma=args.sigma, old=args.old)
            _told("old", before, time.perf_counter() - start)
            print(
                f"     rate {before.cpu / before.polygons / (rows[-1].cpu / rows[-1].polygons):.2f} times the old one"
            )
    for small, large in pairwise(rows):
        print(f"exponent of CPU from {small.polygons:,} to {large.polygons:,} polygons: {exponent(small, large):.2f}")


def _told(name: str, row: Measured, seconds: float) -> None:
    each = {k: 1e6 * v / row.polygons for k, v in (("blocks", row.blocks), ("collect", row.collect))}
    said = ", ".join(f"{k} {v:.1f} µs" for k, v in each.items())
    print(
        f"{name}: {row.polygons:>10,} polygons, {row.cpu:.1f} CPU s ({said} each), peak {row.peak_mb:.0f} MB, "
        f"{seconds:.0f} s, load {os.getloadavg()[0]:.0f}",
        flush=True,
    )


if __name__ == "__main__":
    if len(sys.argv) == 5 and sys.argv[1] in ("blocks", "collect"):
        step = write_blocks if sys.argv[1] == "blocks" else collect
        print(step(int(sys.argv[2]), float(sys.argv[3]), Path(sys.argv[4])))
    else:
        main()
