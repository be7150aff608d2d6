"""Many small runs in one process: what stays behind in memory, threads and open files.

    .venv/bin/python -m tests.benchmarks.soak --runs 200

Of every ten runs six map a small scene, one goes on with the folder of the one before, and three fail, each in another
way: a picture that is damaged, no item, a folder that is somebody else's. Prints JSON.
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import os
import shutil
import statistics
import tempfile
import threading
from pathlib import Path
from typing import Any

FIRST = 0.3
"""Share of the runs that do not count: caches of libraries fill up."""


def look() -> dict[str, int]:
    """What this process holds now: bytes, threads, open files."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return {
        "memory": pages * os.sysconf("SC_PAGE_SIZE"),
        "threads": threading.active_count(),
        "system_threads": len(list(Path("/proc/self/task").iterdir())),
        "files": len(list(Path("/proc/self/fd").iterdir())),
    }


def soak(runs: int, folder: Path) -> dict[str, Any]:
    """The figures of the first runs that count and of the last ones, and how the runs ended."""
    import geoml
    from geoml import testing

    scene = testing.Scene(id="scene", data=testing.smooth((2, 200, 200)), bands=("red", "nir"))
    whole = testing.write_catalog(folder / "whole", [scene])
    broken = testing.write_catalog(folder / "broken", [scene])
    picture = folder / "broken/scene/image.tif"
    picture.write_bytes(picture.read_bytes()[:2000])
    testing.threshold_model(folder / "model", ("red", "nir"), (0.2, 0.4))
    other = folder / "other"
    other.mkdir()
    (other / "mine.txt").write_text("mine")

    def one(n: int) -> str:
        out = folder / f"out{n}"
        kind = n % 10
        catalog = broken if kind == 2 else whole
        query = {"catalog": str(catalog), "bbox": list(scene.bbox(inner=0.1)), "datetime": ["2020/2026"]}
        if kind == 5:
            query["datetime"] = ["1999"]
        recipe = {"model": str(folder / "model"), "query": query, "block_size": 128}
        try:
            geoml.predict(recipe, other if kind == 8 else folder / f"out{n - 1}" if kind == 4 else out)
        except geoml.GeomlError as err:
            return type(err).__name__
        finally:
            shutil.rmtree(folder / f"out{n - 2}", ignore_errors=True)
        return "done"

    ended: dict[str, int] = {}
    seen = []
    for n in range(runs):
        how = one(n)
        ended[how] = ended.get(how, 0) + 1
        gc.collect()
        seen.append(look())
    start = int(runs * FIRST)
    part = max(1, (runs - start) // 5)
    figures = {
        name: [round(statistics.median(s[name] for s in some)) for some in (seen[start : start + part], seen[-part:])]
        for name in seen[0]
    }
    return {"runs": runs, "ended": ended, **figures}


def main() -> None:
    parser = argparse.ArgumentParser(description="many small runs in one process")
    parser.add_argument("--runs", type=int, default=200)
    args = parser.parse_args()
    logging.disable()
    with tempfile.TemporaryDirectory(prefix="geoml-soak-") as folder:
        print(json.dumps(soak(args.runs, Path(folder))))


if __name__ == "__main__":
    main()
