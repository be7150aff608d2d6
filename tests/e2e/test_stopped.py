"""A command that is stopped says what it kept, and what it says to type goes on to the end."""

from __future__ import annotations

import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from geoml import testing

SCENE = testing.Scene(id="scene", data=testing.smooth((2, 480, 640), seed=5), bands=("red", "nir"))


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_a_stopped_run_says_to_type_goes_on(number: signal.Signals, threshold: str, tmp_path: Path) -> None:
    testing.write_catalog(tmp_path / "made", [SCENE])
    west, south, east, north = map(str, SCENE.bbox())
    words = ["predict", "-m", threshold, "-c", str(tmp_path / "made" / "catalog.json"), "-t", "2024",
             "-b", west, south, east, north, "--block-size", "64", "-o", str(tmp_path / "the run")]  # fmt: skip
    program = [sys.executable, "-m", "geoml.cli"]
    running = subprocess.Popen([*program, *words], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    items = tmp_path / "the run" / "items"
    while not (items.is_dir() and len(list(items.glob("*.json"))) >= 3):
        assert running.poll() is None, running.stderr
        time.sleep(0.02)
    running.send_signal(number)
    _, told = running.communicate(timeout=60)
    assert running.returncode == 128 + number
    done, planned = map(int, re.findall(r"Stopped: (\d+) of (\d+) blocks are done, kept in", told)[0])
    assert 3 <= done < planned
    assert len(list(items.glob("*.json"))) == done, "what is said to be kept is there"
    again = shlex.split(re.findall(r"To resume: (.+)", told)[0])
    assert again == ["geoml", *words]
    if number == signal.SIGTERM:
        return
    ended = subprocess.run([*program, *again[1:]], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert f"{planned} blocks in" in " ".join(ended.stdout.split())
    assert "Nothing to do" not in ended.stderr
    once_more = subprocess.run([*program, *again[1:]], capture_output=True, text=True, check=True)
    assert "Nothing to do" in once_more.stderr
