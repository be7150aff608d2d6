"""Labels on one's own images: what the images show of them, as polygons, on a plane of true metres."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from rasterio.features import rasterize

from geoml.data import label_file
from geoml.data.labels import VectorLabels, read_polygons
from geoml.data.own_labels import own_training
from geoml.data.own_recipe import OwnRecipe
from geoml.data.targets.classes import ClassTarget
from geoml.errors import InputError
from geoml.io.cards.map_card import ClassInfo

CRS, WEST, NORTH, SIZE = "EPSG:32621", 600_000.0, 7_000_000.0, 200


def asked(
    folder: Path, tif: Callable[..., Path], shapes: list[shapely.Polygon], names: list[str], **more: Any
) -> OwnRecipe:
    """An image of 200 x 200 pixels of 10 m, and labels on it."""
    tif(folder / "a_20240601.tif", np.ones((1, SIZE, SIZE), np.uint8), **more)
    frame = gpd.GeoDataFrame({"kind": names}, geometry=shapes, crs=CRS)
    frame.to_file(folder / "labels.gpkg")
    return OwnRecipe(
        image=(str(folder / "a_20240601.tif"),), labels=str(folder / "labels.gpkg"), field="kind", bands=("grey",)
    )


def square(x: float, y: float, side: float) -> shapely.Polygon:
    """From the north-west corner of the image, metres east and south."""
    return shapely.box(WEST + x, NORTH - y - side, WEST + x + side, NORTH - y)


def test_polygons_along_the_squares_are_taught_as_polygons(tif: Callable[..., Path], tmp_path: Path) -> None:
    shapes = [square(x, y, 150) for x in range(0, 2000, 500) for y in (40, 640, 1240, 1640)]
    edge = WEST + 1280  # a line of squares of every side
    corner = [(-80, 20), (50, 20), (50, 90), (0, 90), (0, 40), (-80, 40)]
    shapes.append(shapely.Polygon([(edge + x, NORTH - 1000 + y) for x, y in corner]))
    names = [("wheat", "maize")[k % 2] for k in range(len(shapes))]
    found = own_training(asked(tmp_path, tif, shapes, names), tmp_path / "out")
    found.write(tmp_path / "out")
    kind = ClassTarget(tuple(ClassInfo(value=k, name=n, color="#000000") for k, n in enumerate(("maize", "wheat"), 1)))
    taught = [
        read_polygons(VectorLabels(file=str(tmp_path / "out" / found.labels / f"{n}.gpkg"), field="kind"), kind)
        for n in ("train", "val", "test")
    ]
    assert sum(t.area.sum() for t in taught) == pytest.approx(shapely.area(shapes).sum())


def test_ground_that_no_image_shows_is_neither_taught_nor_counted(tif: Callable[..., Path], tmp_path: Path) -> None:
    inside = [square(x, y, 100) for x in (100, 700, 1300) for y in (100, 700, 1300)]
    names = ["wheat"] * len(inside)
    across = [square(-900, y, 1000) for y in (0, 1000, 1900)]  # of which 100 m, and of the last 100 m x 100 m, are seen
    touching = square(-300, 300, 300)
    shapes = [*inside, *across, touching]
    found = own_training(asked(tmp_path, tif, shapes, [*names, *["maize"] * 4]), tmp_path / "out")
    ground = {k: float(f.area.sum()) for k, f in found.split.frame.groupby("label")}
    assert ground == pytest.approx({0: 100 * (1000 + 1000 + 100), 1: 9 * 100 * 100}, rel=1e-6)
    assert found.left_out == {"outside of the region": 1}
    image = shapely.box(WEST, NORTH - 2000, WEST + 2000, NORTH).buffer(1e-6)
    assert shapely.covers(image, found.split.frame.geometry.to_numpy()).all()


def test_a_class_that_the_images_barely_show_is_not_scored_on_nothing(tif: Callable[..., Path], tmp_path: Path) -> None:
    inside = [square(x, y, 100) for x in (100, 700, 1300) for y in (100, 700, 1300)]
    shown = [*inside, square(-960, 500, 1000)]  # 40 m of the last
    wanted = asked(tmp_path, tif, shown, [*["wheat"] * 9, "maize"])
    with pytest.raises(InputError, match=r"class maize: 1 label drawn, 400 pixels, in ") as caught:
        own_training(wanted.model_copy(update={"ground": 1000.0}), tmp_path / "out")
    assert "1 of 2 classes" in str(caught.value)
    assert "--add" not in str(caught.value)
    gpd.GeoDataFrame({"kind": ["maise"]}, geometry=[square(1530, 1530, 40)], crs=CRS).to_file(tmp_path / "more.gpkg")
    wanted = asked(tmp_path, tif, inside, [*["wheat"] * 5, *["maize"] * 4])
    assert own_training(wanted, tmp_path / "out").recipe["license"] == "other"
    with pytest.raises(InputError, match=r"class maise: 1 label .* Only the files of --add have maise; is it spelled"):
        own_training(wanted.model_copy(update={"add": (str(tmp_path / "more.gpkg"),)}), tmp_path / "out")


def test_what_mending_leaves_is_polygons(tmp_path: Path) -> None:
    spike = shapely.Polygon([(0, 0), (0.1, 0), (0.1, 0.1), (0.05, 0.1), (0.05, 0.2), (0.05, 0.1), (0, 0.1)])
    assert shapely.make_valid(spike).geom_type == "GeometryCollection"
    flat = shapely.Polygon([(1, 1), (2, 2), (1, 1)])
    frame = gpd.GeoDataFrame({"kind": ["a", "b", "b"]}, geometry=[spike, shapely.box(3, 3, 4, 4), flat], crs=4326)
    frame.to_file(tmp_path / "labels.gpkg")
    found = label_file.read(tmp_path / "labels.gpkg", "kind")
    assert set(found.frame.geom_type) <= {"Polygon", "MultiPolygon"}
    assert found.frame.geometry[0].area == pytest.approx(0.01)
    assert found.left_out == {"without an area": 1}


@pytest.mark.parametrize("anchor", [0.0, 0.5])
def test_a_point_labels_the_one_pixel_that_holds_it(tif: Callable[..., Path], tmp_path: Path, anchor: float) -> None:
    """Points on corners of pixels, of which two share a pixel; counted as they are burnt."""
    west, north = WEST + 10 * anchor, NORTH - 10 * anchor
    random = np.random.default_rng(0)
    at = 10 * random.permutation(np.stack(np.meshgrid(np.arange(1, 199), np.arange(1, 199)), -1).reshape(-1, 2))[:400]
    xy = np.stack([west + at[:, 0], north - at[:, 1]], 1)
    xy[1] = xy[0] + (3, -3)
    names = [("maize", "wheat")[k % 2] for k in range(len(xy))]
    names[1] = names[0]
    shapes = shapely.points(xy).tolist()
    wanted = asked(tmp_path, tif, shapes, names, origin=(west, north))
    found = own_training(wanted, tmp_path / "out")
    assert (found.recipe["gsd"], found.recipe["source"]["anchor"]) == (10.0, anchor)
    assert found.left_out == {"in the pixel of another of the same class": 1}
    frame = found.split.frame
    grid = {"out_shape": (SIZE, SIZE), "transform": rasterio.Affine(10, 0, west, 0, -10, north)}
    for k, name in enumerate(("maize", "wheat")):
        mine = frame[frame["label"] == k]
        burnt = {s: rasterize(f.geometry, **grid) for s, f in mine.groupby("split")}
        rows, cols = np.nonzero(sum(burnt.values()))
        of_class = np.array(names) == name
        held = (np.delete(at, 1, 0) // 10)[np.delete(of_class, 1)][:, ::-1]  # of a corner the pixel right and below
        np.testing.assert_array_equal(np.stack([rows, cols], 1), np.unique(held, axis=0))
        n = {s: int(b.sum()) for s, b in burnt.items()}
        train = f"{name}: about {n['train']} pixels to learn from"
        assert f"{train}, {n['val']} to choose by, {n['test']} to score on" in found.said
