"""A script for test_killed.py: kills a run at random moments, lets it go on, and tells what it hit.

Loading torch takes longer than the run, so one process loads everything, stays without threads, and forks each try.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

PHASES = ("plan", "blocks", "publish", "collect")
LIFE = ("plan", "plan", "plan", "blocks", "publish", "blocks", "publish", "blocks", "publish") + ("collect",) * 3
"""What is killed in one folder before the run may end there."""


def phase(out: Path, planned: int) -> str:
    """How far a run has come, by its files alone."""
    items = {p.stem for p in (out / "items").glob("*.json")}
    if not (out / ".geoml" / "plan.json").exists():
        return "plan"
    if (out / "run.json").exists():
        return "finished"
    if len(items) == planned:
        return "collect"
    return "publish" if {p.parent.name for p in (out / "cogs").glob("*/*.tif")} - items else "blocks"


def fork(work: Callable[[], None]) -> int:
    """A child that does ``work``; its standard error is quiet."""
    threads = [p.read_text().strip() for p in Path("/proc/self/task").glob("*/comm")]
    others = [name for name in threads if not name.startswith("jemalloc")]  # that one sees to forks itself
    assert len(others) == 1, f"{others}; a fork takes only one thread along"
    pid = os.fork()
    if pid:
        return pid
    try:
        work()
        os._exit(0)
    except BaseException as err:
        os.write(2, f"{type(err).__name__}: {err}\n".encode())
        os._exit(1)


def load(recipe: Mapping[str, Any], out: Path) -> None:
    """Run once undisturbed, then load here what that took."""
    from geoml import pipeline

    load_of(lambda: pipeline.predict(recipe, out), out.with_name("modules.json"))


def load_of(work: Callable[[], object], names: Path) -> None:
    """Do ``work`` once in a child, then load here the modules that it took, which ``names`` then lists."""

    def whole() -> None:
        work()
        names.write_text(json.dumps(sorted(sys.modules)))

    os.waitpid(fork(whole), 0)
    for name in json.loads(names.read_text()):
        with suppress(ImportError):  # submodules that others make up
            import_module(name)


class Killer:
    """Tries of one run in one folder after the other."""

    def __init__(self, recipe: Mapping[str, Any], root: Path, seed: int) -> None:
        from geoml import pipeline

        self.random, self.root = random.Random(seed), root
        load(recipe, root / "whole")
        self.planned = len(list((root / "whole" / "items").glob("*.json")))
        self.hits: list[str] = []
        self.run = lambda out: fork(lambda: pipeline.predict(recipe, out) and None)
        self.seconds = self._watch(root / "watched")

    def _watch(self, out: Path) -> dict[str, float]:
        """Seconds of each phase of an undisturbed run; of one block for the two that come again and again."""
        child, found, before = self.run(out), Counter[str](), time.monotonic()
        while not os.waitpid(child, os.WNOHANG)[0]:
            now = time.monotonic()
            found[phase(out, self.planned)] += now - before
            before = now
            time.sleep(0.001)
        block = (found["blocks"] + found["publish"]) / self.planned
        return {"plan": found["plan"], "blocks": block, "publish": block / 2, "collect": found["collect"]}

    def kill(self, out: Path, aim: str) -> bool:
        """Start or go on, and kill at a random moment of a phase. False when the run was quicker."""
        late = len(list((out / "items").glob("*.json"))) + (self.random.randint(0, 1) if aim == "blocks" else 0)
        child = self.run(out)
        while aim != "plan" and not self._reached(out, aim, late):
            if os.waitpid(child, os.WNOHANG)[0]:
                return False
            time.sleep(0.0005)
        time.sleep(self.random.uniform(0, self.seconds[aim]))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            return False
        self.hits.append(phase(out, self.planned))
        return True

    def _reached(self, out: Path, aim: str, late: int) -> bool:
        now = phase(out, self.planned)
        if aim == "collect" or now in ("collect", "finished"):
            return now in ("collect", "finished")
        if aim == "publish":
            return now == "publish"
        return now in ("blocks", "publish") and len(list((out / "items").glob("*.json"))) >= late

    def wanting(self, kills: int) -> list[str]:
        """Phases to aim at: all before there are so many hits, then those with less than a tenth of them."""
        return [p for p in PHASES if len(self.hits) < kills or self.hits.count(p) < kills // 10]

    def life(self, out: Path, kills: int) -> bool:
        """Kill a run in every phase that is wanting, then let it end; True when it ended well."""
        for aim in LIFE:
            if aim in self.wanting(kills):
                self.kill(out, aim)
        return os.waitpid(self.run(out), 0)[1] == 0


def main() -> None:
    given = json.loads(sys.argv[1])
    root, kills = Path(given["root"]), given["kills"]
    killer = Killer(given["recipe"], root, given["seed"])
    lives = []
    while killer.wanting(kills):
        lives.append(killer.life(root / f"killed-{len(lives)}", kills))
    print(json.dumps({"hits": killer.hits, "lives": lives, "seconds": killer.seconds}))


if __name__ == "__main__":
    main()
