"""Data and model in different units: one map from either, a refusal before a pixel is read, and what the run says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from geoml import testing
from geoml.engine.packages import cards
from geoml.errors import ModelError
from geoml.io.cards.map_card import Band, MapCard

POWER = np.random.default_rng(8).choice(np.array([0.004, 0.008, 0.03, 0.2], np.float32), (2, 150, 150))
DECIBELS = (10 * np.log10(POWER)).astype(np.float32)


def write(folder: Path, data: np.ndarray, unit: str | None) -> tuple[Path, testing.Scene]:
    scene = testing.Scene(id="scene", data=data, bands=("vv", "vh"), nodata=-9999, scale=1.0)
    catalog = testing.write_catalog(folder, [scene])
    path = folder / "scene" / "item.json"
    item = json.loads(path.read_text())
    for band in item["assets"]["image"]["bands"]:
        band |= {"unit": unit} if unit else {}
    path.write_text(json.dumps(item))
    return catalog, scene


@pytest.fixture(scope="module")
def water(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Class 1 above -17 dB of vv."""
    folder = tmp_path_factory.mktemp("models") / "water"
    testing.threshold_model(folder, [Band(name=b, unit="dB") for b in ("vv", "vh")], [-17.0])
    return str(folder)


def test_linear_power_and_decibels_give_one_map(predict: Callable[..., Path], water: str, tmp_path: Path) -> None:
    assert [b.unit for b in cards.read(water, MapCard).bands] == ["dB", "dB"]
    maps, said = {}, {}
    for unit, data in (("dB", DECIBELS), ("linear power", POWER), ("1", POWER)):
        catalog, scene = write(tmp_path / unit.replace(" ", "-"), data, unit)
        out = predict(water, catalog, scene.bbox(inner=0.05), unit.replace(" ", "-") + "-out")
        maps[unit] = testing.read_map(out)[scene.crs].data
        said[unit] = json.loads((out / "run.json").read_text())["units"]
    inside = maps["dB"] != 255
    assert set(np.unique(maps["dB"][inside])) == {0, 1}
    for other in ("linear power", "1"):
        np.testing.assert_array_equal(maps[other], maps["dB"])
    assert said["dB"] == {"vv": "dB", "vh": "dB"}
    assert said["linear power"] == dict.fromkeys(("vv", "vh"), "linear power, converted to dB")


def test_what_cannot_be_converted_is_refused_before_a_pixel_is_read(
    predict: Callable[..., Path], water: str, tmp_path: Path
) -> None:
    catalog, scene = write(tmp_path / "made", POWER, "K")
    (tmp_path / "made" / "scene" / "image.tif").unlink()
    with pytest.raises(ModelError, match="threshold does not fit made: band vv is in K, which cannot be made dB"):
        predict(water, catalog, scene.bbox(inner=0.05), query={"collection": "made"})


def test_a_unit_that_one_side_does_not_say_is_told(
    predict: Callable[..., Path], water: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    catalog, scene = write(tmp_path / "made", DECIBELS, None)
    out = predict(water, catalog, scene.bbox(inner=0.05))
    words = "not converted: the model expects dB, the unit of the data is not known"
    assert json.loads((out / "run.json").read_text())["units"]["vv"] == words
    assert f"unit of vv: {words}" in caplog.text
