"""Reading points: requests and bytes of windows over HTTP beside laspy's, points per CPU second, and peak memory.

    python -m tests.benchmarks.points [--count 50000000] [--copc FILE ...]

The made cloud is written as LAZ first, in strips as a scanner flies; what reads it runs in a process of its own, whose
peak memory is that of the whole process with its libraries. COPCs are served on loopback; without ``--copc`` one is
made of random points on 200 m.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import laspy
import laspy.copc
import numpy as np

from geoml.io.points import copc
from geoml.io.points.bins import binned
from geoml.io.points.kept import kept_nodes
from geoml.io.points.read import read_window
from geoml.io.points.source import open_source
from geoml.io.stores import ranges
from geoml.settings import override
from tests.integration import fault_server
from tests.made_clouds import las_bytes, made_points
from tests.made_octrees import write_copc

DENSITY = 8.0
"""Points of a square metre."""
STRIP = 1_000_000
WINDOW = 5.0


def strips(count: int, side: float) -> Iterator[dict[str, np.ndarray]]:
    """Points in strips of `STRIP`, each as wide as the square and one scan line after another."""
    rng, height = np.random.default_rng(0), side * STRIP / count
    for number in range(-(-count // STRIP)):
        size = min(STRIP, count - number * STRIP)
        x = rng.uniform(0, side, size)
        y = np.sort(rng.uniform(number * height, (number + 1) * height, size))
        z = 100 + 20 * np.sin(x / 90) * np.cos(y / 70) + rng.exponential(1.0, size)
        yield {"x": 500_000 + x, "y": 5_000_000 + y, "z": z, "classification": rng.choice([1, 2, 5, 6], size)}


def write_cloud(path: Path, count: int) -> float:
    """A made LAZ of ``count`` points; the side of its square in metres."""
    side = float(np.sqrt(count / DENSITY))
    header = laspy.LasHeader(version="1.4", point_format=6)
    header.scales, header.offsets = np.full(3, 0.001), np.array([500_000.0, 5_000_000.0, 0.0])
    with laspy.open(path, mode="w", header=header) as writer:
        for columns in strips(count, side):
            part = laspy.ScaleAwarePointRecord.zeros(len(columns["x"]), header=header)
            for name, values in columns.items():
                part[name] = values
            writer.write_points(part)
    return side


def read_cloud(path: Path, side: float, folder: Path, block: float, out: Any) -> None:
    """Read a plain file as a run does: to squares once, then block by block."""
    start = time.process_time()
    (source,) = binned([open_source(str(path), "EPSG:32632")], folder)
    squares, points, blocks = time.process_time() - start, 0, 0
    start = time.process_time()
    for x in np.arange(0, side, block):
        for y in np.arange(0, side, block):
            points += len(read_window([source], (5e5 + x, 5e6 + y, 5e5 + x + block, 5e6 + y + block)))
            blocks += 1
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    out.put((squares, time.process_time() - start, points, blocks, peak))


def cloud(count: int, block: float) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "made.laz"
        side = write_cloud(path, count)
        results = multiprocessing.get_context("spawn").Queue()
        reader = multiprocessing.get_context("spawn").Process(
            target=read_cloud, args=(path, side, Path(folder) / "squares", block, results)
        )
        reader.start()
        squares, windows, points, blocks, peak = results.get()
        reader.join()
        spill = sum(p.stat().st_size for p in (Path(folder) / "squares").iterdir())
        print(f"{count:,} points, {path.stat().st_size / 1e6:,.0f} MB of LAZ, {side:.0f} m")
        print(f"  to squares:  {count / squares / 1e6:.2f} M points per CPU second; {spill / 1e6:,.0f} MB of disk")
        print(
            f"  {blocks} blocks of {block:g} m: {points / windows / 1e6:.2f} M points per CPU second, {points:,} points"
        )
        print(f"  peak memory: {peak:,.0f} MB")


def theirs(url: str, windows: list[tuple[float, ...]]) -> None:
    with laspy.copc.CopcReader.open(url) as reader:
        for left, bottom, right, top in windows:
            reader.query(laspy.copc.Bounds(np.array([left, bottom]), np.array([right, top])))


def ours(url: str, windows: list[tuple[float, ...]], unit: float) -> None:
    ranges.forget(url)
    copc.kept_files.clear()
    kept_nodes.clear()
    source = open_source(url, "EPSG:32632")
    for window in windows:
        left, bottom, right, top = (v * unit for v in window)
        read_window([source], (left, bottom, right, top))


def counted(server: Any, read: Any, *args: Any) -> tuple[int, int]:
    """Requests and bytes."""
    server.seen.clear()
    read(f"{server.url}/a.copc.laz", *args)
    size = len(server.files["/a.copc.laz"])
    return len(server.seen), sum(min(b, size) - a for a, b in server.ranges())


def over_http(path: Path) -> None:
    with laspy.copc.CopcReader.open(str(path)) as reader:
        low, high = reader.header.mins[:2], reader.header.maxs[:2]
    rng = np.random.default_rng(1)
    corners = rng.uniform(low, np.maximum(low, high - WINDOW), (20, 2))
    single = [[(x, y, x + WINDOW, y + WINDOW)] for x, y in corners]
    middle = (low + high) / 2
    run = [
        (x, y, x + WINDOW, y + WINDOW)
        for x in middle[0] + WINDOW * np.arange(3)
        for y in middle[1] + WINDOW * np.arange(3)
    ]
    with fault_server.serve(files={"/a.copc.laz": path.read_bytes()}) as server:
        print(f"{path.name}, {path.stat().st_size / 1e6:.2f} MB over HTTP, windows of {WINDOW:g} units")
        for name, cases in (("one window (median of 20)", single), ("9 neighbours, one reader", [run])):
            laspys = [counted(server, theirs, case) for case in cases]
            geomls = [counted(server, ours, case, 1.0) for case in cases]
            requests = [statistics.median(pair[0] for pair in pairs) for pairs in (laspys, geomls)]
            sizes = [statistics.median(pair[1] for pair in pairs) for pairs in (laspys, geomls)]
            ratio = statistics.median(b[0] / a[0] for a, b in zip(laspys, geomls, strict=True))
            more = sum(b[1] > a[1] for a, b in zip(laspys, geomls, strict=True))
            print(
                f"  {name}: laspy {requests[0]:g} requests, {sizes[0]:,.0f} bytes;"
                f" geoml {requests[1]:g}, {sizes[1]:,.0f}; ratio of requests {ratio:.2f};"
                f" more bytes in {more} of {len(cases)}"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=50_000_000)
    parser.add_argument("--block", type=float, default=200.0)
    parser.add_argument("--copc", type=Path, nargs="*", default=[])
    asked = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    override(private_hosts="true")
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "made.copc.laz"
        (Path(folder) / "made.laz").write_bytes(las_bytes(made_points(300_000, side=200.0), crs=None))
        write_copc(made, Path(folder) / "made.laz")
        for path in asked.copc or [made]:
            over_http(path)
    if asked.count:
        cloud(asked.count, asked.block)


if __name__ == "__main__":
    main()
