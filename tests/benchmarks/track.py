"""Ids, places and speeds of real films with true boxes: ``make bench-track``, the table of docs/tracking.md.

GEOML_DATA is the folder of the data sets; ``--out DIR`` keeps the tables.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import geopandas
import numpy as np

from tests.benchmarks import track_data

MODEL = "kit-cars"
"""It learnt from sequence a."""


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args(words)
    data = Path(os.environ.get("GEOML_DATA", "../shared/data")) / "tracking"
    if not data.is_dir():
        print(f"{data} is not there; set GEOML_DATA")
        return 2
    with tempfile.TemporaryDirectory() as scratch:
        out = asked.out or Path(scratch)
        out.mkdir(parents=True, exist_ok=True)
        print(
            "| film | IDF1 % | HOTA % | MOTA % | switches | nearest centre, IDF1 % | doing nothing | CPU ms a frame |"
        )
        print("|---|---|---|---|---|---|---|---|")
        for every in (1, 3, 10, 15):
            _line(f"Songdo, {30 / every:g} frames a second", lambda k=every: track_data.songdo(data, out, k))
            if every == 1:
                joined = track_data.against_geotrax(data, geopandas.read_parquet(out / "songdo.parquet"))
        for sequence, fps in (("a", 2.0), ("b", 2.0), ("b", 3.0)):
            name = f"KIT {sequence}, placed by keypoints, {fps:g} frames a second"
            _line(name, lambda s=sequence, f=fps: track_data.kit(data, out, s, f))
        _line(f"KIT b, found by `{MODEL}`, 2 frames a second", lambda: track_data.kit(data, out, "b", model=MODEL))
    apart = np.hypot(joined["x"] - joined["Local_X"], joined["y"] - joined["Local_Y"])
    off = (joined["speed_kmh"] - joined["Vehicle_Speed"]).abs().dropna()
    moving = [joined[which]["moving"].mean() for which in (joined["Vehicle_Speed"] > 5, joined["Vehicle_Speed"] < 1)]
    print(f"\nSongdo against what geo-trax published, {len(joined)} positions:")
    print(f"places: median {1000 * apart.median():.1f} mm, largest {1000 * apart.max():.1f} mm")
    print(f"speeds: median {off.median():.2f} km/h, 95 % {off.quantile(0.95):.2f} km/h, of {len(off)}")
    print(f"moving: {100 * moving[0]:.2f} % of those above 5 km/h, {100 * moving[1]:.0f} % of those below 1 km/h")
    return 0


def _line(name: str, run: Any) -> None:
    start = time.process_time()
    found = run()
    ms = 1000 * (time.process_time() - start) / found["frames"]
    ours, near, none = found["scores"].values()
    cells = [f"{100 * ours[k]:.2f}" for k in ("idf1", "hota", "mota")]
    print(f"| {name} | {' | '.join(cells)} | {ours['switches']} | {100 * near['idf1']:.2f} | {100 * none['idf1']:.2f} "
          f"| {ms:.0f} |", flush=True)  # fmt: skip


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
