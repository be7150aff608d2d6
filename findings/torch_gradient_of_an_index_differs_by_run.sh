#!/usr/bin/env bash
# On a CPU with two threads the gradient of `x[index]` differs from run to run where an index occurs twice: threads add to one row
# in the order in which they come. A training with a seed ends in other weights then. `x.index_select(0, index)` takes the same
# rows, and its gradient is the same in every run. Expected by most: only GPUs do that. Seen with torch 2.15.0.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
"${PYTHON:-python3}" -m venv env
env/bin/python -m pip install --quiet --disable-pip-version-check torch==2.15.0 numpy==2.3.5
env/bin/python - <<'PY'
import torch

torch.set_num_threads(2)
random = torch.Generator().manual_seed(0)
index = torch.randint(0, 5000, (200_000,), generator=random)
weight = torch.randn(200_000, 32, generator=random)


def gradient(take):
    x = torch.zeros(5000, 32, requires_grad=True)
    (take(x) * weight).sum().backward()
    return x.grad


ways = {"x[index]": lambda x: x[index], "x.index_select(0, index)": lambda x: x.index_select(0, index)}
differ = {}
print("torch", torch.__version__, "threads", torch.get_num_threads())
for name, take in ways.items():
    first = gradient(take)
    differ[name] = sum(not torch.equal(gradient(take), first) for _ in range(30))
    print(f"{name}: {differ[name]} of 30 gradients differ from the first")
assert differ["x[index]"] > 0, differ
assert differ["x.index_select(0, index)"] == 0, differ
PY
