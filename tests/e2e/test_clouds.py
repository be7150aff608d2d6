"""Masks of clouds for a catalog that has none, and what other commands make of the catalog with them."""

from __future__ import annotations

import datetime as dt
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pystac
import pytest
import rasterio
import shapely
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from scipy import ndimage
from shapely.geometry import mapping

import geoml
from geoml import pipeline, testing
from geoml.cube.region import inside
from geoml.engine.clouds import mask
from geoml.engine.clouds.items import metric_crs
from geoml.engine.packages import cards
from geoml.errors import DataError, InputError, TransientError
from geoml.grid.plane import Window
from geoml.io.cards.map_card import MapCard
from tests.e2e.conftest import THRESHOLDS
from tests.e2e.printed import Cli, prints, rows, said, wide

__all__ = ["said", "wide"]  # fixtures

SCENE = testing.Scene(
    id="scene", data=testing.smooth((2, 200, 300), seed=5), bands=("red", "nir"), origin=(600_040.0, 6_999_990.0)
)
CLOUD, NEAR, UNKNOWN = 1, 2, 255
LIMIT = 0.40005
"""Red above it is cloud to the model ``cloudy``."""
STEPS = 3


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalog of one scene, which has a corner without data."""
    data = SCENE.data.copy()
    data[:, :30, :40] = 0
    scene = testing.Scene(**{**vars(SCENE), "data": data})
    return testing.write_catalog(tmp_path_factory.mktemp("clouds") / "made", [scene])


@pytest.fixture(scope="module")
def cloudy(models: Path) -> str:
    """Cloud where red is above `LIMIT`."""
    testing.threshold_model(models / "cloudy", SCENE.bands, (LIMIT,), names=("clear", "cloud"))
    return str(models / "cloudy")


@pytest.fixture
def query(made: Path) -> dict[str, object]:
    return {"catalog": str(made), "bbox": SCENE.bbox(), "datetime": "2024"}


def expected(data: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """The mask of the whole scene with a buffer of `STEPS` pixels."""
    cloud = data[0] * 1e-4 > LIMIT
    rows, columns = np.mgrid[-STEPS : STEPS + 1, -STEPS : STEPS + 1]
    near = ndimage.binary_dilation(cloud, rows**2 + columns**2 <= STEPS**2)
    known = (data != 0).all(0)
    mask = np.where(cloud, CLOUD, np.where(near, NEAR, 0))
    return np.where(known, mask, UNKNOWN).astype(np.uint8)


def stored(made: Path) -> NDArray[np.uint16]:
    with rasterio.open(made.parent / "scene" / "image.tif") as file:
        found: NDArray[np.uint16] = file.read()
    return found


@prints("clouds")
def test_clouds(
    said: Callable[..., str],
    cli: Cli,
    stac_schemas: ModuleType,
    made: Path,
    cloudy: str,
    threshold: str,
    tmp_path: Path,
) -> None:
    out = tmp_path / "out"
    asked = ("--catalog", made, "--bbox", *SCENE.bbox(), "--datetime", "2024", "--model", cloudy)
    words = ("clouds", *asked, "--buffer", 10 * STEPS, "--block-size", "128", "--out", out)
    told = said(*words)
    truth = expected(stored(made))
    shares = [100 * (truth == value).sum() / (truth != UNKNOWN).sum() for value in (0, CLOUD, NEAR)]
    assert rows(told)["scene"] == [f"{share:.1f}" for share in shares]
    assert f"Use it with --catalog {out / 'catalog.yaml'}" in told

    with rasterio.open(out / "masks" / "scene.tif") as file:
        assert (file.crs, file.transform, file.nodata) == (SCENE.crs, SCENE.transform, UNKNOWN)
        np.testing.assert_array_equal(file.read(1), truth)
    before, after = (
        json.loads(p.read_text()) for p in (made.parent / "scene" / "item.json", out / "stac/items/scene.json")
    )
    stac_schemas.validate(after)
    assert after["assets"].keys() == {*before["assets"], "clouds"}
    assert [c["name"] for c in after["assets"]["clouds"]["classification:classes"]] == [
        "clear", "cloud", "near_cloud", "unknown",
    ]  # fmt: skip

    # what others make of it: no class where the mask is not clear, the same class elsewhere
    said("predict", "--model", threshold, "--catalog", out / "catalog.yaml", "--bbox", *SCENE.bbox(), "--datetime",
         "2024", "--block-size", "256", "--out", tmp_path / "map")  # fmt: skip
    found = testing.read_map(tmp_path / "map")[SCENE.crs].part(SCENE.window)[0]
    levels = testing.levels(stored(made), THRESHOLDS)
    np.testing.assert_array_equal(found, np.where(truth == 0, levels, UNKNOWN))

    # the folder has no catalog that would be taken without its masks
    refused = cli("search", out, "--bbox", *SCENE.bbox(), "--datetime", "2024")
    assert refused.exit_code == InputError.exit_code
    assert str(out / "catalog.yaml") in refused.output.replace("\n", "")

    files = {p: p.read_bytes() for p in out.rglob("*") if p.is_file() and ".geoml" not in p.parts}
    assert said(*words) == told
    assert {p: p.read_bytes() for p in files} == files


def test_a_mask_does_not_depend_on_how_the_work_was_cut(
    query: dict[str, object], unet: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(unet, tmp_path / "model")
    card = tmp_path / "model" / "model.json"
    card.write_text(card.read_text().replace('"middle"', '"clear"'))  # a class in the middle, so that edges abound
    found = []
    for size in (64, 256):
        monkeypatch.setattr(mask, "STRIP", 37 if size == 64 else 512)
        out = tmp_path / f"out{size}"
        recipe = {"query": query, "model": str(tmp_path / "model"), "buffer": 40, "block_size": size}
        work = pipeline.cloud_masks(recipe, out)
        assert min(work.masks["scene"].pixels.values()) > 1000
        found.append((out / "masks" / "scene.tif").read_bytes())
    assert found[0] == found[1]


def test_a_mask_covers_all_of_a_part_of_the_scene(
    query: dict[str, object], made: Path, cloudy: str, threshold: str, tmp_path: Path
) -> None:
    box = SCENE.bbox(inner=0.3)
    pipeline.cloud_masks({"query": {**query, "bbox": box}, "model": cloudy, "buffer": 10 * STEPS}, tmp_path / "out")
    masked = {**query, "catalog": str(tmp_path / "out" / "catalog.yaml"), "bbox": box}
    geoml.predict({"model": threshold, "query": masked}, tmp_path / "map")
    looked = testing.read_map(tmp_path / "map", "valid")[SCENE.crs]
    one, two = looked.window, SCENE.window
    both = Window(max(one.y0, two.y0), max(one.x0, two.x0), min(one.y1, two.y1), min(one.x1, two.x1))
    valid, truth = looked.part(both)[0], expected(stored(made))[both.slices(two)]
    asked = valid != UNKNOWN
    assert asked.sum() > 5000
    np.testing.assert_array_equal(valid[asked], truth[asked] == 0)
    # beyond what was asked for nothing counts as clear, though the run looked a little further
    with rasterio.open(tmp_path / "out" / "masks" / "scene.tif") as file:
        found, place = file.read(1), file.transform
    region = inside(shapely.box(*box), GeoBox(found.shape, place, SCENE.crs))
    assert (found != UNKNOWN)[region].sum() > 5000
    far = ~ndimage.binary_dilation(region, np.ones((3, 3)))
    assert (found[far] == UNKNOWN).all()


def test_items_with_a_mask_are_passed_on(said: Callable[..., str], cloudy: str, threshold: str, tmp_path: Path) -> None:
    quality = np.zeros((200, 300), np.uint8)
    quality[50:80, 100:150] = testing.BAD_QUALITY
    testing.write_catalog(tmp_path / "own", [testing.Scene(**{**vars(SCENE), "quality": quality})])
    words = (
        "clouds",
        "--catalog",
        tmp_path / "own.yaml",
        "--bbox",
        *SCENE.bbox(),
        "--datetime",
        "2024",
        "--model",
        cloudy,
    )
    told = said(*words, "--out", tmp_path / "out")
    assert "1 item, all with the mask quality; --again makes others" in told
    query = {"catalog": str(tmp_path / "out" / "catalog.yaml"), "bbox": SCENE.bbox(), "datetime": "2024"}
    geoml.predict({"model": threshold, "query": query}, tmp_path / "map")
    found = testing.read_map(tmp_path / "map")[SCENE.crs].part(SCENE.window)[0]
    np.testing.assert_array_equal(found == UNKNOWN, quality == testing.BAD_QUALITY)
    again = said(*words, "--again", "--buffer", "0", "--out", tmp_path / "again")
    assert float(rows(again)["scene"][1]) == pytest.approx(100 * (SCENE.data[0] * 1e-4 > LIMIT).mean(), abs=0.06)


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({}, InputError, "has no band 'blue'"),
        ({"model": "threshold"}, InputError, "expected clear and others"),
        ({"out": "s3://bucket/masks"}, InputError, "is a bucket; expected a folder"),
        ({"bbox": (0, 0, 1, 1)}, geoml.NothingFound, "no items"),
    ],
)
def test_what_does_not_fit_is_refused(
    query: dict[str, object], threshold: str, tmp_path: Path, change: dict[str, object], error: type, says: str
) -> None:
    recipe: dict[str, object] = {"query": {**query, **({"bbox": change["bbox"]} if "bbox" in change else {})}}
    if "model" in change:
        recipe["model"] = threshold
    with pytest.raises(error, match=says):
        pipeline.cloud_masks(recipe, str(change.get("out", tmp_path / "out")))


def test_a_broken_item_is_left_out_and_named(cloudy: str, tmp_path: Path) -> None:
    other = testing.Scene(**{**vars(SCENE), "id": "broken", "datetime": "2024-06-03T12:00:00Z"})
    made = testing.write_catalog(tmp_path / "made", [SCENE, other])
    image = tmp_path / "made" / "broken" / "image.tif"
    image.write_bytes(image.read_bytes()[:2000])
    recipe = {"query": {"catalog": str(made), "bbox": SCENE.bbox(), "datetime": "2024"}, "model": cloudy}
    work = pipeline.cloud_masks(recipe, tmp_path / "out")
    assert list(work.masks) == ["scene"]
    assert list(work.left.items) == ["broken"]
    assert [p.stem for p in (tmp_path / "out" / "stac" / "items").iterdir()] == ["scene"]
    shutil.rmtree(tmp_path / "made" / "scene")
    shutil.rmtree(tmp_path / "out")
    with pytest.raises(DataError, match=r"none of the .* items found can be used"):
        pipeline.cloud_masks(recipe, tmp_path / "out")


def test_what_is_wrong_with_one_item_does_not_stop_the_others(cloudy: str, tmp_path: Path) -> None:
    shutil.copytree(cloudy, tmp_path / "model")
    card = cards.read(tmp_path / "model", MapCard)
    stated = tuple(band.model_copy(update={"unit": "reflectance"}) for band in card.bands)
    cards.write(card.model_copy(update={"bands": stated}), tmp_path / "model")
    warm = testing.Scene(**{**vars(SCENE), "id": "warm", "datetime": "2024-06-03T12:00:00Z", "unit": "K"})
    made = testing.write_catalog(tmp_path / "made", [SCENE, warm])
    query = {"catalog": str(made), "bbox": SCENE.bbox(), "datetime": "2024"}
    work = pipeline.cloud_masks({"query": query, "model": str(tmp_path / "model")}, tmp_path / "out")
    assert list(work.masks) == ["scene"]
    assert list(work.left.items) == ["warm"]

    # where a source does not answer, what is finished is published
    (tmp_path / "out" / "catalog.yaml").unlink()
    with pytest.raises(TransientError, match="try later"):
        work.leave_out(work.items[0], TransientError("try later"))
    assert (tmp_path / "out" / "catalog.yaml").is_file()


def test_a_mask_of_degrees_is_in_the_zone_of_the_place_asked_for() -> None:
    wide = pystac.Item("wide", mapping(shapely.box(-30, 40, 30, 50)), None, dt.datetime(2024, 6, 1, tzinfo=dt.UTC), {})
    assert metric_crs("EPSG:4326", wide, shapely.box(12.3, 45.4, 12.4, 45.5)) == "EPSG:32633"
    assert metric_crs("EPSG:4326", wide, shapely.box(-20.4, 45.4, -20.3, 45.5)) == "EPSG:32627"
    assert metric_crs("EPSG:32631", wide, shapely.box(12.3, 45.4, 12.4, 45.5)) == "data"
