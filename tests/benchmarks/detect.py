"""A detector over a large photo: end to end, beside SAHI with the same weights, and beside the bare network.

    make bench-detect ARGS="--size 8192 --rounds 1"

The photo of `geoml demo --detect`, mirrored over and over, is a scene of ``--size`` pixels a side; the weights are
those of ``kit-cars``. All of a round run one after the other, each in a process of its own with one thread, in CPU
seconds of the process tree. SAHI 0.12.8 (from PyPI, into ``--work``) cuts slices of 512 by its own defaults: an overlap
of 0.2, a pass over the whole picture as well, boxes joined by GREEDYNMM. Both report boxes of a score of 0.3 or more.
``bare`` is the network as PyTorch has it, in our precision, over the chips that our run makes (those with data, cut to
what they see of it): only its forwards are counted, and nothing that is read, cut, joined or written.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from geoml import testing
from geoml.cli.demos import detect as demo
from tests.benchmarks.rate import ONE, measured

SAHI = Path(__file__).with_name("detect_sahi.py")
MODEL = demo.given().parents[1] / "models" / demo.MODEL


def make(work: Path, size: int) -> Path:
    """A recipe, its scene as a COG and ``photo.png``; the path of the recipe."""
    folder = work / f"photo-{size}"
    if (recipe := folder / "recipe.yaml").exists():
        return recipe
    folder.mkdir(parents=True)
    with Image.open(demo.given() / "frame.jpg") as photo:
        tile = np.asarray(photo.convert("RGB"))
    tile = np.concatenate([tile, tile[::-1]])
    tile = np.concatenate([tile, tile[:, ::-1]], 1)
    height, width = tile.shape[:2]
    data = np.tile(tile, (-(-size // height), -(-size // width), 1))[:size, :size]
    Image.fromarray(data).save(folder / "photo.png", compress_level=1)
    scene = testing.Scene(
        id="photo", data=np.moveaxis(data, -1, 0), bands=("red", "green", "blue"), crs=demo.CRS, origin=demo.ORIGIN,
        res=demo.GSD, nodata=None, scale=1.0, unit="DN",
    )  # fmt: skip
    catalog = testing.write_catalog(folder / "photo", [scene], licence="CC-BY-3.0")
    query = {"catalog": str(catalog.absolute()), "bbox": list(scene.bbox()), "datetime": [scene.datetime[:10]]}
    recipe.write_text(yaml.safe_dump({"model": str(MODEL), "query": query, "crs": "data"}), encoding="utf-8")
    return recipe


def options(recipe: Path) -> list[str]:
    """The command of a recipe."""
    asked = yaml.safe_load(recipe.read_text())
    query = asked["query"]
    where = ["--bbox", *query["bbox"], "--datetime", *query["datetime"], "--crs", asked["crs"]]
    return [str(word) for word in ("predict", "--model", asked["model"], "--catalog", query["catalog"], *where)]


def install(work: Path) -> Path:
    """A folder with SAHI and no other package: it uses what is there."""
    folder = work / "sahi"
    if not folder.exists():
        uv = Path(sys.executable).with_name("uv")
        command = [str(uv), "pip", "install", "-q", "--no-deps", "--target", str(folder), "sahi==0.12.8"]
        subprocess.run(command, check=True)
    return folder


def bare(recipe: Path) -> dict[str, float]:
    """CPU seconds of the network over the chips of the run, with all else that makes it a run left out of the count."""
    import torch

    from geoml import pipeline
    from geoml.engine.packages.package import load
    from geoml.engine.run.blocks import BlockReader, predictor_of
    from geoml.engine.run.plan import read_plan
    from geoml.recipe import PredictRecipe, parse

    folder = Path(tempfile.mkdtemp(prefix="geoml-detect-plan-"))
    pipeline.plan(parse(PredictRecipe, yaml.safe_load(recipe.read_text()), "bench"), folder)
    plan = read_plan(folder)
    predictor = predictor_of(plan)
    backend, grid = predictor.backend, predictor.grid
    backend.module = load(str(MODEL)).module.eval().to(memory_format=torch.channels_last)  # type: ignore[attr-defined]
    forward, seconds, pixels = backend.forward, [], []

    def timed(x: torch.Tensor, *more: object) -> torch.Tensor:
        start = time.process_time()
        raw = forward(x, *more)  # type: ignore[arg-type]
        seconds.append(time.process_time() - start)
        pixels.append(x.shape[-2] * x.shape[-1])
        return raw

    with torch.inference_mode():
        forward(torch.randn(1, 3, grid.size, grid.size))
    backend.forward = timed  # type: ignore[method-assign]
    reader = BlockReader(folder, plan, predictor)
    for planned in plan.blocks:
        run = reader.read(planned)
        for _ in predictor.rows(run.pixels, run.block.window):
            pass
    return {"cpu": sum(seconds), "chips": len(seconds), "mpx": sum(pixels) / 1e6, "halo": grid.halo}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=8192)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--no-sahi", action="store_true", help="only ours and the bare network")
    parser.add_argument("--work", type=Path, default=None, help="keeps the scene for the next time")
    parser.add_argument("--bare", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.bare:
        print(json.dumps(bare(given.bare)))
        return
    work = (given.work or Path(tempfile.mkdtemp(prefix="geoml-detect-"))).absolute()
    recipe, out = make(work, given.size), work / "out"
    commands = {
        "ours": ["-m", "geoml.cli", *options(recipe), "--out", str(out)],
        "bare": ["-m", "tests.benchmarks.detect", "--bare", str(recipe)],
    }
    if not given.no_sahi:
        commands["sahi"] = [str(SAHI), str(recipe.with_name("photo.png")), str(MODEL), str(work / "sahi.json")]
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    here, alone = Path.cwd(), {}
    for _ in range(given.rounds):
        shutil.rmtree(out, ignore_errors=True)
        for name, words in commands.items():
            env = {"PYTHONPATH": f"{here}:{install(work)}" if name == "sahi" else str(here)}
            if name == "bare":
                alone = json.loads(_output([sys.executable, *words], here))
                seconds[name].append(alone["cpu"])
            else:
                cost = measured([sys.executable, *words], here, env)
                seconds[name].append(cost.cpu)
                print(f"  {name}: {cost.cpu:.1f} CPU s, peak {cost.peak_mb:.0f} MB", flush=True)
    best = {name: min(found) for name, found in seconds.items()}
    chips = f"{alone['chips']} chips of {alone['mpx']:.0f} Mpx with a halo of {alone['halo']}"
    print(f"{given.size} x {given.size}, {chips}, load {os.getloadavg()[0]:.1f}")
    print(f"  ours {best['ours']:.1f} CPU s; bare network {best['bare']:.1f}: {best['bare'] / best['ours']:.2f} of it")
    if "sahi" in best:
        print(f"  SAHI {best['sahi']:.1f} CPU s: ours is {best['sahi'] / best['ours']:.2f} times as fast")
        print(f"  boxes: {_boxes(out)} ours, {json.loads((work / 'sahi.json').read_text())['boxes']} SAHI's")


def _boxes(out: Path) -> int:
    import pyarrow.parquet as pq

    return int(pq.read_metadata(out / "features.parquet").num_rows)


def _output(command: list[str], where: Path) -> str:
    env = {**os.environ, **ONE, "PYTHONPATH": str(where)}
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=where, env=env).stdout


if __name__ == "__main__":
    main()
