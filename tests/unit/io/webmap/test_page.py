"""The page of a run: what it says of sketches, of layers with few pixels, and of images over the antimeridian."""

from __future__ import annotations

import datetime as dt
import json
import math
import re
import shutil
import zlib
from base64 import b64decode
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from numpy.typing import NDArray

from geoml.io.report import page as report
from geoml.io.webmap import page as module
from geoml.io.webmap.mosaic import QUARTER, RADIUS
from geoml.io.webmap.page import map_page
from geoml.outputs.classes import Output
from tests.unit.io.report.test_sketches import CARD, SIZE, run

__all__ = ["run"]  # a fixture

Run = tuple[Path, dict[str, Any]]


def made(run: Run) -> dict[str, Any]:
    """What the page of a run holds."""
    page = map_page(*run, CARD, Output(CARD).report(run[0]))
    assert page is not None
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page)
    assert found is not None
    value: dict[str, Any] = json.loads(found[1])
    return value


def pixels(data: dict[str, Any], key: str) -> NDArray[np.uint8]:
    """The (y, x) values of a layer of bytes."""
    text = next(layer["data"] for layer in data["layers"] if layer["key"] == key)
    steps = np.frombuffer(zlib.decompress(b64decode(text)), np.uint8).reshape(data["size"])
    return np.cumsum(steps, axis=1, dtype=np.uint8)


def test_a_sketch_has_the_pixels_that_the_page_says(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = made(run)
    assert whole["sketch"] is None
    assert whole["metres"] * math.cos(math.radians(10)) == pytest.approx(10, rel=0.2)
    monkeypatch.setattr(report, "MANY", 10)
    data = made(run)
    side = 10.0 * SIZE / 8
    assert data["sketch"] == side
    ground = data["metres"] * math.cos(math.radians(10.006))
    assert side / QUARTER < ground < 1.001 * side, "as fine as the sketch, and not finer"
    found = pixels(data, "class")
    west, _, east, north = data["bounds"]
    lon = west + (np.arange(found.shape[1]) + 0.5) * (east - west) / found.shape[1]
    sure = np.abs(lon + 54) * 111_320 > 2 * side
    known = found != CARD.nodata
    assert known.mean() > 0.9
    assert np.array_equal(found[known & sure], np.broadcast_to(lon > -54, found.shape)[known & sure])
    top = RADIUS * math.asinh(math.tan(math.radians(north)))
    assert top % data["metres"] == pytest.approx(0, abs=1e-3) or top % data["metres"] == pytest.approx(data["metres"])


def test_a_layer_of_one_pixel_outlives_thinning(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = shutil.copytree(run[0], tmp_path / "run")
    paths = sorted(out.glob("cogs/*/confidence.tif"))
    for path in paths:
        with rasterio.open(path, "r+", IGNORE_COG_LAYOUT_BREAK="YES") as file:
            values = np.full(file.shape, 255, np.uint8)
            if path == paths[len(paths) // 2]:
                values[21, 21] = 77
            file.write(values, 1)
    monkeypatch.setattr(module, "BUDGET", 700)
    data = made((out, run[1]))
    layer = next(one for one in data["layers"] if one["key"] == "confidence")
    assert (pixels(data, "confidence") == 255).all()
    assert (layer["low"], layer["high"], layer["sparse"]) == (77, 77, True)
    assert not any(one["sparse"] for one in data["layers"] if one["key"] != "confidence")


def test_an_image_over_the_antimeridian_keeps_its_outline(run: Run, tmp_path: Path) -> None:
    out = shutil.copytree(run[0], tmp_path / "run")
    disc = shapely.Point(180, 10).buffer(0.5)
    west, east = (
        (disc & shapely.box(179, 9, 180, 11)),
        shapely.transform(disc & shapely.box(180, 9, 181, 11), lambda at: at - [360, 0]),
    )
    frame = geopandas.GeoDataFrame(
        {"id": ["one"], "datetime": [dt.datetime(2024, 6, 1, tzinfo=dt.UTC)]},
        geometry=[shapely.MultiPolygon([west, east])], crs="EPSG:4326",
    )  # fmt: skip
    frame.to_parquet(out / "sources.parquet")
    (row,) = made((out, run[1]))["sources"]["rows"]
    assert row[:2] == ["2024-06-01 00:00", "one"]
    areas = [shapely.Polygon([(x, y) for y, x in rings[0]]).area for rings in row[2]]
    assert areas == pytest.approx([west.area, east.area], rel=0.02)
