"""What SAHI takes to join boxes, in a process of its own: no geoml here. ``python objects_sahi.py BOXES.npy``.

Boxes are (n, 5) float64 left, top, right, bottom, score. Printed: CPU seconds of its default (GREEDYNMM, intersection
over the smaller, 0.5) and of NMS (IoU, 0.5), without what it takes to make its objects, and how many are left.
"""

from __future__ import annotations

import json
import sys
import time

import numpy as np
from sahi.postprocess.combine import GreedyNMMPostprocess, NMSPostprocess
from sahi.prediction import ObjectPrediction

boxes = np.load(sys.argv[1])
side = int(boxes[:, 2:4].max()) + 1
shape = [side, side]
said = {}
for name, how, metric in (("greedy_nmm", GreedyNMMPostprocess, "IOS"), ("nms", NMSPostprocess, "IOU")):
    objects = [  # new ones, for joining changes them
        ObjectPrediction(bbox=b[:4].tolist(), score=float(b[4]), category_id=0, category_name="a", full_shape=shape)
        for b in boxes
    ]
    join = how(match_threshold=0.5, match_metric=metric, class_agnostic=True)
    start = time.process_time()
    kept = join(objects)
    said[name] = {"seconds": time.process_time() - start, "kept": len(kept)}
print(json.dumps(said))
