#!/usr/bin/env bash
# Making a table of one STAC item reads the memory maps of the whole process (/proc/self/smaps_rollup) twice, for a line of
# a log at level INFO that nobody asked for: its text is made before the level is looked at. In a small process that is
# nothing; where torch is loaded each reading takes some 20 to 60 ms. Seen with stac-geoparquet 0.8.3 and psutil 7.2.2.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
"${PYTHON:-python3}" -m venv env
env/bin/python -m pip install --quiet --disable-pip-version-check stac-geoparquet==0.8.3 pystac==1.15.2 psutil==7.2.2
env/bin/python - <<'PY'
import datetime as dt
import logging
from importlib.metadata import version

import psutil
import pystac
from stac_geoparquet.arrow import parse_stac_items_to_arrow

logging.basicConfig(level=logging.WARNING)
calls = 0
real = psutil.Process.memory_full_info


def counted(self):
    global calls
    calls += 1
    return real(self)


psutil.Process.memory_full_info = counted
square = {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]]]}
item = pystac.Item("a", square, [0, 0, 1, 1], dt.datetime(2024, 6, 1, tzinfo=dt.timezone.utc), {})
assert parse_stac_items_to_arrow([item.to_dict()]).read_all().num_rows == 1
print("stac-geoparquet", version("stac-geoparquet"), "psutil", version("psutil"))
print("one item, no log: the memory maps are read", calls, "times")
assert calls == 2, calls
PY
