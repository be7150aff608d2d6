"""Pictures per CPU second of a geolocation run, against the bare backbone with decoding.

    make bench-geolocate ARGS="--pictures 1000 --size 320 240"

Every run is a process of its own on one core. ``bare`` decodes the same files with the same reader, one after the
other, and puts them through the same backbone in batches of 32; the run adds checksums, head, density, rows, Parquet.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BACKBONE = "efficientnet-lite0-stages"


def make(folder: Path, count: int, size: tuple[int, int], cells: int) -> None:
    """JPEGs, and a locator of random weights: its cost does not depend on them."""
    import dataclasses

    import numpy as np
    import torch

    from geoml.geolocation.cards.locator import FittedCalibration, LocatorCard
    from geoml.geolocation.locate import locator
    from geoml.geolocation.training import head as fit_locator
    from geoml.geolocation.training.recipe import HeadTraining
    from geoml.geolocation.training.world_sets import FeatureSet
    from geoml.testing import pictures as made

    made.folder(folder / "in", count, size=size)
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    backbone = locator.build_backbone(BACKBONE)
    lon, lat = rng.uniform(-180, 180, cells * 8), np.degrees(np.arcsin(rng.uniform(-0.8, 0.9, cells * 8)))
    train = FeatureSet(rng.normal(0, 1, (len(lon), backbone.features)).astype(np.float32), lon, lat)
    head = fit_locator.train_head("cells", {"hidden": 512, "most": 12}, train, HeadTraining(epochs=1), 0)
    m, s = backbone.mean, backbone.std
    card = LocatorCard(
        name="bench", kind="overhead", license="MIT", data_license="CC0-1.0", backbone=BACKBONE, head="cells",
        head_config=dataclasses.asdict(head.config), features=backbone.features, size=backbone.size,
        mean=(m[0], m[1], m[2]), std=(s[0], s[1], s[2]),
        calibration=FittedCalibration(threshold=0.3, conformal=0.9, id="bench"),
    )  # fmt: skip
    locator.save(locator.Locator(backbone.eval(), head, card), folder / "model")


def bare(folder: Path) -> float:
    """CPU seconds of decoding and the backbone alone."""
    import numpy as np

    from geoml.geolocation.locate import locator
    from geoml.geolocation.pictures import decode as photos
    from geoml.geolocation.pictures.prepare import square

    extractor = locator.load(folder / "model").extractor
    files = sorted((folder / "in").iterdir())
    extractor(np.zeros((32, extractor.size, extractor.size, 3), np.uint8))
    start = time.process_time()
    for k in range(0, len(files), 32):
        extractor(np.stack([square(photos.read(p, extractor.size).rgb, extractor.size) for p in files[k : k + 32]]))
    return time.process_time() - start


def whole(folder: Path) -> float:
    """CPU seconds of the run, after the names of places were read."""
    import numpy as np

    from geoml.geolocation.locate import locator
    from geoml.geolocation.locate.gazetteer import gazetteer
    from geoml.geolocation.locate.locate import geolocate

    loaded = locator.load(folder / "model")
    loaded.extractor(np.zeros((32, loaded.extractor.size, loaded.extractor.size, 3), np.uint8))
    gazetteer()
    out = folder / f"out-{os.getpid()}.parquet"
    start = time.process_time()
    geolocate([folder / "in"], loaded, out)
    return time.process_time() - start


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=1000)
    parser.add_argument("--size", type=int, nargs=2, default=(240, 320), metavar=("H", "W"))
    parser.add_argument("--cells", type=int, default=200)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--part", choices=("bare", "whole"), help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path)
    given = parser.parse_args()
    if given.part:
        print({"bare": bare, "whole": whole}[given.part](given.work))
        return
    with tempfile.TemporaryDirectory() as name:
        work = Path(given.work or name)
        make(work, given.pictures, tuple(given.size), given.cells)
        env = {**os.environ, "OMP_NUM_THREADS": "1", "GEOML_THREADS": "1"}
        core = str(max(os.sched_getaffinity(0)))
        seconds: dict[str, list[float]] = {"bare": [], "whole": []}
        for _ in range(given.repeat):
            for part, found in seconds.items():
                words = ["taskset", "-c", core, sys.executable, "-m", "tests.benchmarks.geolocate"]
                run = subprocess.run([*words, "--part", part, "--work", str(work)], env=env, check=True,
                                     capture_output=True, text=True)  # fmt: skip
                found.append(float(run.stdout.split()[-1]))
        best = {part: given.pictures / min(found) for part, found in seconds.items()}
        print(json.dumps({"pictures_per_cpu_second": best, "ratio": best["whole"] / best["bare"], "seconds": seconds}))


if __name__ == "__main__":
    main()
