"""Places to correct: the least sure patches first, apart, and none of what the model was never taught."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import numpy as np
import pystac
import pytest
import rasterio
from affine import Affine

from geoml import testing
from geoml.engine.learn.doubtful import doubtful_places, field_of, spaced
from geoml.errors import NothingFound
from geoml.io.cards import mlm
from geoml.io.stac.table import write_items
from geoml.io.stores.store import write_json

PLACE = {"crs": "EPSG:32633", "transform": Affine(10, 0, 500_000, 0, -10, 5_000_000)}


def layer(path: Path, values: np.ndarray) -> None:
    profile = {"driver": "GTiff", "count": 1, "height": 128, "width": 128, "dtype": "uint8", "nodata": 255}
    with rasterio.open(path, "w", **profile, **PLACE) as file:
        file.write(values, 1)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of one block: sure but for three patches, of which one is unlike what was taught."""
    sure, like = np.full((128, 128), 240, np.uint8), np.full((128, 128), 200, np.uint8)
    sure[16:24, 16:24], sure[64:72, 96:104], sure[96:104, 16:24] = 90, 60, 30
    like[96:104, 16:24] = 10
    classes = np.full((128, 128), 1, np.uint8)
    classes[:, 64:] = 2
    folder = tmp_path / "cogs" / "block"
    folder.mkdir(parents=True)
    for name, values in (("class", classes), ("confidence", sure), ("domain", like)):
        layer(folder / f"{name}.tif", values)
    made = testing.card("made", ("red",), ("none", "field", "wood"))
    recipe = {"source": {"labels": [{"field": "crop"}]}}
    card = made.model_copy(update={"training": {"recipe": recipe}, "sha256": "0" * 64})
    write_json(tmp_path / "model.json", mlm.to_item(card).to_dict(include_self_link=False))
    item = pystac.Item(
        "block", {"type": "Point", "coordinates": [15, 45]}, [15, 45, 15, 45], dt.datetime(2024, 1, 1), {}
    )
    item.add_asset("class", pystac.Asset("./cogs/block/class.tif"))
    write_items([item], tmp_path / "items.parquet")
    return tmp_path


def test_spaced_takes_the_least_sure_and_stays_apart() -> None:
    lon = np.array([10.0, 10.0001, 10.1, 10.2])
    rows = spaced(np.array([0.1, 0.11, 0.3, 0.2]), lon, np.array([45.0, 45.0, 45.1, 45.2]), 3)
    assert rows.tolist() == [0, 3, 2]
    assert field_of(testing.card("made", ("red",), ("a", "b"))) == "class"


def test_the_least_sure_places_that_are_known(run: Path, tmp_path: Path) -> None:
    frame = doubtful_places(run, 2, tmp_path / "next.gpkg")
    assert list(frame.columns) == ["id", "crop", "mapped", "sure", "geometry"]
    assert frame["sure"].tolist() == [0.24, 0.36]
    assert frame["mapped"].tolist() == ["wood", "field"]
    at = frame.to_crs("EPSG:32633").geometry
    assert [round(v) for v in at.x] == [501_000, 500_200]
    (run / "cogs" / "block" / "domain.tif").unlink()
    layer(run / "cogs" / "block" / "domain.tif", np.full((128, 128), 3, np.uint8))
    with pytest.raises(NothingFound, match="no place that is like"):
        doubtful_places(run, 2, tmp_path / "none.gpkg")
