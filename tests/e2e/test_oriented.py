"""A detector of oriented boxes, from a recipe to a package that is read back and finds them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import shapely
from affine import Affine

import geoml
from geoml import testing
from geoml.engine.packages import package
from geoml.vector.boxes import outlines


def write(folder: Path, name: str, seed: int) -> None:
    """A scene of bars that lie askew, and their outlines."""
    random = np.random.default_rng(seed)
    image = testing.smooth((2, 128, 128), seed=seed, cell=12, low=1000, high=2000)
    y, x = np.mgrid[0.5:128, 0.5:128]
    features = []
    for row in range(16, 128, 32):
        for col in range(16, 128, 32):
            shape = np.array([[row - 4, col - 12, row + 4, col + 12, random.uniform(-1.5, 1.5)]])
            (bar,) = outlines(shape)
            image[:, shapely.contains_xy(bar, x, y)] = 6000
            features.append({"type": "Feature", "properties": {}, "geometry": shapely.geometry.mapping(bar)})
    place = Affine(10, 0, 600_000 + 5_000 * seed, 0, -10, 7_000_000)
    testing.write_cog(folder / f"{name}.tif", image, crs="EPSG:32621", transform=place, nodata=0)
    (folder / f"{name}.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))


def test_oriented_boxes_from_a_recipe_to_scores(tmp_path: Path) -> None:
    for seed, name in enumerate("abc"):
        write(tmp_path, name, seed)
    source = {"kind": "boxes", "root": str(tmp_path), "images": "{id}.tif", "boxes": "{id}.geojson",
              "coordinates": "pixels", "file_bands": ["red", "nir"]}  # fmt: skip
    recipe = {
        "name": "bars", "task": "detection", "bands": ["red", "nir"], "gsd": 10, "source": source,
        "model": {"architecture": "yolov8", "config": {"size": "p", "strides": [4, 8], "oriented": True}},
        "classes": [{"value": 1, "name": "bar", "color": "#e31a1c"}],
        "split": {"kind": "files", "val": ["b"], "test": ["c"]},
        "sampling": {"samples": 48}, "epochs": 6, "batch": 4, "chip_size": 64, "optimiser": {"lr": 0.004, "clip": 5},
    }  # fmt: skip
    geoml.train(recipe, tmp_path / "bars")
    card = package.load(tmp_path / "bars").card
    assert card.config["oriented"] is True
    assert card.config["classes"] == 1 + 4 + 2
    assert card.scores["f1"] > 0.6, "a map without objects has 0"
