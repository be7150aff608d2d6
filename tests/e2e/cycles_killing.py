"""A script for test_cycles.py: frames arrive one by one, odd ones among them, and every look is killed at random.

One process loads everything, stays without threads, and forks each try, as killing.py does.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from killing import fork, load_of


def cycles(recipe: Mapping[str, Any], out: Path) -> None:
    """One look, as the command does it."""
    from geoml import pipeline
    from geoml.errors import NothingFound
    from geoml.forecasting import steps
    from geoml.forecasting.recipe import CycleRecipe

    asked = CycleRecipe.model_validate(dict(recipe))
    with pipeline.locked(out):
        found = steps.look(asked, out)
        for cycle in found.todo:
            steps.issue(asked, found, cycle, pipeline.predict)
        steps.settle(asked, found)
    with suppress(NothingFound):
        found.verdict()


def arrive(events: list[list[str]], made: Path, rain: Path) -> None:
    """What happens before a look: a frame of ``made`` is copied under a name, or one goes."""
    for what, name in events:
        path = rain / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if what:
            shutil.copyfile(made / what, path.with_suffix(".part"))
            path.with_suffix(".part").replace(path)
        else:
            path.unlink()


def main() -> None:
    given = json.loads(sys.argv[1])
    root, recipe = Path(given["root"]), given["recipe"]
    load_of(lambda: cycles({**recipe, "cube": given["whole"]}, root / "clean"), root / "modules.json")
    chance, kills, out = random.Random(given["seed"]), 0, root / "out"
    for events in given["looks"]:
        arrive(events, Path(given["whole"]), Path(recipe["cube"]))
        while True:
            start, child = time.monotonic(), fork(lambda: cycles(recipe, out))
            if chance.random() < given["share"]:
                time.sleep(chance.uniform(0, given["longest"]))
                os.kill(child, signal.SIGKILL)
            status = os.waitpid(child, 0)[1]
            if not os.WIFSIGNALED(status):
                assert status == 0, f"a look ended with {status} after {time.monotonic() - start:.1f} s"
                break
            kills += 1
    print(json.dumps({"kills": kills}))


if __name__ == "__main__":
    main()
