"""The page of a run of many blocks: the same numbers, pictures in small, and no file of a block opened."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import pytest
import rasterio
from numpy.typing import NDArray
from PIL import Image
from shapely.geometry import box

from geoml.errors import DataError
from geoml.grid.plane import Block, Plane
from geoml.grid.region import blocks_of
from geoml.io.cards.map_card import MapCard
from geoml.io.cog.write import CogWriter
from geoml.io.report import page, sources
from geoml.io.report.counts import COUNTS, SKETCH, BlockCounter
from geoml.io.report.sketches import BlockRows
from geoml.io.stac.item_stream import ItemStream
from geoml.io.stac.items import AssetInfo, block_footprint, block_item, write_item
from geoml.outputs.classes import Output
from geoml.testing.scenes import card
from tests.unit.io.report.test_page import Page

CARD: MapCard = card("made", ["red"], ["low", "high"])
PLANES = [Plane("EPSG:32621", 10.0), Plane("EPSG:32622", 10.0)]
SIZE = 48
TIME = dt.datetime(2024, 6, 1, tzinfo=dt.UTC)


def write_block(out: Path, block: Block) -> None:
    """Low in the west of 54° W, where the two zones meet, and high in the east of it; each zone has its own side."""
    x, y = block.geobox.affine * np.meshgrid(np.arange(SIZE) + 0.5, np.arange(SIZE) + 0.5)
    lon, _ = pyproj.Transformer.from_crs(block.plane.crs, "EPSG:4326", always_xy=True).transform(x, y)
    high, mine = lon > -54, (lon > -54) == (block.plane == PLANES[1])
    found = np.where(mine, high.astype(np.uint8), np.uint8(CARD.nodata))
    layers = {
        "class": found,
        "confidence": np.where(mine, np.uint8(200), np.uint8(255)),
        "valid": np.where(mine, np.uint8(1), np.uint8(255)),
    }
    counter = BlockCounter(Output(CARD).report(out), (SIZE, SIZE), block.geobox.affine, block.plane.crs)
    counter.add(0, layers)
    grey = np.where(found == 1, 250, 9)
    picture = np.dstack([grey, grey, grey, np.where(mine, 255, 0)]).astype(np.uint8)
    folder = out / "cogs" / block.id
    for name, values in layers.items():
        with CogWriter(folder / f"{name}.tif", block.geobox, "uint8", nodata=255, tile=16) as cog:
            cog.write(values)
    Image.fromarray(picture).save(folder / "preview.png")
    names = {"class": "class.tif", "confidence": "confidence.tif", "valid": "valid.tif", "thumbnail": "preview.png"}
    properties = {
        COUNTS: counter.counts(),
        SKETCH: counter.sketches({"image": picture}),
        "geoml:asked_pixels": int(mine.sum()),
        "geoml:valid_pixels": int(mine.sum()),
    }
    item = block_item(
        block, collection="run", footprint=block_footprint(block), datetime_range=(TIME, TIME), card=CARD, sources=[],
        assets={k: AssetInfo(folder / n, k) for k, n in names.items()}, recipe_hash="abc", properties=properties,
    )  # fmt: skip
    write_item(item, out / "items" / f"{block.id}.json")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A run over the border of two zones, and what run.json says of it."""
    out = tmp_path_factory.mktemp("run")
    region = box(-54.015, 10.0, -53.985, 10.012)
    blocks = [b for plane in PLANES for b in blocks_of(region, plane, SIZE)]
    for block in blocks:
        write_block(out, block)
    with ItemStream(out / "items.parquet") as table:
        for block in blocks[::-1]:
            table.add(json.loads((out / "items" / f"{block.id}.json").read_text()))
        table.close()
    ids = [b.id for b in blocks]
    zones = [{"crs": p.crs, "res": p.res, "anchor": p.anchor} for p in PLANES]
    return out, {"zones": zones, "blocks": {"planned": len(ids), "done": ids, "failed": {}}}


def drawn(run: tuple[Path, dict[str, Any]]) -> Page:
    return Page(page.map_report(*run, CARD, Output(CARD).report(run[0])))


def kinds(picture: NDArray[np.uint8]) -> dict[tuple[int, ...], float]:
    """Share of the picture by colour."""
    colours, counts = np.unique(picture.reshape(-1, 4), axis=0, return_counts=True)
    return {tuple(c.tolist()): n / counts.sum() for c, n in zip(colours, counts, strict=True)}


def test_many_blocks_are_shown_without_opening_their_files(
    run: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    few = drawn(run)
    monkeypatch.setattr(page, "MANY", 10)

    def refused(*_: Any, **__: Any) -> None:
        raise AssertionError("a file of a block was opened")

    monkeypatch.setattr(rasterio, "open", refused)
    monkeypatch.setattr(page, "read_item", refused)
    many = drawn(run)
    assert many.text == few.text
    assert "The map is complete" in many.text
    assert len(many.pictures()) == len(few.pictures()) == 3
    for ours, theirs in zip(many.pictures(), few.pictures(), strict=True):
        shares = kinds(theirs)
        for colour, share in kinds(ours).items():
            assert share == pytest.approx(shares.get(colour, 0.0), abs=0.02), colour


def test_blocks_without_counts_are_read_from_their_files(
    run: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = drawn(run).text
    table = tmp_path / "items.parquet"
    with ItemStream(table) as stream:
        for path in sorted((run[0] / "items").iterdir())[:3]:
            value = json.loads(path.read_text())
            del value["properties"][COUNTS]
            stream.add(value)
        stream.close()
    with pytest.raises(DataError, match=COUNTS):
        BlockRows(table)
    monkeypatch.setattr(page, "MANY", 10)
    (run[0] / "items.parquet").rename(tmp_path / "aside")
    try:
        assert drawn(run).text == text
    finally:
        (tmp_path / "aside").rename(run[0] / "items.parquet")


def test_lists_of_the_page_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "SHOWN", 3)
    found = sources.list_sources(tmp_path, {f"c/item-{k}": k for k in range(9)}, str)
    assert (len(found.shown), found.count) == (3, 9)
    assert found.shown[2] == {"id": "item-2", "when": "", "blocks": 2}
