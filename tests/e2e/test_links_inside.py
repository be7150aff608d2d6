"""A folder of a run that somebody prepared: a link inside of it leads nothing out of it, and nothing is waited for."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from geoml import pipeline, testing
from geoml.engine.run.state import state
from geoml.errors import DataError, GeomlError
from geoml.recipe import PredictRecipe, parse

SCENE = testing.Scene(id="scene", data=testing.smooth((2, 64, 64), seed=5), bands=("red", "nir"))


@pytest.fixture
def recipe(catalog: Path, constant: str) -> PredictRecipe:
    query = {"catalog": str(catalog), "bbox": list(SCENE.bbox(inner=0.2)), "datetime": ["2020/2026"]}
    return parse(PredictRecipe, {"model": constant, "query": query, "block_size": 64}, "recipe")


def block_of(recipe: PredictRecipe, folder: Path) -> str:
    return next(iter(pipeline.plan(recipe, folder).by_id()))


def everything(folder: Path) -> dict[str, tuple[int, bytes | None]]:
    return {
        str(p.relative_to(folder)): (p.lstat().st_mtime_ns, p.read_bytes() if p.is_file() else None)
        for p in folder.rglob("*")
    }


@pytest.mark.parametrize("name", [".geoml", ".geoml/parts", "cogs", "cogs/BLOCK", "items"])
def test_a_link_inside_is_not_written_through(name: str, recipe: PredictRecipe, tmp_path: Path) -> None:
    """Neither is anything taken away behind it, nor made where it leads to nothing."""
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    elsewhere.mkdir()
    path = out / name.replace("BLOCK", block_of(recipe, tmp_path / "trial"))
    for place in (elsewhere, elsewhere / path.name):
        place.mkdir(exist_ok=True)
        for stale in (".class.tif.01234567.part", "mine.txt", ".mine.json.89abcdef.part"):
            (place / stale).write_text("mine")
    path.parent.mkdir(parents=True, exist_ok=True)
    (out / ".geoml").mkdir(exist_ok=True) if name != ".geoml" else None
    for where in (elsewhere, tmp_path / "nowhere"):
        path.symlink_to(where)
        before = everything(elsewhere)
        with pytest.raises(DataError, match=rf"{path}: a symbolic link"):
            pipeline.predict(recipe, out)
        assert everything(elsewhere) == before
        assert not (tmp_path / "nowhere").exists()
        path.unlink()
    assert pipeline.predict(recipe, out)["valid_pixels"], "without the link it goes on"


def test_the_folder_itself_may_be_a_link(recipe: PredictRecipe, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "disk")
    assert pipeline.predict(recipe, tmp_path / "out")["valid_pixels"]
    assert (tmp_path / "disk" / "run.json").is_file()


def test_why_a_block_failed_is_not_written_through_a_link(recipe: PredictRecipe, catalog: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    broken = testing.write_catalog(tmp_path / "broken", [SCENE])
    (broken.parent / "scene/image.tif").write_bytes(b"II*\0")
    query = recipe.query.model_copy(update={"catalog": str(broken)})
    (tmp_path / "out/.geoml").mkdir(parents=True)
    (tmp_path / "out/.geoml/failed").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match=r"\.geoml/failed: a symbolic link"):
        pipeline.predict(recipe.model_copy(update={"query": query}), tmp_path / "out")
    assert not everything(tmp_path / "elsewhere")


TABLES = ["changes.parquet", "sources.parquet", "items.parquet", "features.parquet", "months"]
"""Folders of a series with a part for each day or month."""


@pytest.mark.parametrize("name", ["days", "days/2024-06-01", "days/2024-06-01/items", *TABLES])
def test_a_link_inside_of_a_series(name: str, recipe: PredictRecipe, tmp_path: Path) -> None:
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    elsewhere.mkdir()
    pipeline.scan(recipe, out, until="2024-06-02")
    shutil.rmtree(out / name, ignore_errors=True)
    (out / name).symlink_to(elsewhere)
    with pytest.raises(DataError, match=f"{name}: a symbolic link"):
        pipeline.monitor(recipe, out, until="2024-06-02")
    assert not everything(elsewhere)


def test_a_pipe_in_a_run_is_not_waited_for(recipe: PredictRecipe, tmp_path: Path) -> None:
    """It is the file that is damaged: said, or made again."""
    out, block = tmp_path / "out", block_of(recipe, tmp_path / "trial")
    pipeline.predict(recipe, out)
    ended: dict[str, list[object]] = {}

    def work() -> None:
        for name in (
            "run.json",
            f"items/{block}.json",
            ".geoml/plan.json",
            f"cogs/{block}/class.tif",
            "sources.parquet",
        ):
            (out / name).unlink()
            os.mkfifo(out / name)
            ended[name] = []
            for action in (lambda: state(out), lambda: pipeline.predict(recipe, out)):
                try:
                    ended[name].append(action())
                except GeomlError as err:
                    ended[name].append(err)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(60)
    assert not thread.is_alive(), ended
    assert len(ended) == 5
    for name, (_, last) in ended.items():
        assert isinstance(last, dict) or (isinstance(last, DataError) and f"{out}/{name}" in str(last)), (name, last)
    assert (out / "run.json").is_file()


def test_a_state_that_says_anything(recipe: PredictRecipe, cli: Callable[..., Result], tmp_path: Path) -> None:
    """`geoml runs` of a run.json that nobody checked."""
    out = tmp_path / "out"
    pipeline.predict(recipe, out)
    for said in (
        [],
        7,
        {"blocks": 3},
        {"blocks": {"done": 3}},
        {"seconds": [1], "bytes": "x"},
        {"seconds": {"read": "x"}},
    ):
        (out / "run.json").write_text(json.dumps(said))
        assert cli("runs", out).exit_code == 0
        assert cli("runs", out, "--json").exit_code == 0
