"""Killed at random moments, a run over pictures leaves the same bytes as one that was left alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from geoml.testing import pictures as made
from tests import geolocation_rows

PICTURES, KILLS = 200, 8


@pytest.mark.skipif(sys.platform != "linux", reason="forks a process that has threads of libraries only on Linux")
@pytest.mark.slow
def test_kills_change_no_byte(tmp_path: Path) -> None:
    made.made_locator(tmp_path / "model")
    source = made.folder(tmp_path / "in", PICTURES, size=(40, 48))
    (source / "00100-x.jpg").write_bytes(b"\xff\xd8\xff broken")
    (source / "copy.jpg").write_bytes((source / "00007-1.jpg").read_bytes())
    given = {"model": str(tmp_path / "model"), "source": str(source), "root": str(tmp_path), "kills": KILLS, "seed": 3}
    result = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("geolocate_killing.py")), json.dumps({**given, "part": 32})],
        env={**os.environ, "OMP_NUM_THREADS": "1", "GEOML_THREADS": "2", "GEOML_PRECISION": "fp32", "PYTHONPATH": "."},
        cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-4000:]
    told = json.loads(result.stdout)
    assert told["hits"] >= KILLS
    assert len(set(told["parts"])) > 2, "kills hit different stages"
    whole = (tmp_path / "whole.parquet").read_bytes()
    rows = geolocation_rows.read(tmp_path / "whole.parquet")
    assert len(rows) == PICTURES + 2
    assert [r["image_id"] for r in rows if r["status"] == "unreadable"] == ["00100-x.jpg"]
    for k in range(told["lives"]):
        assert (tmp_path / f"killed-{k}.parquet").read_bytes() == whole
        run = json.loads((tmp_path / f"killed-{k}.parquet.run" / "run.json").read_text())
        assert run["computed"] < PICTURES, "parts of killed tries were used"
        assert not list((tmp_path / f"killed-{k}.parquet.run").rglob("*.part"))
