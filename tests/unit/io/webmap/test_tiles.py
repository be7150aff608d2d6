"""Tiles of a run: from which zoom on there are any, and files that cannot be read."""

from __future__ import annotations

import io
import json
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import pytest
from numpy.typing import NDArray
from PIL import Image

from geoml.errors import DataError, InputError
from geoml.io.stores.remote import run_store
from geoml.io.webmap import tiles as module
from geoml.io.webmap.page import MAP, map_page
from geoml.io.webmap.tiles import DATA, RunTiles, first_zoom
from geoml.outputs.classes import Output
from tests.unit.io.report.test_sketches import CARD, run

__all__ = ["run"]  # a fixture

Run = tuple[Path, dict[str, Any]]
RADIUS = 6378137.0
MIDDLE = (-54.002, 10.006)


@pytest.fixture
def out(run: Run, tmp_path: Path) -> Path:
    """A run with its map, for this test only."""
    folder = shutil.copytree(run[0], tmp_path / "run")
    page = map_page(folder, run[1], CARD, Output(CARD).report(folder))
    (folder / MAP).write_text(page or "")
    return folder


def tiles_of(out: Path) -> RunTiles:
    return RunTiles.of(run_store(out))


def touched(boxes: NDArray[np.float64], zoom: int) -> int:
    """Blocks of the tile that has most, counted tile by tile with projected corners."""
    to = pyproj.Transformer.from_crs("EPSG:4326", "EPSG:3857", always_xy=True)
    x0, y0 = to.transform(boxes[:, 0], boxes[:, 1])
    x1, y1 = to.transform(boxes[:, 2], boxes[:, 3])
    side = 2 * np.pi * RADIUS / 2**zoom
    left, top = (np.arange(np.floor(v.min() / side) - 1, np.ceil(w.max() / side) + 1) for v, w in ((x0, x1), (y0, y1)))
    return max(
        int(((x0 <= (i + 1) * side) & (x1 >= i * side) & (y0 <= (j + 1) * side) & (y1 >= j * side)).sum())
        for i in left
        for j in top
    )


def place(lon: float, lat: float, zoom: int) -> tuple[int, int]:
    x, y = pyproj.Transformer.from_crs("EPSG:4326", "EPSG:3857", always_xy=True).transform(lon, lat)
    side = 2 * np.pi * RADIUS / 2**zoom
    return int(np.floor((x + np.pi * RADIUS) / side)), int(np.floor((np.pi * RADIUS - y) / side))


def test_4096_blocks_have_tiles_from_where_all_of_them_fit() -> None:
    to = pyproj.Transformer.from_crs("EPSG:32633", "EPSG:4326", always_xy=True)
    col, row = (v.ravel() * 20480.0 for v in np.meshgrid(np.arange(64) - 16, np.arange(64) + 100))
    west, south = to.transform(500_000 + col, row)
    east, north = to.transform(500_000 + col + 20480, row + 20480)
    boxes = np.column_stack([west, south, east, north])
    zoom = first_zoom(boxes)
    assert touched(boxes, zoom) <= 64 < touched(boxes, zoom - 1)
    moved = np.column_stack([(v + 180 - 12 + 180) % 360 - 180 if k % 2 == 0 else v for k, v in enumerate(boxes.T)])
    assert (moved[:, 2] < moved[:, 0]).any(), "over the antimeridian"
    assert first_zoom(moved) >= zoom - 1
    assert first_zoom(boxes[:64]) == 0
    assert first_zoom(np.tile(boxes[:1], (65, 1))) > module.DEEPEST, "on top of each other"


def test_no_block_of_a_tile_is_cut(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = tiles_of(out)
    assert (whole.first, len(whole.ids) > 20) == (0, True)
    monkeypatch.setattr(module, "MOST", 8)
    few = tiles_of(out)
    assert touched(few.boxes, few.first) <= 8 < touched(few.boxes, few.first - 1)
    found = DATA.search(few.page().encode())
    assert found is not None
    assert json.loads(found[1])["tiles_from"] == few.first
    at = place(*MIDDLE, few.first)
    assert few.tile("class", few.first, *at) == whole.tile("class", few.first, *at)
    with pytest.raises(InputError, match=rf"zoom: {few.first - 1}; expected {few.first} or more"):
        few.tile("class", few.first - 1, *place(*MIDDLE, few.first - 1))


def test_one_bad_file_leaves_the_others(out: Path, caplog: pytest.LogCaptureFixture) -> None:
    sound = tiles_of(out)
    number = next(k for k, (w, s, e, n) in enumerate(sound.boxes) if w < MIDDLE[0] < e and s < MIDDLE[1] < n
                  and sound.ids[k].startswith("32621"))  # fmt: skip
    zoom, lost = 14, f"cogs/{sound.ids[number]}/class.tif"
    before = shown(sound.tile("class", zoom, *place(*MIDDLE, zoom)))
    assert sound.point(*MIDDLE)[0]["class"] == 0
    (out / lost).write_bytes((out / lost).read_bytes()[:700])
    with caplog.at_level(logging.WARNING, "geoml"):
        tiles = tiles_of(out)
        for _ in range(2):
            after = shown(tiles.tile("class", zoom, *place(*MIDDLE, zoom)))
    assert [lost in line for line in caplog.messages if "left out of the map" in line] == [True], "said once"
    assert tiles.unread == {lost}
    gone = (after != before).any(axis=-1)
    assert 0 < gone.sum() < 0.5 * (before[..., 3] > 0).sum()
    assert (after[gone] == 0).all()
    values, unread = tiles.point(*MIDDLE)
    assert (values, unread) == ({"confidence": 200, "valid": 1}, 1)
    for path in out.glob("cogs/*/class.tif"):
        path.unlink()
    with pytest.raises(DataError, match=r"cogs/.*class\.tif: cannot be read"):
        tiles.tile("class", zoom, *place(*MIDDLE, zoom))


def shown(png: bytes | None) -> NDArray[np.uint8]:
    assert png is not None
    with Image.open(io.BytesIO(png)) as image:
        return np.asarray(image.convert("RGBA"))


@pytest.mark.parametrize(
    "layers",
    [
        '["class"]',
        "[[]]",
        "{}",
        '[{"key": 3}]',
        '[{"band": "1"}]',
        '[{"band": 0}]',
        '[{"band": true}]',
        '[{"classes": [[0, "low", "url(x)"]]}]',
        '[{"classes": [["0", "low", "#ff0000"]]}]',
        '[{"classes": {"a": 1}}]',
        '[{"low": "0"}]',
        '[{"high": 1e999}]',
        '[{"high": NaN}]',
        '[{"asset": "../x"}]',
        '[{"asset": 7}]',
    ],
)
def test_a_page_of_elsewhere_is_checked(out: Path, layers: str) -> None:
    page = (out / MAP).read_text()
    found = DATA.search(page.encode())
    assert found is not None
    data = json.loads(found[1])
    right = data["layers"][0]
    wrong = [{**right, **one} if isinstance(one, dict) else one for one in json.loads(layers)]
    text = json.dumps({**data, "layers": wrong or "none"})
    (out / MAP).write_text(page.replace(found[1].decode(), text))
    with pytest.raises(DataError, match="its map"):
        tiles_of(out)


def test_a_page_that_is_none(out: Path) -> None:
    for text in ("[" * 100_000, "[1]", "null", '"layers"'):
        (out / MAP).write_text(f'<script type="application/json" id="data">{text}</script>')
        with pytest.raises(DataError, match="its map cannot be read"):
            tiles_of(out)
