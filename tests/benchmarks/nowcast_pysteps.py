"""What pysteps takes for motion and leads, in a process of its own: no geoml here.

``python nowcast_pysteps.py FRAMES.npy``, (step, y, x) float32 mm/h, NaN where nothing is known. For every line of
input, the number of the last frame of a history of three, a line of JSON is printed: CPU seconds of Lucas-Kanade motion
and of twelve leads, as its documents show, and the mean error of each lead where it says something.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time

import numpy as np

with contextlib.redirect_stdout(sys.stderr):  # it greets
    from pysteps import motion, nowcasts
    from pysteps.utils import transformation

frames = np.load(sys.argv[1])
flow, extrapolate = motion.get_method("LK"), nowcasts.get_method("extrapolation")
for line in sys.stdin:
    last = int(line)
    history = frames[last - 2 : last + 1].astype(np.float64)
    start = time.process_time()
    db, _ = transformation.dB_transform(np.nan_to_num(history), threshold=0.1, zerovalue=-15.0)
    found = extrapolate(history[-1], flow(db), 12)
    seconds = time.process_time() - start
    truth = frames[last + 1 : last + 13]
    print(
        json.dumps(
            {"seconds": seconds, "mae": [float(np.nanmean(np.abs(a - b))) for a, b in zip(found, truth, strict=True)]}
        )
    )
    sys.stdout.flush()
