"""All that is to be measured where a GPU is, as one script: tests/gpu, then the table of docs/performance.md.

    make bench-gpu                          on a machine with a GPU; some minutes
    make bench-gpu ARGS="--out gpu.json"
    make bench-gpu ARGS=--rehearse          the same steps on the CPU, small: does the script work? No figure of a GPU

Without a CUDA device it says so, measures nothing and ends with 1. What fails is a line of the table and stops no
other. Rates are megapixels of the scene a second of wall time; the bare model computes the same chips and nothing else.
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
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
NO_GPU = "no CUDA device on this machine: nothing was measured, and no figure of a GPU exists yet (--rehearse tries it)"


@dataclass(frozen=True)
class How:
    """Sizes of the measurement: the scene's side, frames, seconds of a rate, and where it runs."""

    device: str
    precision: str
    scene: int
    block: int
    frames: int
    seconds: float
    chip: int = 512


FULL = How("cuda", "bf16", 8192, 2048, 1000, 10.0)
SMALL = How("cpu", "fp32", 512, 512, 3, 0.01, chip=64)


def machine(how: How) -> dict[str, Any]:
    """Where it ran."""
    import torch

    about: dict[str, Any] = {"torch": torch.__version__, "cores": os.cpu_count(), "device": how.device}
    if how.device == "cuda":
        told = torch.cuda.get_device_properties(0)
        about |= {"name": told.name, "memory_gb": round(told.total_memory / 2**30, 1), "cuda": torch.version.cuda}
    return about


def gpu_tests(how: How) -> dict[str, Any]:
    """The last line of pytest over tests/gpu."""
    command = [sys.executable, "-m", "pytest", "tests/gpu", "-q", "-m", "gpu"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    lines = [
        line
        for line in done.stdout.splitlines()
        if " in " in line and ("passed" in line or "skipped" in line or "failed" in line)
    ]
    return {
        "exit": done.returncode,
        "said": lines[-1].strip("= ") if lines else done.stdout[-500:] + done.stderr[-500:],
    }


def synchronised() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


def rate(work: Callable[[], int], seconds: float) -> float:
    """Megapixels a second of ``work``, which returns the pixels that it did; two before warm up a compiler."""
    import torch

    with torch.inference_mode():
        work()
        work()
        synchronised()
        pixels, start = 0, time.perf_counter()
        while time.perf_counter() - start < seconds or not pixels:
            pixels += work()
            synchronised()
        return pixels / 1e6 / (time.perf_counter() - start)


def bare(model: Path, how: How) -> dict[str, float]:
    """The network as torch runs it, on the chips of a run: megapixels of cores, eager and compiled."""
    import torch

    from geoml.backends.torch import choose
    from geoml.engine.inference.predict import Predictor
    from geoml.engine.packages.package import load

    found: dict[str, float] = {}
    loaded, device = load(model), choose(how.device, how.precision)
    grid = Predictor(loaded, device=device).grid
    shape = device.batch, len(loaded.card.bands), grid.size, grid.size
    x = torch.randn(shape, device=device.torch).contiguous(memory_format=torch.channels_last)
    for name in ("eager", "compiled"):
        module = load(model).module.eval().to(device.torch, memory_format=torch.channels_last)
        run: Callable[..., Any] = torch.compile(module, dynamic=False) if name == "compiled" else module

        def work(run: Callable[..., Any] = run) -> int:
            with device.autocast():
                run(x)
            return device.batch * grid.step**2

        found[name] = rate(work, how.seconds)
    return found


def whole(catalog: Path, model: Path, out: Path, how: How) -> dict[str, float]:
    """`geoml predict` end to end, eager and compiled, each the second run of its process."""
    found: dict[str, float] = {}
    for name in ("eager", "compiled"):
        own = {"GEOML_DEVICE": how.device, "GEOML_PRECISION": how.precision, "GEOML_PREFETCH": "4"}
        own |= {"GEOML_COMPILE": "true" if name == "compiled" else "false"}
        words = [
            sys.executable,
            "-m",
            "tests.gpu.measure",
            "--child",
            str(catalog),
            str(model),
            str(out),
            str(how.block),
        ]
        done = subprocess.run(words, cwd=ROOT, env=os.environ | own, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{name}: {done.stderr[-800:]}")
        found[name] = how.scene**2 / 1e6 / float(done.stdout.splitlines()[-1])
    return found


def child(catalog: str, model: str, out: str, block: str) -> None:
    """Seconds of the second of two runs in this process: the first one compiles."""
    from geoml import pipeline
    from tests.benchmarks.predict import recipe

    for _ in range(2):
        shutil.rmtree(out, ignore_errors=True)
        start = time.perf_counter()
        pipeline.predict(recipe(Path(catalog), Path(model), False, int(block)), out)
        took = time.perf_counter() - start
    print(took)


def decode(catalog: Path, how: How) -> float:
    """Reading the scene on all cores: megapixels of four bands a second."""
    import rasterio

    from geoml.cube.load import load
    from geoml.grid.plane import Plane, Window
    from geoml.io.stac import search as stac
    from geoml.pipeline import search
    from tests.benchmarks import scene

    query = {"catalog": str(catalog), "region": str(catalog.parent / "region.geojson"), "datetime": [scene.DATES[0]]}
    items, opened, plane = search(query), stac.open_catalog(str(catalog)), Plane(scene.CRS, scene.GSD)
    with rasterio.open(catalog.parent / "scene-0.tif") as file:
        window: Window = plane.window(*file.bounds)

    def work() -> int:
        cube = load(items, scene.BANDS, plane.geobox(window), profile=opened.profile(None), catalog=opened)
        cube.compute(scheduler="threads", num_workers=os.cpu_count())
        return how.scene**2

    return rate(work, how.seconds)


def back_ends(model: Path, how: How) -> dict[str, Any]:
    """Each back end that is here: megapixels a second of forwards of one batch, or why there is none."""
    import torch

    from geoml.engine.contract import BACKENDS
    from geoml.engine.packages.package import load
    from geoml.settings import settings

    os.environ |= {"GEOML_DEVICE": how.device, "GEOML_PRECISION": how.precision}
    found: dict[str, Any] = {}
    for name in BACKENDS.names():
        settings.cache_clear()
        try:
            loaded = load(model)
            backend = BACKENDS.find(name).Backend(loaded.module, loaded.card.signature, BACKENDS.find(name).choose())
            x = torch.randn(backend.batch, len(loaded.card.bands), how.chip, how.chip, device=backend.device)

            def work(backend: Any = backend, x: Any = x) -> int:
                with backend.failures():
                    backend.forward(x)
                return backend.batch * how.chip**2

            found[name] = round(rate(work, how.seconds), 3)
        except Exception as err:  # a library that is absent or has no such device is a line of the table
            found[name] = f"{type(err).__name__}: {str(err)[:200]}"
    return found


def latency(model: Path, work: Path, how: How) -> dict[str, Any]:
    """p50 and p99 of one chip through the warm model, with the halo and without."""
    from geoml.backends.torch import choose
    from geoml.engine.inference.predict import Predictor
    from geoml.engine.packages.package import load
    from geoml.engine.stream.latency import Latency
    from geoml.engine.stream.recipe import StreamRecipe
    from tests.benchmarks.stream import chip, measured

    path, found = chip(work, how.chip), {}
    predictor = Predictor(load(model), device=choose(how.device, how.precision))
    for halo in (False, True):
        recipe, told = StreamRecipe(model=str(model), scale=1e-4, size=how.chip, halo=halo), Latency()
        measured(predictor, path, recipe, how.frames, told)
        found["with halo" if halo else "alone"] = told.summary()
    return found


def table(how: How, work: Path) -> dict[str, Any]:
    """Every step, in order; the reason in the place of what failed."""
    from geoml import testing
    from tests.benchmarks import scene
    from tests.benchmarks.predict import package

    model, catalog = work / "small", scene.make(work, how.scene)
    if how is SMALL:
        testing.small_unet(model, scene.BANDS, ("low", "middle", "high"), steps=0)
    else:
        model = package(work / "unet-1", 1)
    steps: dict[str, Callable[[], Any]] = {
        "machine": lambda: machine(how),
        "tests": lambda: gpu_tests(how),
        "bare": lambda: bare(model, how),
        "end to end": lambda: whole(catalog, model, work / "out", how),
        "decode": lambda: decode(catalog, how),
        "back ends": lambda: back_ends(model, how),
        "latency": lambda: latency(model, work, how),
    }
    found: dict[str, Any] = {"how": asdict(how)}
    for name, step in steps.items():
        start = time.perf_counter()
        try:
            found[name] = step()
        except Exception as err:  # the next steps are measured all the same
            found[name] = f"failed: {type(err).__name__}: {str(err)[-400:]}"
        print(f"# {name}: {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
    return found


def printed(found: dict[str, Any]) -> str:
    """The table as lines of docs/performance.md."""
    lines = [f"machine: {found['machine']}", f"tests/gpu: {found['tests']}", "", "| what | |", "|---|---|"]
    bare_, whole_ = found["bare"], found["end to end"]
    if isinstance(bare_, dict) and isinstance(whole_, dict):
        for name in ("eager", "compiled"):
            lines.append(f"| bare model, {name} | {bare_[name]:.2f} Mpx/s |")
            lines.append(f"| end to end, {name} | {whole_[name]:.2f} Mpx/s |")
        lines.append(f"| end to end to the bare model, both compiled | {whole_['compiled'] / bare_['compiled']:.2f} |")
    else:
        lines += [f"| bare model | {bare_} |", f"| end to end | {whole_} |"]
    decoded = found["decode"]
    lines.append(
        f"| decode on {os.cpu_count()} cores | {decoded if isinstance(decoded, str) else f'{decoded:.1f} Mpx/s'} |"
    )
    ends = found["back ends"]
    lines += (
        [f"| back end {k} | {v} |" for k, v in ends.items()] if isinstance(ends, dict) else [f"| back ends | {ends} |"]
    )
    late = found["latency"]
    if isinstance(late, dict):
        for name, told in late.items():
            lines.append(f"| one chip, {name} | p50 {told['model']['p50']:.2f} ms, p99 {told['model']['p99']:.2f} ms |")
    else:
        lines.append(f"| latency | {late} |")
    return "\n".join(lines)


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rehearse", action="store_true", help="on the CPU, small")
    parser.add_argument("--out", type=Path, help="also write what was measured as JSON")
    parser.add_argument("--work", type=Path, help="keeps scenes and models")
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args(words)
    if given.child:
        child(*given.child)
        return 0
    if given.rehearse:
        os.environ["TORCHDYNAMO_DISABLE"] = "1"  # a compiler takes minutes of a CPU
    import torch

    if not torch.cuda.is_available() and not given.rehearse:
        print(NO_GPU)
        return 1
    how = SMALL if given.rehearse else FULL
    work = given.work or Path(tempfile.mkdtemp(prefix="geoml-gpu-"))
    found = table(how, work)
    if given.rehearse:
        print("a rehearsal on the CPU, compilers off: these are not figures of a GPU")
    print(printed(found))
    if given.out:
        given.out.write_text(json.dumps(found, indent=1), encoding="utf-8")
    return 0 if not any(isinstance(v, str) for v in found.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
