"""Design rules 8 and 9: a run that stops goes on, a finished one changes nothing, a broken source fails its blocks."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import Result

import geoml
from geoml import testing
from geoml.errors import DataError, InputError

SCENE = testing.Scene(id="scene", data=testing.smooth((2, 400, 500), seed=5), bands=("red", "nir"))
CHANGING = {"run.json", "report.html"}
"""They tell seconds."""


def words(model: str, catalog: Path, out: Path, block_size: int = 100) -> list[str]:
    box = [f"{v:.9f}" for v in SCENE.bbox()]
    return [
        "predict", "--model", model, "--catalog", str(catalog), "--bbox", *box,
        "--datetime", "2024", "--out", str(out), "--block-size", str(block_size),
    ]  # fmt: skip


def test_a_killed_run_goes_on_to_the_same_files(
    cli: Callable[..., Result], kill: Callable[..., None], threshold: str, catalog: Path, tmp_path: Path
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert cli(*words(threshold, catalog, whole)).exit_code == 0
    kill(words(threshold, catalog, killed), killed)
    items = killed / "items"
    finished = {p.name: p.stat().st_mtime_ns for p in items.glob("*.json")}
    planned = len(list((whole / "items").glob("*.json")))
    assert 3 <= len(finished) < planned
    assert not (killed / "run.json").exists()
    assert cli(*words(threshold, catalog, killed)).exit_code == 0
    assert {p.name: p.stat().st_mtime_ns for p in items.glob("*.json") if p.name in finished} == finished
    first, second = (testing.tree(out) for out in (whole, killed))
    second = {k: v for k, v in second.items() if not k.endswith(".part")}  # what a kill may leave, under no final name
    assert first.keys() == second.keys()
    assert {k for k in first if first[k] != second[k]} <= CHANGING
    a, b = (json.loads((out / "run.json").read_text()) for out in (whole, killed))
    assert a["blocks"] == b["blocks"]
    assert a["hash"] == b["hash"]


def test_a_finished_run_changes_nothing(
    cli: Callable[..., Result], threshold: str, catalog: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert cli(*words(threshold, catalog, out, 256)).exit_code == 0
    before = testing.tree(out, times=True)
    assert cli(*words(threshold, catalog, out, 256)).exit_code == 0
    assert testing.tree(out, times=True) == before


def test_another_recipe_is_refused(
    predict: Callable[..., Path], threshold: str, constant: str, catalog: Path, tmp_path: Path
) -> None:
    out = predict(threshold, catalog, SCENE.bbox(inner=0.4), features=False)
    before = testing.tree(out, times=True)
    west, south, east, north = SCENE.bbox(inner=0.4)
    for change in (
        {"model": constant},
        {"bbox": (west, south, east, north - 0.001)},
        {"tta": True},
        {"composite": "mean"},
        {"block_size": 256},
    ):
        given = {"model": threshold, "bbox": (west, south, east, north), "features": False, **change}
        with pytest.raises(InputError, match=r"out: .* a different recipe"):
            predict(given.pop("model"), catalog, given.pop("bbox"), **given)
    assert testing.tree(out, times=True) == before
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "letter.txt").write_text("mine")
    with pytest.raises(InputError, match=r"out: .* other files"):
        predict(threshold, catalog, SCENE.bbox(inner=0.4), "foreign")
    assert testing.tree(foreign).keys() == {"letter.txt"}


@pytest.fixture
def three(tmp_path: Path) -> list[testing.Scene]:
    """Three scenes a block apart from each other."""
    x, y = 640 * 960, 640 * 11000  # corner of a block of 64 pixels
    parts = [
        testing.Scene(
            id=f"s{k}",
            data=testing.smooth((2, 256, 256), seed=k, cell=4),
            bands=("red", "nir"),
            origin=(x + 5120.0 * k, y),
        )
        for k in range(3)
    ]
    testing.write_catalog(tmp_path / "made", parts)
    return parts


def damage(path: Path) -> None:
    """Nonsense in the middle of the compressed pixels; the header stays good."""
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 4000] = np.random.default_rng(0).bytes(4000)
    path.write_bytes(content)


@pytest.mark.parametrize("harm", ["damaged", "cut short", "a web page", "gone"])
def test_a_broken_file_fails_its_blocks_and_no_other(
    harm: str, three: list[testing.Scene], cli: Callable[..., Result], threshold: str, tmp_path: Path
) -> None:
    path, out = tmp_path / "made" / "s1" / "image.tif", tmp_path / "out"
    good = path.read_bytes()
    if harm == "damaged":
        damage(path)
    elif harm == "cut short":
        path.write_bytes(good[: len(good) // 3])
    elif harm == "a web page":
        path.write_text("<!DOCTYPE html><title>Sign in</title>")
    else:
        path.unlink()
    west, south, _, north = three[0].bbox()
    box = (west, south, three[2].bbox()[2], north)
    command = ["predict", "--model", threshold, "--catalog", tmp_path / "made" / "catalog.json", "--bbox", *box]
    command += ["--datetime", "2024", "--out", out, "--block-size", 256]
    result = cli(*command)
    assert result.exit_code == DataError.exit_code, result.output
    assert "s1" in result.stderr
    assert "image" in result.stderr
    run = json.loads((out / "run.json").read_text())
    failed, done = set(run["blocks"]["failed"]), set(run["blocks"]["done"])
    assert failed
    assert done
    assert len(failed | done) == run["blocks"]["planned"]
    assert all("s1" in why for why in run["blocks"]["failed"].values())
    assert {p.stem for p in (out / "items").iterdir()} == done
    assert {p.name for p in (out / "cogs").iterdir()} == done, "nothing of a failed block is left"
    found = testing.read_map(out)[three[0].crs]
    for made in (three[0], three[2]):
        assert made.window.intersect(found.window) == made.window
        classes = found.part(made.window)[0]
        assert (classes == testing.levels(made.data, (0.20005, 0.40005)))[classes != 255].all()
        assert (classes != 255).mean() > 0.6
    before = {k: v for k, v in testing.tree(out, times=True).items() if k.startswith(("items/", "cogs/"))}
    path.write_bytes(good)
    assert cli(*command).exit_code == 0
    after = testing.tree(out, times=True)
    assert {k: after[k] for k in before} == before, "blocks that were done are not done again"
    run = json.loads((out / "run.json").read_text())
    assert set(run["blocks"]["done"]) == failed | done
    assert run["blocks"]["failed"] == {}
    fixed = testing.read_map(out)[three[1].crs].part(three[1].window)[0]
    assert (fixed == testing.levels(three[1].data, (0.20005, 0.40005)))[fixed != 255].all()


def test_too_many_failures_stop_the_run(
    three: list[testing.Scene], predict: Callable[..., Path], threshold: str, tmp_path: Path
) -> None:
    for k in range(3):
        (tmp_path / "made" / f"s{k}" / "image.tif").write_text("<html>")
    west, south, _, north = three[0].bbox()
    with pytest.raises(DataError, match=r"of \d+ blocks failed"):
        predict(threshold, tmp_path / "made" / "catalog.json", (west, south, three[2].bbox()[2], north), max_failed=0.1)
    assert not (tmp_path / "out" / "run.json").exists()


def test_blocks_whose_items_changed_are_done_again(
    three: list[testing.Scene], predict: Callable[..., Path], threshold: str, tmp_path: Path
) -> None:
    """A new item over one scene: its blocks are done again with it, the others stay as they are."""
    west, south, _, north = three[0].bbox()
    box = (west, south, three[2].bbox()[2], north)
    catalog = tmp_path / "made" / "catalog.json"
    out = predict(threshold, catalog, box, block_size=256)
    before = testing.tree(out, times=True)
    new = testing.Scene(
        id="new", data=np.full_like(three[2].data, 5000), bands=("red", "nir"), origin=three[2].origin, cloud_cover=0.0
    )
    testing.write_catalog(tmp_path / "made", [*three, new])
    predict(threshold, catalog, box, block_size=256)
    after = testing.tree(out, times=True)
    changed = {Path(k).parts[1] for k in after if k.startswith("cogs/") and after[k] != before.get(k)}
    assert changed
    touched = {
        p.stem
        for p in (out / "items").iterdir()
        if "new" in str(json.loads(p.read_text())["properties"]["geoml:sources"])
    }
    assert changed == touched
    found = testing.read_map(out)[new.crs].part(new.window)[0]
    assert set(np.unique(found[found != 255])) == {2}


@pytest.mark.skipif(sys.platform == "win32", reason="limits of a process are those of Unix")
def test_a_full_disk_leaves_nothing_half_written(threshold: str, catalog: Path, tmp_path: Path) -> None:
    """A real limit on file sizes stands for the full disk: writing fails in the middle of a COG."""
    out = tmp_path / "out"
    program = (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000)); from geoml.cli import app; app()"
    )
    command = [sys.executable, "-c", program, *words(threshold, catalog, out, 512)]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert result.returncode == DataError.exit_code, result.stderr
    assert "not written" in result.stderr
    assert str(out) in result.stderr.replace("\n", "")
    assert not (out / "run.json").exists()
    assert not list((out / "items").glob("*")) if (out / "items").exists() else True
    assert not [p for p in out.rglob("*") if p.suffix in (".tif", ".part", ".png")]


def test_a_folder_that_cannot_be_made_is_an_input_error(
    predict: Callable[..., Path], threshold: str, catalog: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("mine")
    for name in ("file", "file/below"):
        with pytest.raises(InputError, match="out"):
            predict(threshold, catalog, SCENE.bbox(inner=0.4), name)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_copy_of_a_run_is_a_run(predict: Callable[..., Path], threshold: str, catalog: Path, tmp_path: Path) -> None:
    """Hrefs are relative: a folder that was moved is still whole and still done."""
    out = predict(threshold, catalog, SCENE.bbox(inner=0.3))
    copy = tmp_path / "copy"
    shutil.copytree(out, copy)
    before = testing.tree(copy, times=True)
    recipe = json.loads((copy / "run.json").read_text())["recipe"]
    geoml.predict(recipe, copy)
    assert testing.tree(copy, times=True) == before
