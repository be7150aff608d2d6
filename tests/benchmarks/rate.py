"""Megapixels per CPU second from the command to the finished map, against the build of before and what others write.

    make bench-rate ARGS="--sizes 1024 2048 4096 --before main --peers torchgeo geoai --work DIR"

Every run is a process tree of its own with one thread, all of a round one after the other, so that they meet the same
machine; of several rounds the smallest is taken. CPU seconds (user and system) and peak memory are the system's. The
scene and the U-Net (resnet18, random weights) are made; its radius is 286 as measured, and 53 by decree in a second
card. ``--check`` compares a map in blocks of 1024 with one forward over all, in the same precision and back end.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray

from tests.benchmarks import scene
from tests.benchmarks.predict import package

RADII = (53, 286)
ONE = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "GEOML_THREADS": "1"}
PEERS = Path(__file__).with_name("peers.py")


@dataclass(frozen=True)
class Cost:
    cpu: float
    peak_mb: float


def measured(command: list[str], where: Path, env: Mapping[str, str]) -> Cost:
    """Run a command in ``where``: CPU seconds of it and of what it waited for, peak memory of its largest process."""
    log = Path(tempfile.gettempdir()) / f"geoml-rate-{os.getpid()}.log"
    with log.open("w") as to:
        child = subprocess.Popen(command, cwd=where, env={**os.environ, **ONE, **env}, stdout=to, stderr=to)
        _, status, used = os.wait4(child.pid, 0)
    if status:
        raise RuntimeError(f"{' '.join(command)}: {log.read_text()[-500:]}")
    return Cost(used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


def models(work: Path) -> dict[int, Path]:
    """Packages of one network, by the radius that their card says."""
    made = package(work / "unet-1", 1)
    found = {RADII[1]: made, RADII[0]: work / f"unet-{RADII[0]}"}
    if not found[RADII[0]].exists():
        shutil.copytree(made, found[RADII[0]])
        card = json.loads((made / "model.json").read_text())
        card["properties"]["geoml:radius"] = RADII[0]
        (found[RADII[0]] / "model.json").write_text(json.dumps(card))
    return found


def predict(root: Path, catalog: Path, model: Path, out: Path, block: int = 2048) -> list[str]:
    """The command, of the checkout in ``root``."""
    shutil.rmtree(out, ignore_errors=True)
    code = f"import sys; sys.path.insert(0, {str(root)!r}); from geoml.cli import app; app()"
    query = ["--catalog", catalog, "--region", catalog.parent / "region.geojson", "--datetime", scene.DATES[0]]
    more = ["--crs", "data", "--no-features", "--block-size", block, "--out", out]
    return list(map(str, [sys.executable, "-c", code, "predict", "--model", model, *query, *more]))


def mosaic(out: Path, size: int) -> NDArray[np.uint8]:
    """(y, x) classes of a run over the scene."""
    whole = np.zeros((size, size), np.uint8)
    for path in out.glob("cogs/*/class.tif"):
        with rasterio.open(path) as src:
            x, y = round((src.bounds.left - scene.LEFT) / scene.GSD), round((scene.TOP - src.bounds.top) / scene.GSD)
            values = src.read(1)[max(-y, 0) : size - y, max(-x, 0) : size - x]
            whole[max(y, 0) : max(y, 0) + values.shape[0], max(x, 0) : max(x, 0) + values.shape[1]] = values
    return whole


def one_forward(folder: Path, model: Path, to: Path) -> None:
    """Classes of one forward over the scene and as much around it as the network sees, 0 as beyond it; to a file."""
    import torch

    from geoml.engine.inference.choice import asked_of_machine, choose_backend
    from geoml.engine.inference.predict import Predictor
    from geoml.engine.packages.package import load

    found = load(model)
    predictor = Predictor(found, backend=choose_backend(found, found.card.chip_grid().size, asked_of_machine()).backend)
    halo = predictor.grid.halo
    with rasterio.open(folder / "scene-0.tif") as src, torch.inference_mode(), predictor.backend.failures():
        x = (torch.from_numpy(src.read().astype(np.float32)) * 1e-4 - 0.2) / 0.1
        raw = predictor.forward(torch.nn.functional.pad(x, (halo,) * 4)[None])
        np.save(to, raw[0, :, halo:-halo, halo:-halo].float().numpy().argmax(0).astype(np.uint8) + 1)


def contestants(given: argparse.Namespace) -> dict[str, tuple[Path, int, dict[str, str]]]:
    """Checkout, radius and settings of each of our runs."""
    here, found = Path(__file__).parents[2], {}
    for radius in given.radii:
        if given.before:
            found[f"before, radius {radius}"] = (given.work / "before", radius, {})
        for backend in given.backends:
            for precision in given.precisions:
                settings = {"GEOML_BACKEND": backend, "GEOML_PRECISION": precision}
                found[f"{backend} {precision}, radius {radius}"] = (here, radius, settings)
    return found


def peer_python(name: str, work: Path) -> str:
    """The Python of a temporary environment with a peer from PyPI."""
    folder = work / f"venv-{name}"
    python = folder / "bin" / "python"
    if not python.exists():
        wanted = {"torchgeo": ["torchgeo==0.8.1", "requests"], "geoai": ["geoai-py==0.40.1"]}[name]
        subprocess.run(["uv", "venv", "-q", "--python", sys.executable, folder], check=True)
        subprocess.run(["uv", "pip", "install", "-q", "--python", python, *wanted, "safetensors"], check=True)
    return str(python)


def compare(size: int, given: argparse.Namespace) -> None:
    """One table: every contestant at one size, in rounds."""
    catalog, packages = scene.make(given.work, size), models(given.work)
    weights, ours = packages[RADII[1]] / "model.safetensors", contestants(given)
    image, costs = catalog.parent / "scene-0.tif", dict[str, list[Cost]]()
    for _ in range(given.rounds):
        for who in ("plain", "overlap", *given.peers):
            python = peer_python(who, given.work) if who in given.peers else sys.executable
            command = [python, str(PEERS), who, str(image), str(weights), str(given.work / f"{who}.tif")]
            costs.setdefault(who, []).append(measured(command, given.work, {}))
        for name, (root, radius, settings) in ours.items():
            out = given.work / name.replace(" ", "-")
            command = predict(root, catalog, packages[radius], out)
            costs.setdefault(name, []).append(measured(command, given.work, settings))
    base = min(c.cpu for c in costs["plain"])
    print(f"{size} x {size}: CPU seconds, times the rate of the plain loop, peak MB; load {os.getloadavg()[0]:.1f}")
    reference = next((given.work / n.replace(" ", "-") for n in ours if n.startswith("torch fp32")), None)
    for name, found in costs.items():
        best = min(found, key=lambda c: c.cpu)
        line = f"  {name:28}{best.cpu:8.1f}{base / best.cpu:7.2f} x{best.peak_mb:8.0f}"
        if name in ours and reference is not None:
            same = float((mosaic(given.work / name.replace(" ", "-"), size) == mosaic(reference, size)).mean())
            line += f"   {100 * same:.4f} % as in torch fp32"
        print(line, flush=True)


def check(size: int, given: argparse.Namespace) -> None:
    """Pixels of a map in blocks of 1024 that differ from one forward, for each back end and precision."""
    catalog, model = scene.make(given.work, size), models(given.work)[RADII[1]]
    for backend in given.backends:
        for precision in given.precisions:
            env = {"GEOML_BACKEND": backend, "GEOML_PRECISION": precision}
            out, whole = given.work / "check", given.work / "one.npy"
            measured(predict(Path(__file__).parents[2], catalog, model, out, 1024), given.work, env)
            code = "import sys; from pathlib import Path; from tests.benchmarks.rate import one_forward"
            command = [sys.executable, "-c", f"{code}; one_forward(*map(Path, sys.argv[1:]))"]
            measured([*command, str(catalog.parent), str(model), str(whole)], Path.cwd(), env)
            wrong = int((mosaic(out, size) != np.load(whole)).sum())
            print(f"  {backend} {precision}: {wrong} of {size * size} pixels differ from one forward", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1024, 2048, 4096])
    parser.add_argument("--radii", type=int, nargs="+", choices=RADII, default=list(RADII))
    parser.add_argument("--backends", nargs="+", default=["torch"], help="torch openvino onnx")
    parser.add_argument("--precisions", nargs="+", default=["fp32", "bf16"])
    parser.add_argument("--before", default="", help="a commit: a build of before, as a git worktree")
    parser.add_argument("--peers", nargs="*", default=[], choices=["torchgeo", "geoai"], help="installed from PyPI")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--check", type=int, default=0, help="side of the scene that is compared with one forward")
    parser.add_argument("--work", type=Path, default=None, help="keeps scenes and environments for the next time")
    given = parser.parse_args()
    given.work = (given.work or Path(tempfile.mkdtemp(prefix="geoml-rate-"))).absolute()
    given.work.mkdir(parents=True, exist_ok=True)
    if given.before:
        shutil.rmtree(given.work / "before", ignore_errors=True)
        (given.work / "before").mkdir()
        tree = subprocess.run(["git", "archive", given.before], check=True, capture_output=True).stdout
        subprocess.run(["tar", "-x", "-C", given.work / "before"], input=tree, check=True)
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}; one thread each")
    for name in ("torchgeo", "geoai"):
        if name not in given.peers:
            print(f"{name}: not asked for (--peers {name})")
    for size in given.sizes:
        compare(size, given)
    if given.check:
        check(given.check, given)


if __name__ == "__main__":
    main()
