"""What the bookkeeping of blocks costs as their number grows: the end of a run, its report, and a block by itself.

python -m tests.benchmarks.growth_blocks [--blocks 100 1000 10000 70000] [--other CHECKOUT] [--overhead 200]

Blocks are made in code: one is really run, and the others are its item moved to their places, with links to its files.
With ``--other`` an older checkout does the same beside it, in turns. Each measurement is a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pyproj
from numpy.typing import NDArray

ROOT = Path(__file__).parents[2]
SIDE = 64
"""Pixels of a side of a made block."""
MADE = ("collection.json", "items.parquet", "run.json", "report.html")
"""What the end of a run writes."""
LINKS = 1000
"""Names of one file: some file systems allow 65,000."""


@dataclass(frozen=True)
class Cost:
    """CPU seconds and growth of memory (MB) of the end of a run and of its report alone; bytes of the page."""

    blocks: int
    collect: float
    report: float
    memory: float
    report_memory: float
    page: int


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """The power of the size with which a cost grows: the slope of a line through the logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(costs), 1)[0])


def make_blocks(folder: Path, count: int, checkout: Path = ROOT) -> Path:
    """A run of ``count`` finished blocks in ``folder``, of which all but the end is there; its place.

    The block that is really run is of ``checkout``, so that what its item says is what that checkout writes.
    """
    made = _child(checkout, "one", str(folder), str(count))
    out, first, cells = folder / "out", made["first"], made["cells"]
    item = json.loads(next((out / "items").glob("*.json")).read_text())
    cogs = {p.name: p for p in (out / "cogs" / item["id"]).iterdir()}
    text, prefix = json.dumps(item, indent=2, sort_keys=True, ensure_ascii=False), item["id"].rpartition("_y")[0]
    for k, (cell, outline) in enumerate(zip(cells, _outlines(np.array(cells), made["zone"]), strict=True)):
        key = f"{prefix}_y{cell[0]}_x{cell[1]}"
        if key == item["id"]:
            continue
        moved = json.loads(text.replace(item["id"], key))
        _place(moved, outline, (cell[1] - first[1], cell[0] - first[0]))
        body = json.dumps(moved, indent=2, sort_keys=True, ensure_ascii=False)
        (out / "items" / f"{key}.json").write_text(body + "\n")
        (out / "cogs" / key).mkdir()
        for name, source in cogs.items():
            target = out / "cogs" / key / name
            if k % LINKS == LINKS - 1:
                target.write_bytes(source.read_bytes())
                cogs[name] = target
            else:
                os.link(source, target)
    return out


def _outlines(cells: NDArray[np.int64], zone: Mapping[str, Any]) -> NDArray[np.float64]:
    """(N, 33, 2) degrees around blocks of rows and columns (N, 2), as many points as real ones have."""
    along = np.linspace(0, 1, 9)[:-1]
    still = np.zeros(8)
    x = np.concatenate([along, still + 1, 1 - along, still, [0]])
    y = np.concatenate([still, along, still + 1, 1 - along, [0]])
    res = float(zone["res"])
    east, north = (cells[:, 1, None] + x) * SIDE * res, -(cells[:, 0, None] + y) * SIDE * res
    lon, lat = pyproj.Transformer.from_crs(zone["crs"], "EPSG:4326", always_xy=True).transform(east, north)
    return np.stack([lon, lat], axis=-1)


def _place(item: dict[str, Any], outline: NDArray[np.float64], by: tuple[int, int]) -> None:
    properties, (dx, dy) = item["properties"], by
    res = properties["proj:transform"][0]
    east, south = dx * SIDE * res, -dy * SIDE * res
    item["geometry"] = {"type": "Polygon", "coordinates": [outline.tolist()]}
    item["bbox"] = [*outline.min(axis=0).tolist(), *outline.max(axis=0).tolist()]
    properties["proj:bbox"] = [v + d for v, d in zip(properties["proj:bbox"], (east, south) * 2, strict=True)]
    properties["proj:transform"][2] += east
    properties["proj:transform"][5] += south


def collect_cost(out: Path, checkout: Path = ROOT) -> Cost:
    """What the end of the run in ``out`` costs; what it wrote is taken away again."""
    try:
        return Cost(**_child(checkout, "collect", str(out)))
    finally:
        for name in MADE:
            (out / name).unlink(missing_ok=True)


def overhead(blocks: int = 200, side: int = SIDE, checkout: Path = ROOT, *, features: bool = False) -> float:
    """CPU milliseconds of a tiny block, of which reading, model and writing have next to no pixels."""
    with tempfile.TemporaryDirectory() as folder:
        found = _child(checkout, "overhead", folder, str(side), str(blocks), str(int(features)))
    return float(found["milliseconds"])


def _child(checkout: Path, *arguments: str) -> dict[str, Any]:
    """What a process with the code of ``checkout`` answers."""
    threads = {"OMP_NUM_THREADS": "1", "GEOML_PRECISION": "fp32", "GEOML_DEVICE": "cpu", "GEOML_THREADS": "1"}
    environment = {**os.environ, **threads, "PYTHONPATH": str(checkout)}
    command = [sys.executable, str(Path(__file__).resolve()), "--child", *arguments]
    done = subprocess.run(command, env=environment, cwd=checkout, stdout=subprocess.PIPE, text=True, check=True)
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


# in the child


def _recipe(folder: Path, side: int, rows: int, columns: int, *, features: bool) -> dict[str, Any]:
    """A catalog and a model in ``folder``, and a recipe of ``rows`` x ``columns`` whole blocks or a few more."""
    from geoml import testing

    origin = 600_000 // (10 * side) * 10 * side, 7_200_000 // (10 * side) * 10 * side
    data = testing.smooth((2, side * rows, side * columns), seed=5)
    scene = testing.Scene(id="item", data=data, bands=("red", "nir"), origin=origin)
    catalog = testing.write_catalog(folder / "made", [scene])
    testing.threshold_model(folder / "model", scene.bands, (0.2, 0.4))
    query = {"catalog": str(catalog), "datetime": ["2024-05-01/2024-07-01"], "bbox": list(scene.bbox(inner=0.02))}
    return {"model": str(folder / "model"), "query": query, "block_size": side, "features": features}


def _one(folder: str, count: str) -> dict[str, Any]:
    """Run a block that is full of data, leave the end of the run out, and plan ``count`` blocks like it around it."""
    from geoml import pipeline
    from geoml.engine.run.blocks import run_blocks
    from geoml.engine.run.plan import Plan, read_plan, write_plan
    from geoml.io.stac.search import read_items

    out = Path(folder) / "out"
    pipeline.plan(_parsed(_recipe(Path(folder), SIDE, 4, 4, features=False)), out)
    plan = read_plan(out)
    ids = list(plan.by_id())
    run_blocks(out, [key := ids[len(ids) // 2 + 2]])
    first, width = plan.by_id()[key], int(np.ceil(np.sqrt(int(count))))
    cells = [(first.iy + k // width, first.ix + k % width) for k in range(int(count))]
    value = plan.model_dump(mode="json", exclude={"blocks"})
    value["blocks"] = [{**first.model_dump(mode="json"), "iy": iy, "ix": ix} for iy, ix in cells]
    value["zones"][0]["pixels"] = len(cells) * SIDE * SIDE
    write_plan(Plan.model_validate(value), list(read_items(out / "sources.parquet")), out)
    return {"first": (first.iy, first.ix), "cells": cells, "zone": value["zones"][0]}


def _parsed(recipe: Mapping[str, Any]) -> Any:
    from geoml.recipe import PredictRecipe, parse

    return parse(PredictRecipe, dict(recipe), "recipe")


def _memory(peak: bool) -> float:
    """Resident memory of this process, or its peak since it was reset, in MB."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines["VmHWM" if peak else "VmRSS"].split()[0]) / 1024


def _reset_peak() -> None:
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _collect(out: str) -> dict[str, Any]:
    from geoml.engine.run import blocks, collect
    from geoml.io.report import page

    report, peak = {"report": 0.0, "report_memory": 0.0}, 0.0

    def measured(*args: Any, **kwargs: Any) -> str:
        nonlocal peak
        peak = _memory(peak=True)
        _reset_peak()
        before, start = _memory(peak=False), time.process_time()
        html = whole_report(*args, **kwargs)
        report["report"] = time.process_time() - start
        report["report_memory"] = _memory(peak=True) - before
        return html

    whole_report = page.map_report
    mock.patch.object(page, "map_report", measured).start()  # found when it is called, by older ones when they load
    mock.patch.object(collect, "map_report", measured, create=True).start()
    _reset_peak()
    before, start = _memory(peak=False), time.process_time()
    run = collect.collect(out, [blocks.Tally()])
    whole = time.process_time() - start
    return {
        "blocks": len(run["blocks"]["done"]),
        "collect": whole - report["report"],
        "memory": max(peak, _memory(peak=True)) - before,
        "page": (Path(out) / "report.html").stat().st_size,
        **report,
    }


def _overhead(folder: str, side: str, blocks: str, features: str) -> dict[str, Any]:
    import torch

    from geoml import pipeline
    from geoml.engine.run.blocks import run_blocks
    from geoml.engine.run.plan import read_plan

    torch.set_num_threads(1)
    out, rows = Path(folder) / "out", max(1, int(np.sqrt(int(blocks))))
    columns = -(-int(blocks) // rows) + 1
    pipeline.plan(_parsed(_recipe(Path(folder), int(side), rows, columns, features=features == "1")), out)
    ids = list(read_plan(out).by_id())
    run_blocks(out, ids[:8])  # the model, and what is made once
    start = time.process_time()
    tally = run_blocks(out, ids[8:])
    return {"milliseconds": 1000 * (time.process_time() - start) / len(tally.done)}


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--blocks", type=int, nargs="*", default=[100, 1000, 10_000, 70_000])
    parser.add_argument("--other", type=Path, help="an older checkout, measured in turns")
    parser.add_argument("--largest", type=int, default=10_000, help="blocks that the older one is given at most")
    parser.add_argument("--overhead", type=int, default=200, help="tiny blocks that are run; 0: none")
    given = parser.parse_args(arguments)
    checkouts = {"ours": ROOT, **({"other": given.other.resolve()} if given.other else {})}
    print(f"load {os.getloadavg()[0]:.1f}")
    for name, checkout in checkouts.items() if given.overhead else ():
        for features in (False, True):
            cost = overhead(given.overhead, checkout=checkout, features=features)
            print(f"{name}: a block beyond its pixels{' with features' * features} {cost:.1f} ms of CPU", flush=True)
    names = ("", "blocks", "collect, CPU s", "report, CPU s", "memory, MB", "of the report, MB", "page, MB")
    print(f"| {' | '.join(names)} |\n{'|---' * len(names)}|")
    costs: dict[str, list[Cost]] = {name: [] for name in checkouts}
    for count in given.blocks:
        for name, checkout in checkouts.items():
            if name == "other" and count > given.largest:
                continue
            with tempfile.TemporaryDirectory() as folder:
                found = collect_cost(make_blocks(Path(folder), count, checkout), checkout)
            costs[name].append(found)
            numbers = f"{found.collect:.2f} | {found.report:.2f} | {found.memory:.0f} | {found.report_memory:.0f}"
            print(f"| {name} | {count:,} | {numbers} | {found.page / 1e6:.2f} |", flush=True)
    for name, those in costs.items():
        large = [c for c in those if c.blocks >= 1000]  # below, what is paid once hides the growth
        if len(large) > 1:
            sizes = [c.blocks for c in large]
            kinds = {"collect": [c.collect for c in large], "report": [c.report for c in large]}
            print(name, *(f"{kind}: exponent {exponent(sizes, those):.2f}" for kind, those in kinds.items()))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        answers: dict[str, Callable[..., dict[str, Any]]] = {"one": _one, "collect": _collect, "overhead": _overhead}
        print(json.dumps(answers[sys.argv[2]](*sys.argv[3:])))
    else:
        main(sys.argv[1:])
