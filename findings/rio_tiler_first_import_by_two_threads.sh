#!/usr/bin/env bash
# Two modules of rio-tiler that import well one after the other can fail when two threads import them for the first time at
# once, as a tile server does that imports inside its handlers: they form a circle, and Python, to avoid a deadlock of its
# import locks, hands out a half-made module. One import before there are threads avoids it. Seen with rio-tiler 9.4.12:
#   one after the other: 10 of 10 processes are well
#   at once: 0 of 10 processes are well; cannot import name 'AsyncBaseReader' from partially initialized module 'rio_tiler.io'
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
"${PYTHON:-python3}" -m venv env
env/bin/python -m pip install --quiet --disable-pip-version-check rio-tiler==9.4.12
cat >both.py <<'PY'
import importlib
import sys
import threading

import rasterio  # noqa: F401  # what takes long is there already

failed = []


def load(name):
    start.wait()
    try:
        importlib.import_module(name)
    except ImportError as err:
        failed.append(str(err).partition(" (")[0])


names = ["rio_tiler.io", "rio_tiler.colormap"]
if sys.argv[1] == "once":
    start = threading.Barrier(2)
    threads = [threading.Thread(target=load, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
else:
    start = threading.Barrier(1)
    for name in names:
        load(name)
print(failed[0] if failed else "well")
PY
for _ in {1..10}; do env/bin/python both.py turn; done >turn.txt
for _ in {1..10}; do env/bin/python both.py once; done >once.txt
echo "one after the other: $(grep -cx well turn.txt) of 10 processes are well"
echo "at once: $(grep -cx well once.txt) of 10 processes are well; $(grep -vx well once.txt | sort -u | head -1)"
[[ $(grep -cx well turn.txt) == 10 && $(grep -cx well once.txt) -lt 10 ]]
