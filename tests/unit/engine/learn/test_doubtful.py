"""Places to correct: the least sure patches first, apart, and none of what the model was never taught."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import geopandas
import numpy as np
import pystac
import pytest
import rasterio
from affine import Affine

from geoml import testing
from geoml.engine.learn import doubtful
from geoml.engine.learn.doubtful import doubtful_places, field_of, own_columns, spaced
from geoml.engine.learn.next_places import _apart
from geoml.errors import InputError, NothingFound
from geoml.io.cards import mlm
from geoml.io.stac.table import write_items
from geoml.io.stores.store import write_json

PLACE = {"crs": "EPSG:32633", "transform": Affine(10, 0, 500_000, 0, -10, 5_000_000)}


def layer(path: Path, values: np.ndarray) -> None:
    profile = {"driver": "GTiff", "count": 1, "height": 128, "width": 128, "dtype": "uint8", "nodata": 255}
    with rasterio.open(path, "w", **profile, **PLACE) as file:
        file.write(values, 1)
        if path.stem != "class":
            file.scales = (0.004,)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of one block: sure but for three patches, of which one is unlike what was taught."""
    return made_run(tmp_path, "crop")


def made_run(tmp_path: Path, field: str) -> Path:
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
    recipe = {"source": {"labels": [{"field": field}]}}
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
    assert [round(v) for v in at.x] == [501_005, 500_205], "the middle of a pixel"
    (run / "cogs" / "block" / "domain.tif").unlink()
    layer(run / "cogs" / "block" / "domain.tif", np.full((128, 128), 3, np.uint8))
    with pytest.raises(NothingFound, match="no place that is like"):
        doubtful_places(run, 2, tmp_path / "none.gpkg")


def test_each_place_lies_on_a_pixel_of_the_class_that_it_says(run: Path, tmp_path: Path) -> None:
    """The middle of one unsure patch has another class than the rest of it, that of the other is outside of the map."""
    block = run / "cogs" / "block"
    with rasterio.open(block / "class.tif") as file:
        classes = file.read(1)
    classes[20, 20], classes[64:72, 99:104], classes[68:72, 96:99] = 2, 255, 255
    layer(block / "class.tif", classes)
    frame = doubtful_places(run, 12, tmp_path / "next.gpkg")
    assert frame["mapped"].tolist()[:2] == ["wood", "wood"]
    at = frame.to_crs("EPSG:32633").geometry
    with rasterio.open(block / "class.tif") as file:
        under = [int(v[0]) for v in file.sample(zip(at.x, at.y, strict=True))]
    assert [{1: "field", 2: "wood"}.get(v) for v in under] == frame["mapped"].tolist()
    assert (round(at.x[0]), round(at.y[0])) == (500_985, 4_999_325), "the nearest pixel of the map"


def test_places_that_were_filled_in_are_never_overwritten(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "next.gpkg"
    frame = doubtful_places(run, 2, out)
    doubtful_places(run, 2, out)
    frame["crop"] = ["", "field"]
    frame.to_file(out)
    with pytest.raises(InputError, match=r"out: .*next.gpkg exists, with 1 place of it filled in; expected a new file"):
        doubtful_places(run, 2, out)
    assert geopandas.read_file(out)["crop"].tolist()[1] == "field"
    frame.drop(columns="crop").to_file(out)
    with pytest.raises(InputError, match=r"next.gpkg exists and has no column 'crop'; expected a new file"):
        doubtful_places(run, 2, out)
    (tmp_path / "text.gpkg").write_text("notes")
    with pytest.raises(InputError, match=r"text.gpkg exists and has no column"):
        doubtful_places(run, 2, tmp_path / "text.gpkg")


def test_places_on_both_sides_of_180_are_near_each_other() -> None:
    """The same places, moved along the equator, are chosen alike."""
    sure, lat = np.array([0.1, 0.2, 0.3, 0.4]), np.array([0.0, 0.04, 0.01, 0.02])
    lon = np.array([-0.02, 0.0, 0.01, 0.02])
    there = (lon + 180 + 180) % 360 - 180
    assert there.max() - there.min() > 359
    assert spaced(sure, there, lat, 4).tolist() == spaced(sure, lon, lat, 4).tolist() == [0, 1, 2, 3]
    here, other = (_apart(np.stack([x, lat], 1), 4, {"ground": 1e9}) for x in (lon, there))
    assert other == pytest.approx(here) == pytest.approx(111_320 * 0.04 / 4, rel=1e-3)


def test_no_more_patches_are_held_than_are_looked_at(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[int] = []

    def choose(sure: np.ndarray, *more: object) -> np.ndarray:
        held.append(len(sure))
        assert sure[:2].round(2).tolist() == [0.24, 0.36], "the least sure of all blocks"
        return np.arange(2)

    (run / "cogs" / "other").mkdir()
    for name in ("class", "confidence"):
        layer(run / "cogs" / "other" / f"{name}.tif", np.full((128, 128), 200, np.uint8))
    both = [run / "cogs" / n / "class.tif" for n in ("other", "block")]
    monkeypatch.setattr(doubtful, "open_map", lambda _: type("Map", (), {"paths": both}))
    monkeypatch.setattr(doubtful, "MOST", 5)
    monkeypatch.setattr(doubtful, "spaced", choose)
    doubtful_places(run, 2, tmp_path / "next.gpkg")
    assert held == [5]


@pytest.mark.parametrize(("field", "ours"), [("mapped", "geoml_mapped"), ("Sure", "geoml_sure"), ("id", "geoml_id")])
def test_a_column_of_the_labels_stays_empty_whatever_its_name(tmp_path: Path, field: str, ours: str) -> None:
    doubtful_places(made_run(tmp_path, field), 2, tmp_path / "next.gpkg")
    frame = geopandas.read_file(tmp_path / "next.gpkg")
    assert frame[field].isna().all(), "for a person to fill in"
    assert frame.columns[1] == field
    assert frame[ours].notna().all()
    assert len(frame.columns) == 5
    assert own_columns("ID", "id", "set_size") == ["geoml_id", "set_size"]


def test_a_seed_is_refused_where_nothing_is_drawn(run: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="seed: 3; expected none"):
        doubtful_places(run, 2, tmp_path / "next.gpkg", 3)
