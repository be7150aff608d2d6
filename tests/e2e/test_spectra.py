"""Scenes of an imaging spectrometer from files to a map: bands by wavelength, and no order of bands is relied on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import yaml

from geoml import testing
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
