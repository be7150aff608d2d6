"""Source ``stac`` on a small static catalog made in code: two neighbouring scenes, two label files."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pystac
import pytest
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox
from shapely.geometry import box

from geoml.data.chips import Reader, measure
from geoml.data.prepare import prepare
from geoml.data.recipe import TrainRecipe
from geoml.data.scene import outline
from geoml.data.sources import stac
from geoml.errors import DataError, InputError
from geoml.grid.plane import Window
from geoml.nn.losses import IGNORE

LEFT, TOP, SIZE, GSD = 600_000.0, 7_200_000.0, 120, 30
CRS = "EPSG:32621"

# affine 3 deprecates the operator that odc-geo 0.5.3 uses for its geoboxes
pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")


@pytest.fixture
def world(tif: Callable[..., Path], tmp_path: Path) -> Path:
    """A catalog with scenes side by side: red = 100 + column of the plane, nir = 1000; scale 0.001, nodata 0."""
    catalog = pystac.Catalog("made", "made in code")
    for k in range(2):
        left = LEFT + k * SIZE * GSD
        columns = np.arange(SIZE) + k * SIZE
        red = np.tile(100 + columns, (SIZE, 1)).astype(np.uint16)
        data = np.stack([red, np.full_like(red, 1000)])
        data[:, :5, :5] = 0
        path = tif(tmp_path / "cat" / f"s{k}" / f"s{k}.tif", data, CRS, (left, TOP), GSD, nodata=0)
        place = GeoBox((SIZE, SIZE), Affine(GSD, 0, left, 0, -GSD, TOP), CRS)
        ground = outline(place, Window(0, 0, SIZE, SIZE))
        when = datetime(2020, 5, 18, tzinfo=UTC)
        item = pystac.Item(f"s{k}", shapely.geometry.mapping(ground), list(ground.bounds), when, {"proj:code": CRS})
        bands = [{"name": n, "raster:scale": 0.001, "nodata": 0, "data_type": "uint16"} for n in ("red", "nir")]
        asset = pystac.Asset(str(path), media_type=pystac.MediaType.COG, roles=["data"], extra_fields={"bands": bands})
        item.add_asset("data", asset)
        catalog.add_item(item)
    catalog.normalize_hrefs(str(tmp_path / "cat"))
    catalog.make_all_asset_hrefs_relative()
    catalog.save(pystac.CatalogType.SELF_CONTAINED)
    return tmp_path / "cat" / "catalog.json"


def cells(c0: int, r0: int, c1: int, r1: int) -> shapely.Polygon:
    """A polygon around whole pixels, counted from the catalog's corner."""
    return box(LEFT + c0 * GSD, TOP - r1 * GSD, LEFT + c1 * GSD, TOP - r0 * GSD)


@pytest.fixture
def made(world: Path, recipe: Callable[..., TrainRecipe], tmp_path: Path) -> Callable[..., TrainRecipe]:
    def make(first: list[Any], second: list[Any], split: dict[str, Any] | None = None, **source: Any) -> TrainRecipe:
        labels = []
        for name, shapes in (("one", first), ("two", second)):
            frame = gpd.GeoDataFrame({"kind": [k for k, _ in shapes]}, geometry=[g for _, g in shapes], crs=CRS)
            frame.to_crs(4326).to_file(tmp_path / f"{name}.gpkg")
            labels.append({"name": name, "file": str(tmp_path / f"{name}.gpkg"), "field": "kind"})
        value = {"kind": "stac", "catalog": str(world), "datetime": "2020", "labels": labels, "block": 64, **source}
        how = split or {"kind": "labels", "train": ["one"], "test": ["two"]}
        return recipe(source=value, split=how, bands=["nir", "red"], gsd=GSD)

    return make


def test_labels_and_physical_values_on_the_plane(made):
    found = made([("dark", cells(10, 10, 20, 15))], [("bright", cells(130, 40, 150, 44))])
    splits = prepare(found)
    reader = Reader()
    counts = {}
    for name in ("train", "test"):
        total = np.zeros(2, int)
        for piece in splits[name]:
            sample = reader(piece.scene)
            assert piece.scene.id.endswith(f"@{name}")
            total += [(sample.target == k).sum() for k in range(2)]
            columns = round((piece.scene.geobox.affine.c - LEFT) / GSD) + np.arange(64)
            expected = np.broadcast_to((100 + columns) * 0.001, (64, 64))
            np.testing.assert_allclose(sample.image[1][sample.valid], expected[sample.valid], rtol=1e-5)
            np.testing.assert_allclose(sample.image[0][sample.valid], 1.0, rtol=1e-5)
        counts[name] = total.tolist()
    assert counts == {"train": [50, 0], "test": [0, 80]}


def test_items_are_converted_to_the_units_of_the_recipe(made, world):
    """Or keep their own, which the card then has."""
    for path in world.parent.glob("s*/s*.json"):
        item = json.loads(path.read_text())
        for band in item["assets"]["data"]["bands"]:
            band["unit"] = "linear"
        path.write_text(json.dumps(item))
    found = made([("dark", cells(10, 10, 20, 15))], [("bright", cells(130, 40, 150, 44))])
    own, decibels = prepare(found)["train"], prepare(found.model_copy(update={"units": {"red": "dB"}}))["train"]
    for one, two in zip(own, decibels, strict=True):
        assert one.scene.units == ("linear power", "linear power")
        assert two.scene.units == ("linear power", "dB")
        before, after = one.scene.read(), two.scene.read()
        known = before.valid & after.valid
        assert (before.valid == after.valid).all()
        np.testing.assert_allclose(after.image[1][known], 10 * np.log10(before.image[1][known]), rtol=1e-5)
        np.testing.assert_array_equal(after.image[0][known], before.image[0][known])
    with pytest.raises(InputError, match="units: band red is in linear power, which cannot be made K"):
        prepare(found.model_copy(update={"units": {"red": "K"}}))


def test_pixels_without_data_have_no_label(made):
    found = made([("dark", cells(0, 0, 10, 10))], [("bright", cells(130, 40, 150, 44))])
    measured = measure(prepare(found)["train"], found.target, Reader())
    assert measured.counted.tolist() == [100 - 25, 0]


def test_a_pixel_labelled_in_two_splits_is_a_leak(made):
    found = made([("dark", cells(10, 10, 20, 20))], [("bright", cells(19, 19, 30, 30))])
    (piece,) = prepare(found)["train"]
    with pytest.raises(InputError, match="leak, 1 pixels"):
        piece.scene.read()


def test_a_buffer_keeps_train_away_from_test(made):
    split = {"kind": "labels", "train": ["one"], "test": ["two"], "buffer": 90}
    found = made([("dark", cells(10, 10, 30, 11))], [("bright", cells(30, 10, 40, 11))], split)
    splits = prepare(found)
    train = sum(int((p.scene.read().target == 0).sum()) for p in splits["train"])
    test = sum(int((p.scene.read().target == 1).sum()) for p in splits["test"])
    assert (train, test) == (17, 10)


def test_a_split_by_blocks_and_a_background_class(made):
    split = {"kind": "blocks", "size": 64 * GSD, "val": 0.3, "test": 0.3}
    corner = outline(GeoBox((240, 240), Affine(GSD, 0, LEFT, 0, -GSD, TOP), CRS), Window(5, 5, 110, 230)).bounds
    found = made(
        [("bright", cells(10, 10, 20, 15))], [("bright", cells(130, 40, 150, 44))], split, background=0, bbox=corner
    )
    splits = prepare(found)
    known = [p.scene.read() for name in ("train", "val", "test") for p in splits[name]]
    assert sum(int((s.target == 1).sum()) for s in known) == 50 + 80
    assert all((s.target[s.valid] != IGNORE).all() for s in known)


def test_wrong_names_are_input_errors(made):
    shapes = [("dark", cells(10, 10, 20, 15))]
    with pytest.raises(InputError, match="no labels called"):
        prepare(made(shapes, shapes, {"kind": "labels", "train": ["three"]}))
    with pytest.raises(InputError, match="two splits"):
        prepare(made(shapes, shapes, {"kind": "labels", "train": ["one"], "test": ["one"]}))
    with pytest.raises(InputError, match="background"):
        stac.scenes(made(shapes, shapes, background=7).source, made(shapes, shapes))


def test_two_times_are_two_dates(made, world, tif):
    """The first scene again a year later, 7 brighter and with a gap of its own."""
    item = json.loads((world.parent / "s0" / "s0.json").read_text())
    item["id"], item["properties"]["datetime"] = "later", "2021-05-18T00:00:00Z"
    red = np.tile(107 + np.arange(SIZE), (SIZE, 1)).astype(np.uint16)
    data = np.stack([red, np.full_like(red, 1007)])
    data[:, 20:22] = 0
    path = tif(world.parent / "later" / "later.tif", data, CRS, (LEFT, TOP), GSD, nodata=0)
    item["assets"]["data"]["href"] = str(path)
    (world.parent / "later" / "later.json").write_text(json.dumps(item))
    catalog = json.loads(world.read_text())
    catalog["links"].append({"rel": "item", "href": "./later/later.json"})
    world.write_text(json.dumps(catalog))
    one = made([("bright", cells(10, 10, 20, 25))], [("dark", cells(30, 10, 40, 15))])
    value = one.model_dump(mode="json")
    with pytest.raises(ValueError, match="the source gives 2"):
        TrainRecipe.model_validate({**value, "source": {**value["source"], "datetime": ["2020", "2021"]}})
    two = TrainRecipe.model_validate({**value, "dates": 2, "source": {**value["source"], "datetime": ["2020", "2021"]}})
    pieces = prepare(two)["train"]
    sample = next(s for p in pieces if (s := p.scene.read()).target.min() != IGNORE)
    single = next(p.scene.read() for p in prepare(one)["train"])
    assert sample.image.shape[0] == 4
    known = sample.valid
    np.testing.assert_allclose(sample.image[2:][:, known], sample.image[:2][:, known] + 0.007, rtol=1e-4)
    assert (single.valid & ~known).any()
    assert (sample.target == 1).sum() == (single.target == 1).sum() - 20  # two rows of ten have no second date


def test_an_item_without_the_band_or_a_time_is_left_out(made, world, caplog):
    shapes = [("dark", cells(10, 10, 20, 15))], [("bright", cells(30, 40, 50, 44))]  # both in the first scene
    both = outline(GeoBox((120, 240), Affine(GSD, 0, LEFT, 0, -GSD, TOP), CRS), Window(0, 0, 120, 240)).bounds
    path = world.parent / "s1" / "s1.json"
    good = json.loads(path.read_text())
    for change in ({"assets": {}}, {"properties": {**good["properties"], "datetime": "soon"}}):
        path.write_text(json.dumps({**good, **change}))
        caplog.clear()
        found = prepare(made(*shapes, bbox=both))
        assert sum(int((p.scene.read().target == 0).sum()) for p in found["train"]) == 50
        assert "1 item left out: " in caplog.text
        assert "s1" in caplog.text
        with pytest.raises((InputError, DataError), match="item s1"):
            prepare(made(*shapes, bbox=both, strict=True))
    (world.parent / "s0" / "s0.json").write_text(json.dumps({**good, "id": "s0", "assets": {}}))
    path.write_text(json.dumps({**good, "assets": {}}))
    with pytest.raises(InputError, match="none of the 2 items found can be used"):
        prepare(made(*shapes, bbox=both))


def test_strict_is_no_part_of_what_a_recipe_is_known_by(made):
    shapes = [("dark", cells(10, 10, 20, 15))], [("bright", cells(30, 40, 50, 44))]
    value = made(*shapes).model_dump(mode="json")
    del value["source"]["strict"]
    assert TrainRecipe.model_validate(value).hash == made(*shapes).hash
