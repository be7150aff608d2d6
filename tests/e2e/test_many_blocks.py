"""A run of thousands of tiny blocks over many items: one worker, two processes and Dask end with the same bytes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pystac
import pytest
from typer.testing import Result

from geoml import testing
from geoml.io.stac.search import write_items

ITEMS, ROWS, COLUMNS = 1_000, 8, 25
SIDE = 64
BANDS = ("red", "nir")
SCENE = testing.Scene(
    id="scene",
    data=testing.smooth((2, ROWS * SIDE, COLUMNS * SIDE), seed=5),
    bands=BANDS,
    origin=(601_600.0, 7_200_000.0),
)
MACHINE = {"GEOML_PRECISION": "fp32", "GEOML_DEVICE": "cpu", "GEOML_THREADS": "1"}
CHANGING = {"run.json", "report.html"}
"""They tell seconds."""

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:.*is already in use:UserWarning:distributed")]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalog in one file: the scene, and items of other places on the same file that no block reads."""
    folder = tmp_path_factory.mktemp("many")
    testing.write_catalog(folder / "made", [SCENE])
    item = pystac.Item.from_file(str(folder / "made" / "scene" / "item.json"))
    item.make_asset_hrefs_absolute()
    item.clear_links()
    width, height = SCENE.bbox()[2] - SCENE.bbox()[0], SCENE.bbox()[3] - SCENE.bbox()[1]
    items = [item]
    for k in range(1, ITEMS):
        other = item.clone()
        other.id = f"other-{k}"
        # all over the region, each smaller than a block
        west = SCENE.bbox()[0] + width * (k % 97) / 97
        south = SCENE.bbox()[1] + height * (k % 89) / 89
        box = [west, south, west + width / COLUMNS / 4, south + height / ROWS / 4]
        corners = [[box[0], box[1]], [box[2], box[1]], [box[2], box[3]], [box[0], box[3]], [box[0], box[1]]]
        other.bbox, other.geometry = box, {"type": "Polygon", "coordinates": [corners]}
        items.append(other)
    write_items(items, folder / "items.parquet")
    return folder


def test_two_workers_and_dask_end_with_the_bytes_of_one(
    table: Path, tmp_path: Path, cli: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    testing.threshold_model(tmp_path / "model", BANDS, (0.2, 0.4))
    for name, value in MACHINE.items():
        monkeypatch.setenv(name, value)
    west, south, east, north = SCENE.bbox(inner=0.002)
    trees: dict[str, dict[str, str]] = {}
    for name, workers in {"one": "here", "two": "processes:2", "dask": "cluster:2"}.items():
        monkeypatch.setenv("GEOML_WORKERS", workers)
        words: list[Any] = ["predict", "--model", tmp_path / "model", "--catalog", table / "items.parquet"]
        words += ["--bbox", west, south, east, north, "--datetime", "2024", "--block-size", SIDE]
        result = cli(*words, "--out", tmp_path / name)
        assert result.exit_code == 0, result.output
        trees[name] = testing.tree(tmp_path / name)
        run = json.loads((tmp_path / name / "run.json").read_text())
        assert len(run["blocks"]["done"]) >= ROWS * COLUMNS
        assert len(run["sources"]) > ITEMS / 2
    for name in ("two", "dask"):
        assert trees[name].keys() == trees["one"].keys()
        assert {file for file in trees["one"] if trees[name][file] != trees["one"][file]} <= CHANGING
