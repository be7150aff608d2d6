"""The script of a GPU runs without one, up to the point where it needs one, and says what is not there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMMAND = (sys.executable, "-m", "tests.gpu.measure")


def test_without_a_gpu_it_says_so_and_measures_nothing() -> None:
    program = (
        "import torch; torch.cuda.is_available = lambda: False; from tests.gpu.measure import main; exit(main([]))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert done.stdout.startswith("no CUDA device on this machine: nothing was measured")
    assert "Mpx/s" not in done.stdout


@pytest.mark.slow
def test_every_step_runs_on_the_cpu(tmp_path: Path) -> None:
    words = (*COMMAND, "--rehearse", "--work", str(tmp_path), "--out", str(tmp_path / "found.json"))
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    found = json.loads((tmp_path / "found.json").read_text())
    assert {k: v for k, v in found.items() if isinstance(v, str)} == {}, "no step failed"
    assert min(found["bare"].values()) > 0
    assert min(found["end to end"].values()) > 0
    assert found["back ends"]["torch"] > 0
    assert found["latency"]["alone"]["model"]["p99"] > 0
    assert "not figures of a GPU" in done.stdout
    for line in ("| bare model, compiled |", "| end to end to the bare model, both compiled |", "| back end torch |"):
        assert line in done.stdout
