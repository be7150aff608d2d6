"""A signal ends what runs also when its exception comes where none can leave."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import os, signal, sys, time
from geoml.engine.machine.shutdown import graceful_shutdown

class Finaliser:
    def __del__(self):
        os.kill(os.getpid(), getattr(signal, sys.argv[1]))
        time.sleep(0.2)  # the exception is raised here, and lost

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell in the background has it ignored
with graceful_shutdown():
    try:
        one = Finaliser()
        del one
        time.sleep(5)
        print("went on")
    finally:
        print("unwound", flush=True)
"""


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGINT", -2)])
def test_a_signal_in_a_finaliser_is_not_lost(name: str, code: int) -> None:
    run = subprocess.run([sys.executable, "-c", PROGRAM, name], capture_output=True, text=True, check=False, timeout=30)
    assert run.stdout == "unwound\n"
    assert "Exception ignored" not in run.stderr
    assert run.returncode == code
