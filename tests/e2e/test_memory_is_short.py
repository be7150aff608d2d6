"""A machine without enough memory: said as what may work later, what was finished stays, and a later run goes on."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import geoml
from geoml import testing
from geoml.engine.run import output
from geoml.engine.run.state import state
from geoml.errors import TransientError
from geoml.io.cog import source
from geoml.io.report import page
from geoml.outputs import _class_features

SCENE = testing.Scene(id="scene", data=testing.smooth((2, 64, 128), seed=5), bands=("red", "nir"))


@pytest.fixture
def recipe(catalog: Path, constant: str) -> dict[str, Any]:
    query = {"catalog": str(catalog), "bbox": list(SCENE.bbox(inner=0.02)), "datetime": ["2020/2026"]}
    return {"model": constant, "query": query, "block_size": 64}


def too_much(*_: object, **__: object) -> Any:
    """An allocation that no machine can do."""
    return np.empty(2**60, np.uint8)


def test_reading(recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The block is named, the others are published; with memory the next run does that block alone."""
    calls: list[int] = []
    real = source._once

    def once(*args: Any) -> Any:
        calls.append(1)
        return too_much() if len(calls) == 1 else real(*args)

    monkeypatch.setattr(source, "_once", once)
    with pytest.raises(TransientError, match=r"1 of \d+ blocks failed, the others are published: .*not enough memory"):
        geoml.predict({**recipe, "query": recipe["query"]}, tmp_path / "out")
    before = state(tmp_path / "out")
    assert (before.status, len(before.failed)) == ("failed", 1)
    assert before.done >= 1
    assert geoml.predict(recipe, tmp_path / "out")["valid_pixels"]
    assert state(tmp_path / "out").status == "finished"


@pytest.mark.parametrize("what", ["polygonise", "write_item", "quicklook"])
def test_writing(what: str, recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(_class_features if what == "polygonise" else output, what, too_much)
        with pytest.raises(TransientError, match=r"not enough memory .*Unable to allocate 1\.00 EiB"):
            geoml.predict(recipe, tmp_path / "out")
    assert state(tmp_path / "out").status != "running"
    assert not list((tmp_path / "out").rglob("*.part"))
    assert geoml.predict(recipe, tmp_path / "out")["valid_pixels"]


@pytest.mark.parametrize("what", ["map_report", "read_edges"])
def test_putting_together(what: str, recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The parts of blocks are not to blame: none is thrown away."""
    with monkeypatch.context() as patch:
        patch.setattr(_class_features if what == "read_edges" else page, what, too_much)
        with pytest.raises(TransientError, match="not enough memory"):
            geoml.predict(recipe, tmp_path / "out")
    before = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "out/.geoml/parts").iterdir()}
    assert before
    assert geoml.predict(recipe, tmp_path / "out")["valid_pixels"]
    assert {p.name: p.stat().st_mtime_ns for p in (tmp_path / "out/.geoml/parts").iterdir()} == before


LIMITED = """
import json, resource, sys
import geoml
recipe, out = json.loads(sys.argv[1]), sys.argv[2]
geoml.predict({**recipe, "block_size": 64}, out + "-small")
now = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (now + 300 * 2**20, resource.RLIM_INFINITY))
try:
    geoml.predict({**recipe, "block_size": 16384}, out)
    print("done")
except geoml.GeomlError as err:
    print(type(err).__name__, err)
"""


@pytest.mark.slow
def test_a_process_with_a_limit(recipe: dict[str, Any], tmp_path: Path) -> None:
    """A block of a gigabyte under 300 MB more than a small run needs: the kernel refuses, geoml says it."""
    words = [sys.executable, "-c", LIMITED, json.dumps(recipe), str(tmp_path / "out")]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert ended.stdout.startswith("TransientError"), ended.stdout
    assert "not enough memory" in ended.stdout
