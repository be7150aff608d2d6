"""Scenes of an imaging spectrometer from files to a map: bands by wavelength, and no order of bands is relied on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
import yaml

from geoml import testing
from geoml.engine.learn import choose
from geoml.testing import spectra

CORNER = (500_010.0, 5_000_010.0)
SIDE = 40
EMPTY = testing.Scene(
    id="scene",
    data=np.ones((1, SIDE, SIDE), np.uint16),
    bands=("any",),
    crs=spectra.CRS,
    origin=(600_000.0, 5_100_000.0),
    res=30.0,
)
"""Where the scene lies that is mapped."""


def patches(seed: int) -> np.ndarray[Any, Any]:
    """(y, x) classes 0 to 2 in squares of eight pixels."""
    return np.kron(np.random.default_rng(seed).integers(0, 3, (5, 5)), np.ones((8, 8), int))


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """Three pairs of files, whose bands are asked for by a range."""
    for k in range(3):
        corner = (CORNER[0] + 30 * SIDE * (k + 2), CORNER[1])
        spectra.write(tmp_path / f"t{k}.tif", spectra.scene(spectra.SENSOR, patches(k), k), spectra.SENSOR, corner)
        with rasterio.open(tmp_path / f"t{k}.tif") as image:
            place = {"crs": image.crs, "transform": image.transform}
        size = {"height": SIDE, "width": SIDE, "count": 1, "dtype": "uint8"}
        with rasterio.open(tmp_path / f"t{k}_label.tif", "w", driver="GTiff", **size, **place) as file:
            file.write(patches(k)[None].astype(np.uint8))
    names = ("soil", "plants", "water")
    value = {
        "name": "made-spectra",
        "model": {"architecture": "spectral", "config": {"reach": 3}},
        "bands": ["400nm..1000nm"],
        "gsd": 30,
        "classes": [{"value": k, "name": n, "color": "#10203" + str(k)} for k, n in enumerate(names)],
        "source": {
            "kind": "pairs",
            "root": str(tmp_path),
            "images": "t{id}.tif",
            "labels": "t{id}_label.tif",
            "file_bands": "wavelengths",
        },
        "split": {"kind": "files", "val": ["1"], "test": ["2"]},
        "chip_size": 32,
    }
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(value), encoding="utf-8")
    return path


def catalog(folder: Path, sensor: spectra.Sensor, classes: np.ndarray[Any, Any]) -> Path:
    """One item with one asset, of whose bands it says nothing."""
    found = testing.write_catalog(folder, [EMPTY])
    spectra.write(folder / "scene" / "image.tif", spectra.scene(sensor, classes, 9), sensor, EMPTY.origin)
    path = folder / "scene" / "item.json"
    item = json.loads(path.read_text(encoding="utf-8"))
    del item["assets"]["image"]["bands"]
    path.write_text(json.dumps(item), encoding="utf-8")
    return found


def test_from_pairs_to_a_map_of_a_file_in_another_order(cli, recipe: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    trained = cli("train", recipe, "--out", model)
    assert trained.exit_code == 0, trained.output
    card = json.loads((model / "model.json").read_text(encoding="utf-8"))["properties"]
    assert len(card["bands"]) == 38  # of 40 two are bad
    assert card["bands"][0]["eo:center_wavelength"] == 0.4
    assert card["bands"][0]["eo:full_width_half_max"] == 0.015
    assert card["geoml:scores"]["overall_accuracy"] > 0.9
    assert cli("evaluate", "--model", model, recipe).exit_code == 0

    truth = patches(7)
    made = catalog(tmp_path / "other", spectra.SENSOR.shuffled(4), truth)
    asked = ["--bbox", *map(str, EMPTY.bbox()), "--datetime", "2024", "--crs", "data", "--block-size", "256"]
    ran = cli(
        "predict", "--model", model, "--catalog", made, *asked, "--out", tmp_path / "out", "--out-of-domain", "allow"
    )
    assert ran.exit_code == 0, ran.output
    found = testing.read_map(tmp_path / "out")[spectra.CRS].part(EMPTY.window)
    assert (found != 255).mean() >= 0.99
    assert (found == truth).mean() > 0.9


@pytest.mark.parametrize(
    ("bands", "match"),
    [
        (["2000nm..2400nm"], "0 of 40 lie in 2000nm..2400nm; they lie at 400 to 985 nm"),
        (["400nm..1000nm", "900nm..1000nm"], "are named twice"),
    ],
)
def test_a_range_that_makes_no_sense_is_refused(
    cli, recipe: Path, tmp_path: Path, bands: list[str], match: str
) -> None:
    value = yaml.safe_load(recipe.read_text(encoding="utf-8")) | {"bands": bands}
    recipe.write_text(yaml.safe_dump(value), encoding="utf-8")
    refused = cli("train", recipe, "--out", tmp_path / "model")
    assert refused.exit_code == 2
    assert match in " ".join(refused.output.split())
    assert not (tmp_path / "model").exists()


def test_a_scene_whose_bands_are_bad_elsewhere_is_left_out_with_the_count(cli, recipe: Path, tmp_path: Path) -> None:
    assert cli("train", recipe, "--out", tmp_path / "model").exit_code == 0
    sensor = spectra.Sensor(spectra.SENSOR.wavelengths, 15.0, bad=(5, 6, 7))
    made = catalog(tmp_path / "other", sensor, patches(7))
    asked = ["--bbox", *map(str, EMPTY.bbox()), "--datetime", "2024", "--crs", "data"]
    refused = cli("predict", "--model", tmp_path / "model", "--catalog", made, *asked, "--out", tmp_path / "out")
    assert refused.exit_code == 4
    assert "3 of 38 bands are bad (475nm/15nm, 490nm/15nm, 505nm/15nm)" in " ".join(refused.output.split())


@pytest.fixture
def learn(tmp_path: Path) -> list[str]:
    """The words of a learning from points on a scene of an imaging spectrometer."""
    truth = patches(7)
    made = catalog(tmp_path / "one", spectra.SENSOR.shuffled(4), truth)
    at = np.stack(np.meshgrid(np.arange(4, SIDE, 8), np.arange(4, SIDE, 8)), -1).reshape(-1, 2)
    x, y = EMPTY.origin
    points = shapely.points(x + 30 * (at[:, 0] + 0.5), y - 30 * (at[:, 1] + 0.5))
    names = [("soil", "plants", "water")[k] for k in truth[at[:, 1], at[:, 0]]]
    geopandas.GeoDataFrame({"kind": names}, geometry=points, crs=spectra.CRS).to_file(tmp_path / "points.gpkg")
    place = ("--catalog", made, "--bbox", *EMPTY.bbox(), "--datetime", "2024", "--crs", "data")
    words = ("learn", tmp_path / "points.gpkg", "--field", "kind", *place, "--model", "bands", "--gsd", 30)
    return [str(w) for w in (*words, "--out", tmp_path / "out")]


def test_few_labels_learn_from_all_bands_of_a_range(
    cli, learn: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choose, "TREES", 10)
    monkeypatch.setattr(choose, "DRAWS", 3)
    ran = cli(*learn, "--bands", "400nm..900nm")
    assert ran.exit_code == 0, f"{ran.output}{ran.exception!r}"
    card = json.loads((tmp_path / "out" / "model" / "model.json").read_text(encoding="utf-8"))["properties"]
    centres = [b["eo:center_wavelength"] for b in card["bands"]]
    good = [w / 1000 for k, w in enumerate(spectra.SENSOR.wavelengths) if w <= 900 and k not in spectra.SENSOR.bad]
    assert centres == pytest.approx(good)
    assert card["geoml:scores"]["macro_f1"] > 0.9
    for span, says in (("2000nm..2400nm", "0 of 40 lie in 2000nm..2400nm"), ("900nm..400nm", "two rising wavelengths")):
        refused = cli(*learn, "--bands", span)
        assert refused.exit_code == 2
        assert says in " ".join(refused.output.split())


@pytest.mark.parametrize(
    ("tags", "says"),
    [
        ({"wavelength": "0.418"}, "wavelength: 40 of 40 bands lie at no wavelength in nm, the first at 0.418"),
        ({"wavelength_units": ""}, "wavelength_units: 40 of 40 bands have no unit"),
        ({"wavelength": "nan"}, "wavelength: 40 of 40 bands have one that is not a number"),
        ({"wavelength_units": "furlong"}, "wavelength_units: 40 of 40 bands have the unit 'furlong'"),
        (None, "wavelength: 40 of 40 bands have none"),
    ],
)  # fmt: skip
def test_a_catalog_of_files_says_what_is_wrong_with_wavelengths(
    cli, tmp_path: Path, tags: dict[str, str] | None, says: str
) -> None:
    path, data = tmp_path / "scene.tif", spectra.scene(spectra.SENSOR, patches(7), 9)
    spectra.write(path, data, spectra.SENSOR, EMPTY.origin, **(tags or {}))
    if tags is None:
        with rasterio.open(path) as file:
            profile = file.profile
        path.unlink()
        with rasterio.open(path, "w", **profile) as file:
            file.write(data)
    made = cli("catalogs", "new", path, "--datetime", "2024-06-01", "--out", tmp_path / "made")
    assert made.exit_code == 2
    words = " ".join(made.output.split())
    assert "bands: scene.tif has 40 bands without a name" in words
    assert says in words
