"""A process that lives long: two hundred runs leave nothing behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

GROWTH = 24 * 2**20
"""Bytes; one scene in memory of every second run would be more."""


@pytest.mark.slow
def test_two_hundred_runs_in_one_process_are_flat() -> None:
    """Memory, threads and files of the last runs are those of the first, whichever way the runs end."""
    given = os.environ | {
        "GEOML_PRECISION": "fp32",
        "GEOML_DEVICE": "cpu",
        "GEOML_THREADS": "2",
        "OMP_NUM_THREADS": "1",
    }
    words = [sys.executable, "-m", "tests.benchmarks.soak", "--runs", "200"]
    ended = subprocess.run(words, cwd=ROOT, env=given, capture_output=True, text=True, timeout=3000, check=False)
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    assert found["ended"] == {"done": 140, "DataError": 20, "NothingFound": 20, "InputError": 20}
    assert found["memory"][1] - found["memory"][0] < GROWTH, found
    for name in ("threads", "system_threads", "files"):
        assert found[name][1] <= found[name][0] + 1, found
