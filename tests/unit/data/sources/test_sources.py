from __future__ import annotations

import io
import json

import geopandas as gpd
import numpy as np
import pyproj
import pytest
from PIL import Image
from shapely.geometry import box

from geoml.data import rasters
from geoml.data.sources import pairs, points, tiles
from geoml.data.sources.tiles import HALF_WORLD, TILE, plane_of, window_of
from geoml.errors import DataError, InputError, NothingFound
from geoml.nn.metrics import IGNORE


def make_pair(tif, folder, name, image, label, **where):
    tif(folder / "img" / f"{name}.tif", image, **where)
    tif(folder / "lab" / f"{name}.tif", label, **where)


def test_pairs_read_what_was_written(tif, recipe, tmp_path):
    image = np.arange(12, dtype=np.float32).reshape(3, 4)
    image[0, 0] = np.nan
    label = np.array([[0, 1, -1, 0]] * 3, np.int16)
    make_pair(tif, tmp_path, "a", image, label)
    tif(tmp_path / "img" / "no-label.tif", image)
    (scene,) = pairs.scenes(recipe().source, recipe())
    sample = scene.read()
    assert (scene.id, scene.shape, scene.geobox.crs.to_epsg()) == ("a", (3, 4), 32621)
    assert sample.target.tolist() == [[IGNORE, 1, IGNORE, 0], [0, 1, IGNORE, 0], [0, 1, IGNORE, 0]]
    assert not sample.valid[0, 0]
    assert sample.image[0, 0, 0] == 0
    np.testing.assert_array_equal(sample.image[0][sample.valid], image[sample.valid])


def test_pairs_choose_bands_by_name_and_map_labels(tif, recipe, tmp_path):
    stack = np.stack([np.full((2, 2), v, np.uint16) for v in (10, 20, 30)])
    make_pair(tif, tmp_path, "a", stack, np.array([[5, 6], [6, 5]], np.uint8))
    source = {**recipe().source.model_dump(), "file_bands": ["red", "green", "nir"], "values": {5: 0, 6: 1}}
    made = recipe(source=source, bands=["nir", "red"])
    (scene,) = pairs.scenes(made.source, made)
    sample = scene.read()
    assert sample.image[:, 0, 0].tolist() == [30, 10]
    assert sample.target.tolist() == [[0, 1], [1, 0]]


def test_nodata_of_image_and_label_is_not_known(tif, recipe, tmp_path):
    tif(tmp_path / "img" / "a.tif", np.array([[7, 1]], np.uint8), nodata=7)
    tif(tmp_path / "lab" / "a.tif", np.array([[1, 9]], np.uint8), nodata=9)
    (scene,) = pairs.scenes(recipe().source, recipe())
    assert scene.read().target.tolist() == [[IGNORE, IGNORE]]


def test_an_unexplained_label_is_an_error_not_a_class(tif, recipe, tmp_path):
    make_pair(tif, tmp_path, "a", np.zeros((2, 2), np.uint8), np.array([[0, 1], [4, 0]], np.uint8))
    (scene,) = pairs.scenes(recipe().source, recipe())
    with pytest.raises(DataError, match=r"values 4 \(.* are not among the classes"):
        scene.read()


def test_pairs_of_different_shape(tif, recipe, tmp_path):
    tif(tmp_path / "img" / "a.tif", np.zeros((2, 2), np.uint8))
    tif(tmp_path / "lab" / "a.tif", np.zeros((2, 3), np.uint8))
    with pytest.raises(DataError, match="differ in shape"):
        pairs.scenes(recipe().source, recipe())


def test_no_pairs(recipe):
    with pytest.raises(NothingFound, match="img"):
        pairs.scenes(recipe().source, recipe())


def test_png_without_georeference(recipe, tmp_path):
    for folder, value in (("img", 50), ("lab", 1)):
        (tmp_path / folder).mkdir()
        Image.fromarray(np.full((5, 4), value, np.uint8)).save(tmp_path / folder / "a.tif", format="PNG")
    (scene,) = pairs.scenes(recipe().source, recipe())
    assert scene.geobox is None
    assert (scene.read().image == 50).all()


def test_a_file_is_opened_by_its_first_bytes_only(tmp_path):
    vrt = tmp_path / "x.tif"
    vrt.write_text("<VRTDataset rasterXSize='1' rasterYSize='1'></VRTDataset>")
    with pytest.raises(DataError, match="expected TIFF"):
        rasters.header(vrt)
    with pytest.raises(DataError, match="expected TIFF"):
        rasters.read(vrt, [1])


def test_a_truncated_file_names_itself(tif, tmp_path):
    path = tif(tmp_path / "a.tif", np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8), compress="deflate")
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(DataError, match=r"a\.tif"):
        rasters.read(path, [1])


# --- tiles


@pytest.mark.parametrize(("zoom", "x", "y"), [(20, 619224, 523264), (3, 0, 7), (1, 1, 1), (0, 0, 0)])
def test_tiles_lie_where_the_tile_scheme_says(zoom, x, y):
    left, _bottom, _right, top = plane_of(zoom).bounds(window_of(zoom, x, y))
    lon, lat = pyproj.Transformer.from_crs(3857, 4326, always_xy=True).transform(left, top)
    n = 2**zoom  # https://wiki.openstreetmap.org/wiki/Slippy_map_tilenames
    assert lon == pytest.approx(x / n * 360 - 180, abs=1e-9)
    assert lat == pytest.approx(np.degrees(np.arctan(np.sinh(np.pi * (1 - 2 * y / n)))), abs=1e-9)


@pytest.fixture
def tile_recipe(recipe, tmp_path):
    def make(zoom=18, mosaic=1, shapes=()):
        frame = gpd.GeoDataFrame(geometry=list(shapes), crs=3857).to_crs(4326)
        frame.to_file(tmp_path / "labels.geojson", driver="GeoJSON")
        source = {
            "kind": "tiles",
            "root": str(tmp_path),
            "images": "T-{x}-{y}-{z}.png",
            "labels": {"file": str(tmp_path / "labels.geojson")},
            "zoom": zoom,
            "mosaic": mosaic,
        }
        return recipe(source=source, bands=["red", "green", "blue"])

    return make


def put_tile(folder, zoom, x, y, value, kind="PNG"):
    data = np.full((TILE, TILE, 3), value, np.uint8)
    out = io.BytesIO()
    Image.fromarray(data).save(out, format=kind, quality=100) if kind == "JPEG" else Image.fromarray(data).save(
        out, kind
    )
    (folder / f"T-{x}-{y}-{zoom}.png").write_bytes(out.getvalue())


def test_tiles_with_polygons(tile_recipe, tmp_path):
    x = y = 2**17  # right below the origin of EPSG:3857
    put_tile(tmp_path, 18, x, y, 100)
    put_tile(tmp_path, 18, x + 1, y, 200, kind="JPEG")
    res = plane_of(18).res
    made = tile_recipe(shapes=[box(10 * res, -30 * res, 300 * res, -20 * res)])
    first, second = tiles.scenes(made.source, made)
    assert first.id == f"18-{x}-{y}"
    expected = np.zeros((TILE, TILE), np.uint8)
    expected[20:30, 10:] = 1
    np.testing.assert_array_equal(first.read().target, expected)
    assert second.read().target.sum() == 10 * 44
    assert abs(second.read().image.astype(int) - 200).max() <= 1


def test_a_missing_tile_is_averaged_from_finer_ones(tile_recipe, tmp_path):
    x = y = 2**17
    for dx, value in ((0, 10), (1, 30)):
        put_tile(tmp_path, 19, 2 * x + dx, 2 * y, value)
    made = tile_recipe()
    (scene,) = tiles.scenes(made.source, made)
    sample = scene.read()
    assert sample.image[0, :128, :128].tolist() == np.full((128, 128), 10).tolist()
    assert (sample.image[0, :128, 128:] == 30).all()
    assert not sample.valid[128:].any()
    assert (sample.target[128:] == IGNORE).all()


def test_a_mosaic_is_one_scene_with_gaps(tile_recipe, tmp_path):
    x = y = 2**17
    put_tile(tmp_path, 18, x, y, 1)
    put_tile(tmp_path, 18, x + 1, y + 1, 2)
    made = tile_recipe(mosaic=2)
    (scene,) = tiles.scenes(made.source, made)
    sample = scene.read()
    assert scene.shape == (512, 512)
    assert sample.valid.mean() == 0.5
    assert sample.image[0, 300, 300] == 2


def test_coarser_tiles_alone_are_nothing(tile_recipe, tmp_path):
    put_tile(tmp_path, 17, 2**16, 2**16, 1)
    made = tile_recipe()
    with pytest.raises(NothingFound, match="zoom 18"):
        tiles.scenes(made.source, made)


def test_the_pyramid_covers_the_world():
    assert plane_of(0).bounds(window_of(0, 0, 0)) == pytest.approx((-HALF_WORLD, -HALF_WORLD, HALF_WORLD, HALF_WORLD))


# --- points


@pytest.fixture
def tree_recipe(recipe, tmp_path):
    def make(**changes):
        source = {
            "kind": "points",
            "root": str(tmp_path),
            "images": "img/{id}.tif",
            "points": "csv/{id}.csv",
            "file_bands": ["grey"],
            "radius": 20,
            **changes,
        }
        return recipe(source=source)

    return make


def test_points_label_discs_in_metres(tif, tree_recipe, tmp_path):
    tif(tmp_path / "img" / "a.tif", np.ones((9, 9), np.uint8))  # 10 m pixels
    (tmp_path / "csv").mkdir()
    (tmp_path / "csv" / "a.csv").write_text("x,y\n4,4\n")
    made = tree_recipe(ring=10)
    (scene,) = points.scenes(made.source, made)
    rows, cols = np.mgrid[:9, :9]
    distance = np.hypot(rows - 4, cols - 4) * 10
    expected = np.where(distance <= 20, 1, np.where(distance <= 30, IGNORE, 0))
    np.testing.assert_array_equal(scene.read().target, expected)


def test_geojson_points(tif, tree_recipe, tmp_path):
    tif(tmp_path / "img" / "a.tif", np.ones((9, 9), np.uint8))
    point = {"type": "Point", "coordinates": [600_000 + 45, 7_000_000 - 15]}
    value = {"type": "FeatureCollection", "features": [{"type": "Feature", "geometry": point}]}
    (tmp_path / "a.json").write_text(json.dumps(value))
    made = tree_recipe(points="{id}.json", radius=1)
    (scene,) = points.scenes(made.source, made)
    assert np.argwhere(scene.read().target == 1).tolist() == [[1, 4]]


def test_a_missing_points_file_is_only_empty_when_the_recipe_says_so(tif, tree_recipe, tmp_path):
    tif(tmp_path / "img" / "a.tif", np.ones((9, 9), np.uint8))
    with pytest.raises(DataError, match="no_file"):
        points.scenes(tree_recipe().source, tree_recipe())
    made = tree_recipe(no_file="empty")
    (scene,) = points.scenes(made.source, made)
    assert (scene.read().target == 0).all()


def test_discs_need_metres(tif, tree_recipe, tmp_path):
    tif(tmp_path / "img" / "a.tif", np.ones((9, 9), np.uint8), crs="EPSG:4326", origin=(0, 0), res=0.001)
    made = tree_recipe(no_file="empty")
    (scene,) = points.scenes(made.source, made)
    with pytest.raises(DataError, match="projected"):
        scene.read()


def test_a_value_that_is_no_class(tree_recipe):
    with pytest.raises(InputError, match=r"source\.value: 5"):
        points.scenes(tree_recipe(value=5).source, tree_recipe())


def test_the_transparent_colour_of_a_png_is_one_colour(tmp_path):
    data = np.array([[[0, 0, 0], [0, 9, 9], [9, 0, 0]]], np.uint8)
    Image.fromarray(data).save(tmp_path / "t.png", transparency=(0, 0, 0))
    _, valid = rasters.read(tmp_path / "t.png", [1, 2, 3])
    assert valid.tolist() == [[False, True, True]]
