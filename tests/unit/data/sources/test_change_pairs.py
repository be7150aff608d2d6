from __future__ import annotations

import geopandas as gpd
import numpy as np
import pytest
import rasterio
from affine import Affine
from PIL import Image
from shapely.geometry import box

from geoml.data.chips import Reader, measure
from geoml.data.prepare import prepare
from geoml.data.recipe import TrainRecipe
from geoml.data.sources import change_pairs
from geoml.errors import DataError, InputError, NothingFound
from geoml.nn.metrics import IGNORE
from geoml.recipe import parse

CLASSES = [
    {"value": 3, "name": "unchanged", "color": "#000000"},
    {"value": 7, "name": "changed", "color": "#ffffff"},
]
SOURCE = {"kind": "change_pairs", "images": ["{id}/t1.tif", "{id}/t2.tif"], "file_bands": ["red", "nir"]}


@pytest.fixture
def pair(recipe, tmp_path):
    """pair(**source) is a recipe for two dates under tmp_path."""

    def make(bands=("red", "nir"), dates=2, **source):
        value = {**SOURCE, "root": str(tmp_path), **source}
        return recipe(source=value, bands=list(bands), dates=dates, classes=CLASSES, task="change")

    return make


def image(first: int, shape=(4, 5)) -> np.ndarray:
    return np.stack([np.full(shape, first + band, np.uint8) for band in (0, 1)])


def read(made):
    (scene,) = change_pairs.scenes(made.source, made)
    return scene.read()


def test_dates_are_stacked_and_valid_where_both_are(tif, pair, tmp_path):
    one, two = image(10), image(20)
    one[:, 0, 0] = 0
    two[:, 1, 1] = 0
    tif(tmp_path / "a/t1.tif", one, nodata=0)
    tif(tmp_path / "a/t2.tif", two, nodata=0)
    tif(tmp_path / "a/label.tif", np.full((4, 5), 7, np.uint8))
    sample = read(pair(labels="{id}/label.tif", bands=("nir", "red")))
    assert sample.image[:, 2, 2].tolist() == [11, 10, 21, 20]
    assert np.argwhere(~sample.valid).tolist() == [[0, 0], [1, 1]]
    assert (sample.image[:, ~sample.valid] == 0).all()
    assert (sample.target == np.where(sample.valid, 1, IGNORE)).all()


def test_label_values_are_mapped_and_ignored(tif, pair, tmp_path):
    for name in ("t1", "t2"):
        tif(tmp_path / f"a/{name}.tif", image(1, (1, 3)))
    tif(tmp_path / "a/label.tif", np.array([[0, 1, 9]], np.uint8))
    sample = read(pair(labels="{id}/label.tif", values={0: 3, 1: 7}, ignore=[9]))
    assert sample.target.tolist() == [[0, 1, IGNORE]]


def test_masks_label_and_the_rest_is_not_known(tif, pair, tmp_path):
    """As landsat_cd: ENVI images with a georeference, masks without one."""
    (tmp_path / "a").mkdir()
    tif(tmp_path / "a/t1.tif", image(1))
    tif(tmp_path / "a/t2.tif", image(2))
    still, moved = np.zeros((4, 5), np.uint8), np.zeros((4, 5), np.uint8)
    still[0], moved[3, 1:] = 255, 255
    Image.fromarray(still).save(tmp_path / "a/unchanged.bmp")
    Image.fromarray(moved).save(tmp_path / "a/change.bmp")
    masks = {3: "{id}/unchanged.bmp", 7: "{id}/change.bmp"}
    made = pair(masks=masks)
    (scene,) = change_pairs.scenes(made.source, made)
    assert scene.geobox is not None
    target = scene.read().target
    assert (target[0] == 0).all()
    assert target[3].tolist() == [IGNORE, 1, 1, 1, 1]
    assert (target[1:3] == IGNORE).all()
    moved[0, 0] = 255
    Image.fromarray(moved).save(tmp_path / "a/change.bmp")
    with pytest.raises(DataError, match="1 pixels are in the mask of another class"):
        scene.read()


def test_envi_with_an_upper_case_header(pair, tmp_path):
    (tmp_path / "a").mkdir()
    for name in ("T1", "T2"):
        place = {"crs": "EPSG:32651", "transform": Affine(30, 0, 203_325, 0, -30, 3_604_935)}
        profile = {"width": 5, "height": 4, "count": 2, "dtype": "uint8", **place}
        with rasterio.open(tmp_path / "a" / name, "w", driver="ENVI", **profile) as dst:
            dst.write(image(4))
        (tmp_path / "a" / f"{name}.hdr").rename(tmp_path / "a" / f"{name}.HDR")
    Image.fromarray(np.full((4, 5), 1, np.uint8)).save(tmp_path / "a/change.bmp")
    sample = read(pair(images=["{id}/T1", "{id}/T2"], masks={7: "{id}/change.bmp"}))
    assert sample.image[:, 0, 0].tolist() == [4, 5, 4, 5]


@pytest.mark.parametrize(("background", "rest"), [(None, IGNORE), (3, 0)])
def test_polygons_label_what_changed(tif, pair, tmp_path, background, rest):
    for name in ("t1", "t2"):
        tif(tmp_path / f"a/{name}.tif", image(1))
    shape = box(600_010, 7_000_000 - 30, 600_030, 7_000_000 - 10)  # columns 1 and 2 of rows 1 and 2
    gpd.GeoDataFrame({"what": ["changed"]}, geometry=[shape], crs="EPSG:32621").to_crs(4326).to_file(
        tmp_path / "changes.gpkg"
    )
    polygons = [{"file": str(tmp_path / "changes.gpkg"), "field": "what"}]
    target = read(pair(polygons=polygons, background=background)).target
    assert np.argwhere(target == 1).tolist() == [[1, 1], [1, 2], [2, 1], [2, 2]]
    assert (target[target != 1] == rest).all()


def test_what_does_not_lie_on_one_grid_is_refused(tif, pair, tmp_path):
    tif(tmp_path / "a/t1.tif", image(1))
    tif(tmp_path / "a/t2.tif", image(1), origin=(600_005.0, 7_000_000.0))
    tif(tmp_path / "a/label.tif", np.full((4, 5), 7, np.uint8))
    with pytest.raises(DataError, match=r"t1.tif and t2.tif.* do not lie on the same pixels"):
        read(pair(labels="{id}/label.tif"))
    tif(tmp_path / "a/t2.tif", image(1, (4, 6)))
    with pytest.raises(DataError, match="differ in shape"):
        read(pair(labels="{id}/label.tif"))
    (tmp_path / "a/t2.tif").rename(tmp_path / "t2.tif")
    with pytest.raises(NothingFound):
        read(pair(labels="{id}/label.tif"))


def test_a_wrong_recipe_is_named(pair):
    with pytest.raises(InputError, match=r"source\.masks: 5 is not a class"):
        change_pairs.scenes((made := pair(masks={5: "{id}/c.bmp"})).source, made)
    good = pair(labels="{id}/l.tif").model_dump(mode="json")
    for change, says in (
        ({"dates": 1}, "dates: 1, but the source gives 2"),
        ({"source": {**good["source"], "labels": None}}, "exactly one"),
        ({"source": {**good["source"], "masks": {3: "{id}/x.bmp"}}}, "exactly one"),
        ({"augmentation": {"swap": 0.5}, "task": "segmentation"}, "are for tasks that compare dates"),
    ):
        with pytest.raises(InputError, match=says):
            parse(TrainRecipe, {**good, **change}, "recipe")


def test_statistics_are_of_a_band_over_all_dates(tif, pair, tmp_path):
    random = np.random.default_rng(0)
    one, two = random.normal(100, 10, (2, 40, 40)), random.normal(140, 5, (2, 40, 40))
    tif(tmp_path / "a/t1.tif", one.astype(np.float32))
    tif(tmp_path / "a/t2.tif", two.astype(np.float32))
    tif(tmp_path / "a/label.tif", np.full((40, 40), 7, np.uint8))
    made = pair(labels="{id}/label.tif")
    found = measure(prepare(made)["train"], made.target, Reader(), 2)
    both = np.concatenate([one, two], axis=1).astype(np.float32)
    np.testing.assert_allclose(found.mean, both.mean((1, 2)), rtol=1e-5)
    np.testing.assert_allclose(found.std, both.std((1, 2)), rtol=1e-5)
    assert found.pixels == both[0].size
    assert found.counted.tolist() == [0, 1600]


def test_held_out_blocks_keep_their_distance(tif, pair, tmp_path):
    shape = (120, 120)
    for name in ("t1", "t2"):
        tif(tmp_path / f"a/{name}.tif", image(1, shape))
    tif(tmp_path / "a/label.tif", np.full(shape, 7, np.uint8))
    made = pair(labels="{id}/label.tif")
    split = {"kind": "blocks", "size": 300, "val": 0.3, "test": 0.3, "buffer": 40}
    pieces = prepare(type(made).model_validate({**made.model_dump(mode="json"), "split": split}))
    owner = np.full(shape, "none", "<U5")
    for name in ("train", "val", "test"):
        assert pieces[name]
        for piece in pieces[name]:
            owner[piece.window.slices(piece.scene.window)] = name
    train = np.argwhere(owner == "train")
    held = np.argwhere((owner == "val") | (owner == "test"))
    gap = np.abs(train[:, None, :].astype(np.int16) - held[None, ::3].astype(np.int16)).max(-1).min()
    assert gap > 4  # 40 m are four pixels between them
    assert (owner == "none").any()
