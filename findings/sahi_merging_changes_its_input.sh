#!/usr/bin/env bash
# SAHI's default way to join slices (GREEDYNMM, and NMM) widens boxes of the predictions that it was *given*; NMS does not.
# Expected by most: a new list comes back and the input stays, so that two ways to join, or two thresholds, can be compared.
# Whoever runs a second one on the same predictions compares it on boxes that the first has merged. Seen with sahi 0.12.8.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
"${PYTHON:-python3}" -m venv env
env/bin/python -m pip install --quiet --disable-pip-version-check sahi==0.12.8
env/bin/python - <<'PY'
from importlib.metadata import version

from sahi.postprocess.combine import GreedyNMMPostprocess, NMMPostprocess, NMSPostprocess
from sahi.prediction import ObjectPrediction

ROOFS = (([10, 10, 60, 60], 0.9), ([20, 10, 70, 60], 0.8), ([120, 120, 160, 160], 0.7))


def made() -> list[ObjectPrediction]:
    return [
        ObjectPrediction(bbox=box, score=score, category_id=0, category_name="roof", full_shape=[200, 200])
        for box, score in ROOFS
    ]


def boxes(predictions: list[ObjectPrediction]) -> list[list[int]]:
    return [[int(v) for v in p.bbox.to_xyxy()] for p in predictions]


print("sahi", version("sahi"))
for how, changes in ((GreedyNMMPostprocess, True), (NMMPostprocess, True), (NMSPostprocess, False)):
    given = made()
    joined = how(match_threshold=0.5, match_metric="IOS", class_agnostic=True)(given)
    print(how.__name__, "given before:", boxes(made())[0], " given after:", boxes(given)[0], " kept:", len(joined))
    assert len(joined) == 2
    assert (boxes(given) != boxes(made())) is changes, how.__name__

given = made()
GreedyNMMPostprocess(match_threshold=0.5, match_metric="IOS", class_agnostic=True)(given)
second = NMSPostprocess(match_threshold=0.5, match_metric="IOU", class_agnostic=True)(given)
fresh = NMSPostprocess(match_threshold=0.5, match_metric="IOU", class_agnostic=True)(made())
print("NMS after it:", boxes(second), " NMS alone:", boxes(fresh))
assert boxes(second) != boxes(fresh)
PY
