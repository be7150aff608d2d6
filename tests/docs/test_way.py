"""The way of a recipe in docs/architecture.md is the way that a run takes."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.docs.documents import ROOT

MOST = 40
"""Visits to a file."""

PROGRAM = """
import sys, threading
import geoml
from geoml.cli import app

root = geoml.__path__[0].rpartition("geoml")[0]
calls = {}

def note(frame, event, argument):
    code = frame.f_code
    if event == "call" and code.co_filename.startswith(root):
        calls.setdefault(f"{code.co_filename[len(root):]} {code.co_qualname.rpartition('<locals>.')[2]}")

threading.setprofile(note)
sys.setprofile(note)
try:
    app(sys.argv[1:])
except SystemExit as end:
    sys.setprofile(None)
    assert not end.code
print("CALLS", *calls, sep="\\n")
"""
"""Runs a command; the functions of geoml in the order of their first calls."""


def test_a_run_takes_the_way_that_is_written_down(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    way = [" ".join(found) for found in re.findall(r"^\d+\. `([\w/.]+)` `([\w.]+)`: ", text, flags=re.MULTILINE)]
    assert len({place.split()[0] for place in way}) == len(way) <= MOST
    words = (
        "predict --model demo-itaipu --catalog demo --bbox -54.55 -25.36 -54.54 -25.35 --datetime 2020-05-18 --crs data"
    )
    run = [sys.executable, "-c", PROGRAM, *words.split(), "--out", str(tmp_path / "out")]
    done = subprocess.run(run, capture_output=True, text=True, check=True)
    calls = done.stdout.partition("CALLS\n")[2].splitlines()
    found = [place for place in calls if place in way]
    assert found == way, set(way) - set(found)
