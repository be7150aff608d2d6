"""A training, against a plain torch loop of the same network, data, steps and precision in the same process.

    make bench-train ARGS="--epochs 3 --samples 64 --chip 256"

Made scenes of four bands, a U-Net with a resnet18 encoder, batches of 8. The plain loop cuts the same number of random
chips from arrays in memory, flips and turns them, scales them, and steps AdamW under the same schedule; after an epoch
it runs the validation chips and counts a confusion. It has no bookkeeping and writes nothing. Both take turns epoch by
epoch (``--repeat``), each in CPU seconds of this process with one thread; what comes behind the last epoch (radius,
domain, package, scores) is told apart.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("GEOML_THREADS", "1")

import numpy as np
import rasterio
import torch
from affine import Affine
from torch import nn
from torch.nn import functional as F

BANDS = ("blue", "green", "red", "nir")
VAL = 256


def make(folder: Path, side: int) -> None:
    """Four training scenes, one to validate, one to test: images uint16, labels of three classes."""
    from geoml.testing import smooth

    for column, name in enumerate(("a0", "a1", "a2", "a3", "v0", "t0")):
        image = smooth((4, side, side), seed=column, cell=48)
        label = np.digitize(image.mean(axis=0), (2700, 3500)).astype(np.int16)
        place = {"crs": "EPSG:32621", "transform": Affine(10, 0, 600_000 + column * 20_000, 0, -10, 7_000_000)}
        for kind, data in (("img", image), ("lab", label[None])):
            path = folder / kind / f"{name}.tif"
            path.parent.mkdir(parents=True, exist_ok=True)
            size = {"height": side, "width": side, "count": len(data), "dtype": data.dtype}
            with rasterio.open(path, "w", driver="GTiff", compress="deflate", **size, **place) as file:
                file.write(data)


def recipe(folder: Path, given: argparse.Namespace, epochs: int) -> Any:
    from geoml.data.recipe import TrainRecipe

    source = {"kind": "pairs", "root": str(folder), "images": "img/{id}.tif", "labels": "lab/{id}.tif",
              "file_bands": list(BANDS), "ignore": [-1]}  # fmt: skip
    classes = [{"value": k, "name": n, "color": f"#00000{k}"} for k, n in enumerate(("low", "middle", "high"))]
    return TrainRecipe.model_validate({
        "name": "bench", "augmentation": {"flips": True},
        "model": {"architecture": "unet", "config": {"encoder": "resnet18"}}, "bands": BANDS,
        "gsd": 10, "classes": classes, "source": source, "split": {"kind": "files", "val": ["v*"], "test": ["t*"]},
        "sampling": {"samples": given.samples}, "epochs": epochs, "batch": 8, "chip_size": given.chip,
        "precision": given.precision, "early_stopping": None,
    })  # fmt: skip


def ours(folder: Path, out: Path, given: argparse.Namespace, epochs: int) -> dict[str, list[float]]:
    """CPU seconds of each epoch and of the end."""
    from geoml.engine.train.fit import fit

    marks = [time.process_time()]
    fit(recipe(folder, given, epochs), out, on_epoch=lambda row: marks.append(time.process_time()))
    end = time.process_time() - marks[-1]
    return {"epochs": np.diff(marks).tolist(), "end": [end]}


def plain(folder: Path, given: argparse.Namespace, epochs: int) -> list[float]:
    """CPU seconds of each epoch of the plain loop."""
    from geoml import models

    def pair(name: str) -> tuple[np.ndarray, np.ndarray]:
        with rasterio.open(folder / "img" / f"{name}.tif") as image, rasterio.open(folder / "lab" / f"{name}.tif") as y:
            return image.read(), y.read(1).astype(np.int64)

    start = time.process_time()
    pairs = [pair(f"a{k}") for k in range(4)]
    val = pair("v0")
    mean = np.mean([p[0].mean((1, 2)) for p in pairs], axis=0).astype(np.float32)[:, None, None]
    std = np.mean([p[0].std((1, 2)) for p in pairs], axis=0).astype(np.float32)[:, None, None]
    fixed = models.fixed_by_data("unet", 4, 1, 3)
    net = models.build("unet", {"encoder": "resnet18", **fixed}).to(memory_format=torch.channels_last)
    steps = epochs * -(-given.samples // 8)
    optimiser = torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    rng, bf16 = np.random.default_rng(0), given.precision != "fp32"
    marks = [start]
    for _ in range(epochs):
        net.train()
        for _ in range(-(-given.samples // 8)):
            chips = [_chip(*pairs[rng.integers(4)], given.chip, rng) for _ in range(8)]
            x = torch.from_numpy(np.stack([(c[0] - mean) / std for c in chips])).to(memory_format=torch.channels_last)
            y = torch.from_numpy(np.stack([c[1] for c in chips]))
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                raw = net(x)
            loss = F.cross_entropy(raw.float(), y)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
        _validate(net, val, mean, std, bf16)
        marks.append(time.process_time())
    return np.diff(marks).tolist()


def _chip(image: np.ndarray, label: np.ndarray, size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    y, x = rng.integers(0, image.shape[1] - size, 2)
    part, truth = image[:, y : y + size, x : x + size].astype(np.float32), label[y : y + size, x : x + size]
    k, flip = rng.integers(4), rng.integers(2)
    part, truth = np.rot90(part, k, (1, 2)), np.rot90(truth, k)
    return np.ascontiguousarray(part[:, ::-1] if flip else part), np.ascontiguousarray(truth[::-1] if flip else truth)


@torch.inference_mode()
def _validate(
    net: nn.Module, val: tuple[np.ndarray, np.ndarray], mean: np.ndarray, std: np.ndarray, bf16: bool
) -> None:
    net.eval()
    side, counts = val[1].shape[0], np.zeros(9, np.int64)
    places = [(y, x) for y in range(0, side, VAL) for x in range(0, side, VAL)]
    for k in range(0, len(places), 8):
        chips = [val[0][:, y : y + VAL, x : x + VAL] for y, x in places[k : k + 8]]
        batch = torch.from_numpy(np.stack([(c.astype(np.float32) - mean) / std for c in chips]))
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            found = net(batch.to(memory_format=torch.channels_last)).argmax(1).numpy()
        truth = np.stack([val[1][y : y + VAL, x : x + VAL] for y, x in places[k : k + 8]])
        counts += np.bincount((truth * 3 + found).ravel(), minlength=9)


def main() -> None:
    """Print one JSON object: CPU seconds of an epoch of each, their ratio, and of the end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--samples", type=int, default=64, help="chips of an epoch")
    parser.add_argument("--chip", type=int, default=256)
    parser.add_argument("--side", type=int, default=768, help="pixels of a scene")
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto")
    parser.add_argument("--repeat", type=int, default=2)
    parser.add_argument("--profile", action="store_true", help="where the seconds of ours go, by cProfile")
    given = parser.parse_args()
    torch.set_num_threads(1)
    seconds: dict[str, list[float]] = {"plain": [], "ours": [], "end": []}
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        make(work, given.side)
        ours(work, work / "warm", given, 1)  # imports and the first forward are not what is measured
        if given.profile:
            import cProfile

            cProfile.runctx("ours(work, work / 'p', given, given.epochs)", globals(), locals(), sort="tottime")
            return
        for k in range(given.repeat):
            seconds["plain"] += plain(work, given, given.epochs)[1:]
            found = ours(work, work / f"m{k}", given, given.epochs)
            seconds["ours"] += found["epochs"][1:]
            seconds["end"] += found["end"]
    middle = {k: float(np.median(v)) for k, v in seconds.items()}
    print(json.dumps({"ratio": middle["plain"] / middle["ours"], "cpu_s": middle, "load": os.getloadavg()[0]}))


if __name__ == "__main__":
    main()
