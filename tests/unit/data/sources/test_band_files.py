from __future__ import annotations

import geopandas as gpd
import numpy as np
import pytest
from shapely.geometry import box

from geoml.data.sources import band_files
from geoml.errors import InputError, NothingFound
from geoml.recipe import parse
from geoml.tasks.regression import QuantityRecipe


@pytest.fixture
def made(tmp_path):
    """made(**source) is a recipe of heights, of bands a and b."""

    def make(**changes):
        source = {"kind": "band_files", "root": str(tmp_path), "images": "{id}/{band}.tif", "file_bands": ["a", "b"]}
        return parse(
            QuantityRecipe,
            {
                "name": "heights",
                "task": "regression",
                "quantity": "height",
                "model": {"architecture": "unet"},
                "bands": ["b", "a"],
                "gsd": 10,
                "source": {**source, **changes},
                "split": {"kind": "files"},
            },
            "recipe",
        )

    return make


def test_bands_are_stacked_as_the_recipe_has_them_with_a_raster_of_values(tif, made, tmp_path):
    tif(tmp_path / "x/a.tif", np.full((4, 5), 7, np.float32))
    holed = np.full((4, 5), 3, np.float32)
    holed[1, 1] = -9999
    tif(tmp_path / "x/b.tif", holed, nodata=-9999)
    tif(tmp_path / "x/h.tif", np.arange(20, dtype=np.float32).reshape(4, 5))
    tif(tmp_path / "y/a.tif", np.ones((4, 5), np.float32))  # has no b
    recipe = made(labels="{id}/h.tif")
    (scene,) = band_files.scenes(recipe.source, recipe)
    sample = scene.read()
    assert scene.id == "x"
    assert sample.image[:, 0, 0].tolist() == [3, 7]
    assert sample.valid.sum() == 19
    assert np.isnan(sample.target[1, 1])
    assert sample.target[0, 4] == 4


def test_features_with_a_number_are_laid_over_all(tif, made, tmp_path):
    for band in "ab":
        tif(tmp_path / f"x/{band}.tif", np.ones((4, 5), np.float32))
    shape = box(600_000, 7_000_000 - 20, 600_020, 7_000_000)
    gpd.GeoDataFrame({"h": [6.5]}, geometry=[shape], crs="EPSG:32621").to_file(tmp_path / "h.gpkg")
    recipe = made(polygons=[{"file": str(tmp_path / "h.gpkg"), "field": "h"}])
    target = band_files.scenes(recipe.source, recipe)[0].read().target
    assert (target[:2, :2] == 6.5).all()
    assert np.isfinite(target).sum() == 4
    filled = made(polygons=[{"file": str(tmp_path / "h.gpkg"), "field": "h"}], background=0)
    assert np.isfinite(band_files.scenes(filled.source, filled)[0].read().target).all()


def test_what_is_missing_is_named(made):
    with pytest.raises(InputError, match="exactly one"):
        made()
    with pytest.raises(InputError, match=r"expected one \{band\}"):
        made(images="{id}.tif", labels="{id}/h.tif")
    recipe = made(labels="{id}/h.tif")
    with pytest.raises(NothingFound, match=r"b\.tif"):
        band_files.scenes(recipe.source, recipe)
