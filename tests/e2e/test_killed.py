"""Design rule 8, to the letter: killed at fifty random moments, a run leaves the files of one that was left alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from geoml import testing

KILLS = 50
SCENE = testing.Scene(id="scene", data=testing.smooth((2, 230, 270), seed=5, cell=9), bands=("red", "nir"))
CHANGING = {"run.json", "report.html"}
"""They tell seconds."""


@pytest.mark.skipif(sys.platform != "linux", reason="forks a process that has threads of libraries only on Linux")
@pytest.mark.slow
def test_fifty_kills_lose_nothing(threshold: str, tmp_path: Path) -> None:
    catalog = testing.write_catalog(tmp_path / "made", [SCENE])
    query = {"catalog": str(catalog), "bbox": SCENE.bbox(), "datetime": ["2024"]}
    root = tmp_path / "runs"
    root.mkdir()
    given = {"recipe": {"model": threshold, "query": query, "block_size": 64}, "root": str(root)}
    command = [
        sys.executable,
        str(Path(__file__).with_name("killing.py")),
        json.dumps(given | {"kills": KILLS, "seed": 7}),
    ]
    result = subprocess.run(
        command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False, timeout=900
    )
    assert result.returncode == 0, result.stderr[-4000:]
    told = json.loads(result.stdout)
    assert len(told["hits"]) >= KILLS, "each of these was a running process that a signal ended"
    hits = Counter(told["hits"])
    assert all(hits[phase] >= KILLS // 10 for phase in ("plan", "blocks", "publish", "collect")), hits
    assert all(told["lives"])
    whole = testing.tree(root / "whole")
    assert sum(name.startswith("items/") for name in whole) > 12
    assert not [name for name in whole if name.endswith(".part")]
    killed = sorted(root.glob("killed-*"))
    assert len(killed) == len(told["lives"]) > 3
    for out in killed:
        found = testing.tree(out)
        assert found.keys() == whole.keys(), out.name
        assert {name for name in whole if found[name] != whole[name]} <= CHANGING, out.name
        a, b = (json.loads((folder / "run.json").read_text()) for folder in (root / "whole", out))
        assert {k: v for k, v in a.items() if k not in ("seconds", "bytes", "pixels")} == {
            k: v for k, v in b.items() if k not in ("seconds", "bytes", "pixels")
        }
