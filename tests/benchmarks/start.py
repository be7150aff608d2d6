"""What a command costs before it does any work: CPU seconds and peak memory of each, in a process of its own.

    make bench-start
    make bench-start ARGS="--older DIR --times 5"   beside another checkout, in turns

``--older`` is a checkout of geoml (``git worktree add DIR REVISION``), which runs with the packages of this one. The
scene is 512 pixels wide with four bands, the model a U-Net with a resnet18 encoder and random weights. Figures are the
smallest of all turns: user and system seconds of the process tree, and the peak memory of its largest process.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
QUERY = "--catalog {catalog} --region {region} --datetime {date}"
PREDICT = f"-m geoml.cli predict --model {{model}} {QUERY} --crs data --block-size 512"
COMMANDS = {
    "python alone": "-c pass",
    "import geoml.pipeline": "-c import\tgeoml.pipeline",
    "models list": "-m geoml.cli models list",
    "search": "-m geoml.cli search {catalog} --region {region} --datetime {date}",
    "predict --dry-run": f"{PREDICT} --out {{out}} --dry-run",
    "predict": f"{PREDICT} --out {{out}}",
    "predict again": f"{PREDICT} --out {{out}}",
    "runs": "-m geoml.cli runs {out}",
}
"""In this order: what ``predict`` writes is there for the last two. A tab stands for a space within a word."""

MAKE = """
from pathlib import Path
from tests.benchmarks import predict, scene
predict.package(Path({work!r}, "unet-1"), 1)
print(scene.make(Path({work!r}), 512), scene.DATES[0])
"""
"""In a process of its own: one that is small itself, since what it starts counts its peak memory too."""


def measure(words: list[str], checkout: Path, cwd: Path) -> tuple[float, float]:
    """CPU seconds of a process and its children, and megabytes of the largest. Ends where it fails."""
    environment = {"OMP_NUM_THREADS": "1", **os.environ, "PYTHONPATH": str(checkout)}
    with tempfile.TemporaryFile() as said:
        child = subprocess.Popen(
            [sys.executable, *words], cwd=cwd, env=environment, stdin=subprocess.DEVNULL, stdout=said, stderr=said
        )
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)  # which Popen would look for again
        if child.returncode:
            said.seek(0)
            sys.exit(f"{' '.join(words)}\n{said.read().decode()}")
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--older", type=Path, help="another checkout to measure beside this one")
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--work", type=Path, help="keeps the scene for the next time")
    parser.add_argument("--only", nargs="+", choices=list(COMMANDS), default=list(COMMANDS))
    given = parser.parse_args()
    work = (given.work or Path(tempfile.mkdtemp(prefix="geoml-bench-"))).resolve()
    program = MAKE.format(work=str(work))
    catalog, date = subprocess.check_output([sys.executable, "-c", program], cwd=ROOT, text=True).split()
    region = Path(catalog).with_name("region.geojson")
    checkouts = {"this": ROOT} | ({"older": given.older.resolve()} if given.older else {})
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for _ in range(given.times):
        for name in checkouts if "predict" in given.only else ():
            shutil.rmtree(work / f"out-{name}", ignore_errors=True)
        for what, words in ((what, COMMANDS[what]) for what in given.only):
            for name, checkout in checkouts.items():
                places = {"catalog": catalog, "region": region, "model": work / "unet-1", "out": work / f"out-{name}"}
                filled = words.format(date=date, **places)
                split = [word.replace("\t", " ") for word in filled.split(" ")]
                found.setdefault((what, name), []).append(measure(split, checkout, work))
    print(f"load {os.getloadavg()[0]:.1f}; of {given.times} turns the smallest")
    print(f"{'command':24}" + "".join(f"{name + ' CPU s':>14}{name + ' MB':>12}" for name in checkouts))
    for what in given.only:
        best = [tuple(map(min, zip(*found[what, name], strict=True))) for name in checkouts]
        print(f"{what:24}" + "".join(f"{seconds:14.2f}{megabytes:12.0f}" for seconds, megabytes in best))


if __name__ == "__main__":
    main()
