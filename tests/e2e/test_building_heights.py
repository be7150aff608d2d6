"""Heights of buildings from real surface and terrain models: from the shipped recipe to a map."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from typer.testing import Result

from geoml import pipeline, testing
from geoml.data.chips import Reader
from geoml.data.prepare import prepare
from geoml.outputs.quantity import NODATA
from geoml.settings import settings
from geoml.tasks._linear import linear

pytestmark = [
    pytest.mark.data,
    pytest.mark.slow,
    pytest.mark.skipif("GEOML_DATA" not in os.environ, reason="GEOML_DATA is not set"),
]


def test_splits_hold_heights_and_share_no_ground() -> None:
    recipe = pipeline.training("building-heights")[1]
    splits = prepare(recipe)  # type: ignore[arg-type]  # raises when ground is shared
    for name, least in (("train", 3000), ("val", 400), ("test", 1000)):
        parts = [p.scene.read().target[p.window.slices(p.scene.window)] for p in splits[name]]
        heights = np.concatenate([p[np.isfinite(p)] for p in parts])
        assert len(heights) > least
        assert 3 < heights.min() < heights.max() < 20
    beside = linear(splits["train"], splits["test"], Reader(), 0.05)
    assert 0.5 < beside["mae"] < 3


def test_a_map_of_heights_is_made(cli: Callable[..., Result], tmp_path: Path) -> None:
    """geoml train, geoml evaluate and a map, two epochs; docs/quantity.md has what forty reach."""
    value = pipeline.training("building-heights")[1].model_dump(mode="json")
    recipe = tmp_path / "heights.yaml"
    recipe.write_text(json.dumps({**value, "epochs": 2, "sampling": {"kind": "labelled", "samples": 32}}))
    trained = cli("train", recipe, "--out", tmp_path / "m")
    assert "val mae" in trained.stderr
    shown = cli("evaluate", recipe, "--model", tmp_path / "m").stdout
    for words in ("test split", "median of train", "linear regression", "MAE"):
        assert words in shown
    folder = Path(str(settings().data)) / "elevation" / "buildings_height"
    files = [rasterio.open(folder / f"{band}.tif") for band in ("dsm", "dtm")]
    place = files[0].transform
    scene = testing.Scene(
        id="town",
        data=np.stack([f.read(1) for f in files]),
        bands=("dsm", "dtm"),
        crs="EPSG:26918",
        origin=(place.c, place.f),
        res=place.a,
        nodata=-9999,
        scale=1,
    )
    for file in files:
        file.close()
    testing.write_catalog(tmp_path / "made", [scene])
    query = {"catalog": str(tmp_path / "made"), "bbox": scene.bbox(), "datetime": "2024"}
    pipeline.predict({"model": str(tmp_path / "m"), "crs": "EPSG:26918", "query": query}, tmp_path / "out")
    (found,) = testing.read_map(tmp_path / "out", "value", fill=int(NODATA["int16"])).values()
    known = found.part(scene.window)[0] != NODATA["int16"]
    assert known.mean() > 0.95
