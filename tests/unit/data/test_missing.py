"""What is missing in a training image is missing in every kind of source, and its numbers are those of prediction."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import rasterio
from shapely.geometry import box

from geoml.data import prepare, rasters
from geoml.data.recipe import TrainRecipe
from geoml.data.sources import tiles
from geoml.nn.metrics import IGNORE

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")  # masks beside rasters

SIDE = 256
HOLE = np.zeros((SIDE, SIDE), bool)
HOLE[10:40, 20:70] = True
HOW = ["NaN", "infinity", "tag", "recipe", "mask", "mask beside", "alpha"]


def image(tif: Callable[..., Path], path: Path, how: str, **place: Any) -> None:
    """0.3 with a hole, stored as 0.6 and a scale of 0.5; who says where the hole is depends on ``how``."""
    data = np.full((SIDE, SIDE), 0.6, np.float32)
    data[HOLE] = {"NaN": np.nan, "infinity": np.inf, "tag": -3.4e38, "recipe": -9999}.get(how, 77)
    bands = data[None]
    if how == "alpha":
        bands = np.stack([np.rint(data), np.where(HOLE, 0, 255)]).astype(np.uint8)
    tif(
        path,
        bands,
        **({"nodata": -3.4e38} if how == "tag" else {}),
        **({"alpha": "YES"} if how == "alpha" else {}),
        **place,
    )
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=how == "mask"), rasterio.open(path, "r+") as file:
        file.scales = (0.5 if how != "alpha" else 0.3,) * file.count
        if how.startswith("mask"):
            file.write_mask(~HOLE)


def sources(tif: Callable[..., Path], root: Path, how: str) -> dict[str, dict[str, Any]]:
    """A source of every kind over images with that hole."""
    whole = np.zeros((SIDE, SIDE), np.uint8)
    for name in ("a/t1", "a/t2", "img/p_2016_", "img/p_2018_"):
        image(tif, root / f"{name}.tif", how if name[-1] != "2" else "NaN")
    tif(root / "lab" / "a.tif", whole)
    (root / "csv").mkdir()
    for name in ("a", "p_2016_", "p_2018_"):
        (root / "csv" / f"{name}.csv").write_text("x,y\n200,200\n")
    x = 2**17
    corner = tiles.plane_of(18).bounds(tiles.window_of(18, x, x))
    image(
        tif, root / f"T-{x}-{x}-18.tif", how, crs="EPSG:3857", origin=(corner[0], corner[3]), res=tiles.plane_of(18).res
    )
    gpd.GeoDataFrame(geometry=[box(0, 0, 1, 1)], crs=4326).to_file(root / "labels.geojson", driver="GeoJSON")
    known = {"root": str(root), "file_bands": ["grey"], "nodata": -9999}
    change = {"kind": "change_pairs", "images": ["{id}/t1.tif", "{id}/t2.tif"], "masks": {1: "lab/{id}.tif"}}
    dates = {"dates": ["2016", "2018"], "match": 4, "apart": 8, "radius": 20, "gain": 1, "loss": 1}
    return {
        "pairs": {"kind": "pairs", "images": "{id}/t1.tif", "labels": "lab/{id}.tif", **known},
        "points": {"kind": "points", "images": "{id}/t1.tif", "points": "csv/{id}.csv", "radius": 20, **known},
        "change_pairs": {**change, **known},
        "point_change": {"kind": "point_change", "images": "img/{id}.tif", "points": "csv/{id}.csv", **dates, **known},
        "tiles": {
            **{"kind": "tiles", "root": str(root), "images": "T-{x}-{y}-{z}.tif", "zoom": 18, "file_bands": ["grey"]},
            "labels": {"file": str(root / "labels.geojson")},
        },
    }


@pytest.mark.parametrize("how", HOW)
def test_in_a_source_of_every_kind(
    tif: Callable[..., Path], recipe: Callable[..., TrainRecipe], tmp_path: Path, how: str
) -> None:
    for kind, source in sources(tif, tmp_path, how).items():
        if kind == "tiles" and how == "recipe":
            continue  # tiles are pictures: their recipe knows no nodata
        two = {"dates": 2, "task": "change"} if "change" in kind else {}
        (scene,) = prepare.scenes(recipe(source=source, gsd=10, **two))
        sample = scene.read()
        np.testing.assert_array_equal(sample.valid, ~HOLE, err_msg=kind)
        assert (sample.target[HOLE] == IGNORE).all(), kind
        assert sample.image.dtype == np.float32, kind
        assert sample.image[:, ~HOLE] == pytest.approx(0.3), kind
        assert (sample.image[:, HOLE] == 0).all(), kind


def test_a_tile_averaged_from_finer_ones_keeps_fractions(
    tif: Callable[..., Path], recipe: Callable[..., TrainRecipe], tmp_path: Path
) -> None:
    source = sources(tif, tmp_path, "NaN")["tiles"]
    (scene,) = prepare.scenes(recipe(source={**source, "zoom": 17}, gsd=10))
    sample = scene.read()
    np.testing.assert_array_equal(sample.valid[:128, :128], ~HOLE[::2, ::2])
    assert sample.image[:, sample.valid] == pytest.approx(0.3)


def test_nodata_of_the_recipe_counts_beside_that_of_the_file(tif: Callable[..., Path], tmp_path: Path) -> None:
    path = tif(tmp_path / "a.tif", np.array([[7, 9, 1, 2]], np.uint8), nodata=7)
    assert rasters.read(path, [1], 9)[1].tolist() == [[False, False, True, True]]
    for nothing in (float("nan"), -9999.0, 0.5, None):
        assert rasters.read(path, [1], nothing)[1].tolist() == [[False, True, True, True]]
