"""Joining boxes: what suppression over a plane costs in CPU seconds and memory, beside torchvision and SAHI.

``make bench-objects``; with SAHI_PYTHON, an interpreter that has sahi 0.12.8, in the same run. Boxes of 8 to 80 pixels,
as many to an area as cars in a car park; each figure is the median of three, interleaved, one thread.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import torch
from torchvision.ops import nms

from geoml.vector.boxes import Suppression, best_first, edges, suppress, take

STRIP = 512
SLOW = 100_000
"""Boxes from which on the others are not run: they need minutes."""


def made(count: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    side = int((60 * count) ** 0.5) * 4
    boxes = {axis: random.uniform(0, side, count) for axis in "yx"}
    boxes |= {name: random.uniform(4, 40, count) for name in ("north", "south", "west", "east")}
    return boxes | {"score": random.random(count).round(4), "class": np.zeros(count, np.uint8)}


def in_strips(boxes: dict[str, np.ndarray]) -> int:
    boxes = take(boxes, np.argsort(boxes["y"]))
    frontiers = np.arange(0, boxes["y"].max() + 2 * STRIP, STRIP)
    ends = np.searchsorted(boxes["y"], frontiers)
    join, kept = Suppression(0.5, 40), 0
    for k in range(len(frontiers) - 1):
        kept += len(join.add(take(boxes, np.arange(ends[k], ends[k + 1])), float(frontiers[k + 1]))["y"])
    return kept + len(join.end()["y"])


def by_torchvision(boxes: dict[str, np.ndarray]) -> int:
    boxes = take(boxes, best_first(boxes))
    shape = torch.from_numpy(edges(boxes)[:, [1, 0, 3, 2]])
    return len(nms(shape, torch.from_numpy(boxes["score"]), 0.5))


def by_sahi(boxes: dict[str, np.ndarray], python: str) -> dict[str, dict[str, float]]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "boxes.npy"
        np.save(path, np.column_stack([edges(boxes)[:, [1, 0, 3, 2]], boxes["score"]]))
        command = [python, str(Path(__file__).with_name("objects_sahi.py")), str(path)]
        return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def main() -> None:
    torch.set_num_threads(1)
    python = os.environ.get("SAHI_PYTHON")
    print(f"{'boxes':>9} {'who':<24} {'CPU s':>8} {'kept':>8} {'beside ours':>12}")
    for count in (10_000, 100_000, 1_000_000):
        boxes, found = made(count), {}
        ours = {"geoml, once": lambda b: len(suppress(b, 0.5)["y"]), "geoml, strips of 512": in_strips}
        whom = {**ours, **({"torchvision nms": by_torchvision} if count <= SLOW else {})}
        for _ in range(3 if count <= SLOW else 1):
            for name, join in whom.items():
                start = time.process_time()
                kept = join(boxes)
                found.setdefault(name, []).append((time.process_time() - start, kept))
        if python and count <= SLOW:
            for name, told in by_sahi(boxes, python).items():
                found[f"SAHI {name}"] = [(told["seconds"], told["kept"])]
        base = median(s for s, _ in found["geoml, strips of 512"])
        for name, runs in found.items():
            seconds = median(s for s, _ in runs)
            print(f"{count:>9,} {name:<24} {seconds:>8.2f} {runs[0][1]:>8} {seconds / base:>11.1f}x", flush=True)
    if not python:
        print("SAHI_PYTHON is not set: SAHI was not run", file=sys.stderr)


if __name__ == "__main__":
    main()
