"""The closing lines of a test run count what was skipped, and GEOML_NO_SKIPS makes a failure of it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

MADE = """
import pytest

@pytest.mark.gpu
def test_gpu():
    pytest.skip("no GPU here")

def test_service():
    pytest.skip("weed: not installed")

def test_works():
    pass
"""


@pytest.mark.parametrize(
    ("allowed", "chosen", "code"), [("", "test", 0), ("gpu", "test", 1), ("gpu", "gpu or works", 0), ("data", "gpu", 1)]
)
def test_a_skip_is_counted_and_fails_where_it_must_not_be(tmp_path: Path, allowed: str, chosen: str, code: int) -> None:
    shutil.copy(Path(__file__).parents[1] / "conftest.py", tmp_path)
    (tmp_path / "test_made.py").write_text(MADE)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n    gpu: x\n    data: x\n")
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", chosen, str(tmp_path)],
        env={**os.environ, "GEOML_NO_SKIPS": allowed},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == code, run.stdout + run.stderr
    assert ("counts as failure" in run.stdout) == bool(code)
    assert "1 x no GPU here" in run.stdout
    assert ("1 x weed: not installed" in run.stdout) == (chosen == "test")
