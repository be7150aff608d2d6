"""`geoml train` over one's own files: what it says before it trains, and of the map that can be made then."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from geoml.cli import app, train
from geoml.data.own_recipe import OwnRecipe


def test_the_line_of_the_map_has_what_was_told_of_the_image() -> None:
    told = {"bands": "red,nir", "scale": 1e-4, "offset": -0.1, "nodata": 0, "unit": "reflectance"}
    own = OwnRecipe.model_validate({"image": "a.tif", "labels": "l.gpkg", "field": "crop", **told})
    words = shlex.split(train._map_line(own, Path("my crops")))
    assert words == [
        *("geoml", "predict", "--model", "my crops", "--image", "SCENE.tif", "--bands", "red,nir"),
        *("--scale", "0.0001", "--offset", "-0.1", "--nodata", "0.0", "--unit", "reflectance", "--out", "MAP"),
    ]


def test_scikit_learn_is_asked_for_before_anything_else(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    words = ["train", "--image", "none.tif", "--labels", "none.gpkg", "--field", "crop", "--out", str(tmp_path / "out")]
    found = CliRunner().invoke(app, words)
    assert found.exit_code != 0
    assert "geoml[train]" in str(found.exception) + found.output
