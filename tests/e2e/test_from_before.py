"""What an earlier geoml wrote goes on: `before/` holds a package, a run of eight blocks of which two were done, and the
map that the same geoml made of the whole."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from typer.testing import Result

from geoml import testing

BEFORE = Path(__file__).with_name("before")
HASH = "2c57d0ea76a1564a2088053e1d2befb7cedcc3664e57a1cbaab0fe78fcc366d5"


def picture(name: str) -> NDArray[np.uint8]:
    return np.asarray(Image.open(BEFORE / f"{name}.png"))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the folder, which is the working directory: the run knows its data by relative paths."""
    shutil.copytree(BEFORE, tmp_path / "before")
    monkeypatch.chdir(tmp_path / "before")
    return tmp_path / "before"


def words() -> list[str]:
    query = json.loads(Path("run/.geoml/plan.json").read_text())["recipe"]["query"]
    return [
        "predict", "--model", "package", "--catalog", "data", "--bbox", *map(str, query["bbox"]), "--datetime", "2024",
        "--out", "run", "--block-size", "64", "--join", "blend", "--probabilities",
    ]  # fmt: skip


def test_an_old_run_goes_on(here: Path, cli: Callable[..., Result]) -> None:
    run = here / "run"
    old = {p.relative_to(run): p.read_bytes() for name in ("items", "cogs") for p in (run / name).rglob("*.*")}
    assert len(list((run / "items").iterdir())) == 2
    result = cli(*words())
    assert result.exit_code == 0, result.output
    said = json.loads((run / "run.json").read_text())
    assert said["hash"] == HASH
    assert len(said["blocks"]["done"]) == 8
    assert {name: (run / name).read_bytes() for name in old} == old  # nothing that was done is done again
    classes, confidence = (testing.read_map(run, name)["EPSG:32621"].data[0] for name in ("class", "confidence"))
    assert np.count_nonzero(classes != picture("class")) <= 2  # where both are equally likely, processors differ
    assert np.abs(confidence.astype(int) - picture("confidence")).max() <= 1


def test_an_old_package_makes_its_map(here: Path, cli: Callable[..., Result]) -> None:
    shutil.rmtree(here / "run" / "items")
    shown = cli("models", "show", "package", "--json")
    assert json.loads(shown.stdout)["architecture"] == "segnet"
    result = cli(*words())
    assert result.exit_code == 0, result.output
    assert np.count_nonzero(testing.read_map(here / "run")["EPSG:32621"].data[0] != picture("class")) <= 2
