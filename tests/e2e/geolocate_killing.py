"""A script for test_geolocate_killed.py: kills runs over pictures at random moments and lets them go on.

One process loads everything, stays without threads, and forks each try.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

from killing import fork

from geoml.geolocation.locate import locate as geolocate
from geoml.geolocation.locate import locator
from geoml.geolocation.locate.gazetteer import gazetteer


def parts(out: Path) -> int:
    return len(list((out.with_name(f"{out.name}.run") / "parts").glob("*.parquet")))


def main(model: str, source: str, root: str, kills: int, seed: int, part: int) -> None:
    geolocate.PART = part
    chance, folder = random.Random(seed), Path(root)
    loaded = locator.load(model)
    gazetteer()

    def run(out: Path) -> int:
        return fork(lambda: geolocate.geolocate([source], loaded, out) and None)

    start = time.monotonic()
    _, status = os.waitpid(run(folder / "whole.parquet"), 0)
    assert status == 0
    seconds, hits, lives = time.monotonic() - start, 0, 0
    found: list[int] = []
    while hits < kills:
        out = folder / f"killed-{lives}.parquet"
        for _ in range(4):
            aim = parts(out) + chance.randint(0, 2)
            child = run(out)
            while parts(out) < aim and not os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                time.sleep(0.0005)
            time.sleep(chance.uniform(0, 0.2) * seconds)
            os.kill(child, signal.SIGKILL)
            hits += os.WIFSIGNALED(os.waitpid(child, 0)[1])
            found.append(parts(out))
        _, status = os.waitpid(run(out), 0)
        assert status == 0
        lives += 1
    print(json.dumps({"hits": hits, "lives": lives, "parts": found, "seconds": seconds}))


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
