"""Throughput and memory of a prediction, against the bare model on the same chips.

    make bench ARGS="--sizes 8192 16384 --work DIR"
    make bench ARGS="--sizes 4096 --pairs"             two dates, a Siamese U-Net

Every run is a process of its own. ``bare`` is the same network in the same precision over the same chip shapes, with
nothing read, decoded or written. Rates are megapixels of the scene (halos are not counted) per second of wall time.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path

from tests.benchmarks import scene


def package(folder: Path, dates: int) -> Path:
    """A (Siamese) U-Net with a resnet18 encoder, random weights from a seed: its cost does not depend on them."""
    import torch

    from geoml import models
    from geoml.engine.packages import cards
    from geoml.engine.packages import package as packages
    from geoml.io.cards.map_card import Band, ClassInfo, MapCard

    if not (folder / cards.CARD).exists():
        torch.manual_seed(0)
        kind = "unet" if dates == 1 else "siamese_unet"
        config = {**models.fixed_by_data(kind, len(scene.BANDS), dates, 3), "encoder": "resnet18"}
        colours = ("#2b6fb3", "#1f6b35", "#e3c567")
        card = MapCard(
            name=f"bench-{kind}",
            architecture=kind,
            config=config,
            task="segmentation" if dates == 1 else "change",
            dates=dates,
            bands=tuple(Band(name=b, mean=0.2, std=0.1) for b in scene.BANDS),
            gsd=scene.GSD,
            chip_size=512,
            stride=32,
            classes=tuple(ClassInfo(value=k + 1, name=f"class {k}", color=c) for k, c in enumerate(colours)),
        )
        packages.save(models.build(kind, config).eval(), card, folder)
    return folder


def recipe(catalog: Path, model: Path, features: bool, block: int) -> dict[str, object]:
    query = {"catalog": str(catalog), "region": str(_region(catalog)), "datetime": _dates(catalog)}
    return {"model": str(model), "query": query, "crs": "data", "features": features, "block_size": block}


def _dates(catalog: Path) -> list[str]:
    return list(scene.DATES[: len(list(catalog.parent.glob("scene-*.tif")))])


def _region(catalog: Path) -> Path:
    return catalog.parent / "region.geojson"


def run(catalog: Path, model: Path, out: Path, features: bool, block: int) -> dict[str, float]:
    """One prediction in this process: seconds, pixels, peak memory."""
    import torch

    from geoml import pipeline
    from geoml.engine.inference.predict import Predictor
    from geoml.engine.machine.memory import keep_freed_memory
    from geoml.engine.packages.package import load
    from geoml.engine.run import blocks as engine  # noqa: F401
    from geoml.engine.run import collect, plan  # noqa: F401

    ready = Predictor(load(model))  # imports, weights and the first call are not what is measured
    with torch.inference_mode(), keep_freed_memory():
        ready.forward(torch.zeros(1, len(scene.BANDS) * ready.card.dates, 512, 512))
    start, cpu = time.perf_counter(), time.process_time()
    found = pipeline.predict(recipe(catalog, model, features, block), out)
    took, cpu = time.perf_counter() - start, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": took, "cpu": cpu, "peak_mb": peak, **{f"{k}_s": v for k, v in found["seconds"].items()}}


def bare(catalog: Path, model: Path, block: int) -> dict[str, float]:
    """The network alone over the chips that the prediction computes: as torch runs it, and as geoml does."""
    import torch

    from geoml.engine.inference.predict import Predictor
    from geoml.engine.machine.memory import keep_freed_memory
    from geoml.engine.packages.package import load
    from geoml.engine.run.plan import make_plan
    from geoml.recipe import PredictRecipe, parse

    plan, _ = make_plan(parse(PredictRecipe, recipe(catalog, model, False, block), "bench"))
    predictor = Predictor(load(model))
    zone = plan.zones[0].plane
    import rasterio

    with rasterio.open(catalog.parent / "scene-0.tif") as src:
        extent = zone.window(*src.bounds)
    shapes = []
    for planned in plan.blocks:
        window = plan.block(planned).window
        for row in predictor.grid.rows(window):
            for key in row:
                core = predictor.grid.output_window(*key)
                if core.intersect(window).touches(extent):
                    shapes.append(predictor.trimmed(core, window).expand(predictor.grid.halo).shape)
    inputs = {s: torch.randn(1, len(scene.BANDS) * plan.card.dates, *s) for s in set(shapes)}
    took: dict[str, float] = {"chips": len(shapes)}
    engine = predictor.backend.module  # folded, and below with memory kept; the bare model is what torch runs
    for name, module in (("", load(model).module.eval().to(memory_format=torch.channels_last)), ("folded_", engine)):
        predictor.backend.module = module
        with torch.inference_mode(), keep_freed_memory() if name else nullcontext():
            predictor.forward(inputs[shapes[0]])
            start, cpu = time.perf_counter(), time.process_time()
            for shape in shapes:
                predictor.forward(inputs[shape])
        took |= {f"{name}seconds": time.perf_counter() - start, f"{name}cpu": time.process_time() - cpu}
    return {**took, "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def read(catalog: Path) -> dict[str, float]:
    """Reading alone, aligned, no warp: megapixels per CPU second."""
    import numpy as np

    from geoml.cube.load import load
    from geoml.grid.plane import Plane, Window
    from geoml.io.stac import search as stac
    from geoml.pipeline import search

    query = {"catalog": str(catalog), "region": str(_region(catalog)), "datetime": list(scene.DATES[:1])}
    items, opened = search(query), stac.open_catalog(str(catalog))
    plane, step, side = Plane(scene.CRS, scene.GSD), 2048, items[0].properties["proj:shape"][0]
    y0, x0 = int(-scene.TOP / scene.GSD), int(scene.LEFT / scene.GSD)

    def block(y: int, x: int) -> int:
        box = plane.geobox(Window(y0 + y, x0 + x, y0 + y + step, x0 + x + step))
        cube = load(items, scene.BANDS, box, profile=opened.profile(None), catalog=opened)
        values = cube.compute(scheduler="single-threaded")
        assert bool(np.all(values.valid_count.values == 1))
        return step * step

    block(0, 0)  # imports are not what is measured
    cpu = time.process_time()
    pixels = sum(block(y, x) for y in range(0, side, step) for x in range(0, side, step))
    return {"mpx_per_cpu_second": pixels / 1e6 / (time.process_time() - cpu)}


def _child(work: Path, what: str, size: int, *more: str) -> dict[str, float]:
    command = [
        sys.executable,
        "-m",
        "tests.benchmarks.predict",
        "--child",
        what,
        "--work",
        str(work),
        "--sizes",
        str(size),
    ]
    done = subprocess.run([*command, *more], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    value: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[8192, 16384])
    parser.add_argument("--block", type=int, default=2048)
    parser.add_argument("--work", type=Path, default=None, help="keeps scenes for the next time")
    parser.add_argument("--features", action="store_true", help="polygonise too")
    parser.add_argument("--pairs", action="store_true", help="two dates")
    parser.add_argument("--child", choices=["run", "bare", "read"])
    given = parser.parse_args()
    work = given.work or Path(tempfile.mkdtemp(prefix="geoml-bench-"))
    dates = 2 if given.pairs else 1
    model = package(work / f"unet-{dates}", dates)
    if given.child:
        catalog = scene.make(work, given.sizes[0], dates)
        out = work / f"out-{given.sizes[0]}-{dates}"
        shutil.rmtree(out, ignore_errors=True)
        call = {"run": lambda: run(catalog, model, out, given.features, given.block)}
        call |= {"bare": lambda: bare(catalog, model, given.block), "read": lambda: read(catalog)}  # type: ignore[dict-item]
        print(json.dumps(call[given.child]()))
        return
    flags = [f"--{name}" for name in ("features", "pairs") if getattr(given, name)]
    more = ["--block", str(given.block), *flags]
    for size in given.sizes:
        scene.make(work, size, dates)
        mpx = size * size / 1e6
        alone, whole = _child(work, "bare", size, *more), _child(work, "run", size, *more)
        print(f"scene {size} x {size}, {mpx:.0f} Mpx, blocks of {given.block}, {alone['chips']:.0f} chips")
        rows = (("end to end", whole, ""), ("bare model", alone, ""), ("as geoml runs it", alone, "folded_"))
        for name, row, kind in rows:
            print(f"  {name:17}{mpx / row[f'{kind}seconds']:7.2f} Mpx/s {mpx / row[f'{kind}cpu']:7.2f} Mpx/CPU-s")
        for key in sorted(k for k in whole if k.endswith("_s")):
            print(f"  stage {key[:-2]:8}{mpx / whole[key]:7.2f} Mpx/s")
        by_wall, by_cpu = (alone[k] / whole[k] for k in ("seconds", "cpu"))
        folded = alone["folded_seconds"] / whole["seconds"]
        memory = f"peak memory {whole['peak_mb']:.0f} (bare {alone['peak_mb']:.0f}) MB"
        print(f"  ratio {by_wall:.2f} by wall, {by_cpu:.2f} by CPU time, {folded:.2f} to it as geoml runs it; {memory}")
    rate = _child(work, "read", given.sizes[0], *more)["mpx_per_cpu_second"]
    print(f"reading alone {rate:.1f} Mpx/CPU-s (aligned, no warp)")


if __name__ == "__main__":
    main()
