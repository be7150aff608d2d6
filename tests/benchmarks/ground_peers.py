"""What CSF and Whitebox take to tell ground, in a process of its own: no geoml here.

``python ground_peers.py FOLDER``. For every line of input, the name of a cloud, NAME.las and NAME.npy (n, 3) float64
in the folder are filtered by both with their defaults (CSF with a cloth of half a metre) and a line of JSON is printed:
the CPU seconds of each, reading left out. NAME.csf.npy and NAME.whitebox.npy then say which points are ground.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import CSF
import laspy
import numpy as np
import whitebox_workflows

out = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # both talk
folder = Path(sys.argv[1])
tools = whitebox_workflows.WbEnvironment()


def by_csf(name: str) -> tuple[float, np.ndarray]:
    points = np.load(folder / f"{name}.npy")
    start = time.process_time()
    cloth = CSF.CSF()
    cloth.params.bSloopSmooth = False
    cloth.params.cloth_resolution = 0.5
    cloth.params.class_threshold = 0.5
    cloth.setPointCloud(points)
    ground, others = CSF.VecInt(), CSF.VecInt()
    cloth.do_filtering(ground, others, False)
    seconds = time.process_time() - start
    mask = np.zeros(len(points), bool)
    mask[np.array(ground, int)] = True
    return seconds, mask


def by_whitebox(name: str) -> tuple[float, np.ndarray]:
    cloud = tools.read_lidar(str(folder / f"{name}.las"))
    start = time.process_time()
    found = tools.lidar.improved_ground_point_filter(input=cloud, classify=True)
    seconds = time.process_time() - start
    path = folder / f"{name}.whitebox.las"
    found.write_to_path(str(path))
    return seconds, np.asarray(laspy.read(path).classification) == 2


for line in sys.stdin:
    name = line.strip()
    said = {}
    for key, told in (("csf", by_csf), ("whitebox", by_whitebox)):
        said[key], mask = told(name)
        np.save(folder / f"{name}.{key}.npy", mask)
    print(json.dumps(said), file=out, flush=True)
