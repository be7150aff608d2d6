#!/usr/bin/env bash
# The macro Jaccard index of torchmetrics leaves out classes that occur neither in the truth nor in the map, though their
# number is given: a class that was never tested costs nothing, and one false pixel of it costs a third of the score.
# scikit-learn, told the same classes, counts it as zero. Seen with torchmetrics 1.8.2 and scikit-learn 1.7.2.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
"${PYTHON:-python3}" -m venv env
env/bin/python -m pip install --quiet --disable-pip-version-check torch==2.13.0 torchmetrics==1.8.2 scikit-learn==1.7.2 numpy==2.3.5
env/bin/python - <<'PY'
import warnings

import sklearn
import torch
import torchmetrics
from sklearn.metrics import jaccard_score
from torchmetrics.functional.classification import multiclass_jaccard_index

warnings.simplefilter("ignore")
truth = torch.tensor([0] * 500 + [1] * 500)
maps = {"perfect on two of three classes": truth.clone(), "one pixel of the third": truth.clone()}
maps["one pixel of the third"][0] = 2
print("torchmetrics", torchmetrics.__version__, "scikit-learn", sklearn.__version__)
found = {}
for name, said in maps.items():
    ours = float(multiclass_jaccard_index(said, truth, num_classes=3))
    theirs = jaccard_score(truth, said, labels=[0, 1, 2], average="macro", zero_division=0)
    found[name] = round(ours, 3), round(float(theirs), 3)
    print(f"{name}: torchmetrics {found[name][0]}, scikit-learn {found[name][1]}")
assert list(found.values()) == [(1.0, 0.667), (0.666, 0.666)], found
PY
