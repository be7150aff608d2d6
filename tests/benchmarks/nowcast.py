"""CPU seconds of motion and twelve leads of a radar frame, beside pysteps in an environment of its own.

``python -m tests.benchmarks.nowcast PYTHON_WITH_PYSTEPS`` on the radar of ``$GEOML_DATA``, means of 2 km. Both take the
same frames in turn, so that other work on the machine meets both alike.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from geoml.cube.motion import fit_motion, moved, paths
from geoml.grid.plane import Window
from geoml.io.cubes.cube import open_cube
from geoml.io.cubes.spec import load_cube_spec
from geoml.settings import settings

LEADS = 12
ROUNDS = 3


def main(python: str) -> None:
    data = settings().data
    if data is None:
        raise SystemExit("GEOML_DATA is not set")
    with open_cube(data / "forecasting" / "knmi_radar", load_cube_spec("knmi-radar"), 2) as cube:
        frames = np.stack([cube.read(k) for k in range(len(cube))])
    starts = list(range(40, len(frames) - LEADS, 3))
    whole = Window(0, 0, *frames.shape[1:])
    ours: list[float] = []
    theirs: list[float] = []
    errors: list[list[list[float]]] = [[], []]
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "frames.npy", frames)
        script = Path(__file__).with_name("nowcast_pysteps.py")
        command = [python, str(script), str(Path(folder) / "frames.npy")]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as peer:
            assert peer.stdin is not None
            assert peer.stdout is not None
            for number, last in enumerate([starts[0], *starts * ROUNDS]):  # the first one is not counted
                begun = time.process_time()
                motion = fit_motion(frames[last - 2 : last + 1], 0.1)
                found = [moved(frames[last], whole, back, whole) for back in paths(motion, whole, LEADS)]
                took = time.process_time() - begun
                peer.stdin.write(f"{last}\n")
                peer.stdin.flush()
                said = json.loads(peer.stdout.readline())
                if number:
                    ours.append(took)
                    theirs.append(said["seconds"])
                    truth = frames[last + 1 : last + 1 + LEADS]
                    errors[0].append([float(np.nanmean(np.abs(a - b))) for a, b in zip(found, truth, strict=True)])
                    errors[1].append(said["mae"])
            peer.stdin.close()
    ratio = [b / a for a, b in zip(ours, theirs, strict=True)]
    print(f"{frames.shape[1]} x {frames.shape[2]} pixels, {len(starts)} starts, {ROUNDS} times, {LEADS} leads")
    mine, peers = statistics.median(ours), statistics.median(theirs)
    print(f"geoml {mine:.3f} CPU s, pysteps {peers:.3f}: {statistics.median(ratio):.1f} times")
    for name, of in zip(("geoml", "pysteps"), errors, strict=True):
        means = np.mean(of, axis=0)
        print(f"{name}: MAE at 3, 6 and 12 steps {means[2]:.3f} {means[5]:.3f} {means[11]:.3f}")


if __name__ == "__main__":
    main(sys.argv[1])
