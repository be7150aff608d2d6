"""Ground filters on real clouds: errors against the delivered classes, and points a CPU second beside two others.

``python -m tests.benchmarks.ground [PYTHON]`` on the clouds of ``$GEOML_DATA``. PYTHON has cloth-simulation-filter
1.1.7 and whitebox-workflows 2.0.6; all take the same clouds in turn, so that other work on the machine meets all alike.

Noise and class 12 are out. Class 1 counts as no ground, as in the clouds here buildings or vegetation are classified or
nothing else is. Lost ground (I), what is taken for it (II), all errors, and kappa, as Sithole and Vosselman 2004.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import laspy
import numpy as np
from numpy.typing import NDArray

from geoml.cube.clouds.ground import FILTERS
from geoml.settings import settings

FEET = 1200 / 3937
ROUNDS = 3
NOISE = (7, 18)
OVERLAP = 12

Points = NDArray[np.float64]


def clouds(data: Path) -> Iterator[tuple[str, str, Points, NDArray[np.uint8]]]:
    """Group, name, (n, 3) metres and (n,) classes of each cloud."""
    elevation = data / "elevation"
    groups = {
        "town": sorted((elevation / "ahn3_delft").glob("*.laz")),
        "lidarhd": sorted((elevation / "lidarhd_tiles").glob("*.laz")),
        "steep": [elevation / "lidar_small" / "4_6_crop.las"],
        "forest": sorted((data / "detection" / "neon_teak_trees").glob("*.laz")),
    }
    for group, files in groups.items():
        for file in files:
            cloud = laspy.read(file)
            classes = np.asarray(cloud.classification).astype(np.uint8)
            kept = ~np.isin(classes, NOISE)
            points = np.stack([np.asarray(v, float) for v in (cloud.x, cloud.y, cloud.z)], axis=1)
            yield group, file.stem, points[kept] * (FEET if group == "steep" else 1.0), classes[kept]


def scores(found: NDArray[np.bool_], classes: NDArray[np.uint8]) -> tuple[float, float, float, float]:
    """Per cent of ground lost, of others taken, of all that is wrong, and kappa."""
    used = classes != OVERLAP
    found, truth = found[used], classes[used] == 2
    n, lost, taken = len(truth), int((truth & ~found).sum()), int((found & ~truth).sum())
    right = 1 - (lost + taken) / n
    chance = (truth.mean() * found.mean()) + (1 - truth.mean()) * (1 - found.mean())
    others = max(int((~truth).sum()), 1)
    return 100 * lost / truth.sum(), 100 * taken / others, 100 * (1 - right), 100 * (right - chance) / (1 - chance)


def main(python: str | None) -> None:
    data = settings().data
    if data is None:
        raise SystemExit("GEOML_DATA is not set")
    filters = {name: FILTERS.build(name, {}) for name in FILTERS.names()}
    marks: dict[tuple[str, str], list[tuple[float, float, float, float]]] = {}
    rates: dict[str, list[tuple[int, dict[str, float]]]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        peer = _peer(python, folder) if python else None
        for group, name, points, classes in clouds(data):
            _write(folder, name, points)
            for turn in range(ROUNDS + 1):  # the first one is not counted
                took = {}
                for key, told in filters.items():
                    start = time.process_time()
                    found = told.ground(*np.ascontiguousarray(points.T))
                    took[key] = time.process_time() - start
                    if not turn:
                        marks.setdefault((group, key), []).append(scores(found, classes))
                if peer:
                    took |= _ask(peer, name)
                    if not turn:
                        for key in ("csf", "whitebox"):
                            found = np.load(folder / f"{name}.{key}.npy")
                            marks.setdefault((group, key), []).append(scores(found, classes))
                if turn:
                    rates.setdefault(group, []).append((len(points), took))
        if peer:
            assert peer.stdin is not None
            peer.stdin.close()
            peer.wait()
    for (group, key), values in marks.items():
        shown = " / ".join(f"{v:.1f}" for v in np.mean(values, axis=0))
        speed = statistics.median(n / took[key] / 1e6 for n, took in rates[group])
        ratio = statistics.median(took[key] / took["smrf"] for _, took in rates[group])
        print(
            f"{group:8} {key:9} I / II / total / kappa {shown:28} {speed:6.2f} M points a CPU s"
            f", {ratio:5.1f} x smrf's time"
        )


def _write(folder: Path, name: str, points: Points) -> None:
    np.save(folder / f"{name}.npy", points)
    header = laspy.LasHeader(point_format=0, version="1.2")
    header.offsets, header.scales = np.floor(points.min(axis=0)), np.full(3, 0.001)
    cloud = laspy.LasData(header)
    cloud.x, cloud.y, cloud.z = points.T
    cloud.write(folder / f"{name}.las")


def _peer(python: str, folder: Path) -> subprocess.Popen[str]:
    script = str(Path(__file__).with_name("ground_peers.py"))
    return subprocess.Popen([python, script, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _ask(peer: subprocess.Popen[str], name: str) -> dict[str, float]:
    assert peer.stdin is not None
    assert peer.stdout is not None
    peer.stdin.write(f"{name}\n")
    peer.stdin.flush()
    said: dict[str, float] = json.loads(peer.stdout.readline())
    return said


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)
