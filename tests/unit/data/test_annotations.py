"""Boxes of every format on one made image with known truth, and what contradicts what a recipe declares."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import geopandas
import numpy as np
import pytest
import shapely
from affine import Affine

from geoml import testing
from geoml.data.annotation import FORMATS
from geoml.data.prepare import prepare, scenes
from geoml.data.targets.boxes import boxes_of
from geoml.engine import task as tasks
from geoml.errors import InputError
from geoml.nn.metrics import IGNORE
from geoml.nn.objects.centre_heat import INDEX
from tests.unit.data.box_files import (
    ALL,
    HEIGHT,
    TRUTH,
    WIDTH,
    WRITERS,
    Box,
    coco_value,
    deepforest,
    fault,
    found,
    image,
    recipe,
    vector,
    voc,
    yolo,
)


@pytest.mark.parametrize("form", FORMATS.names())
def test_every_format_gives_the_boxes_that_are_painted(form: str, tmp_path: Path) -> None:
    image(tmp_path)
    WRITERS[form](tmp_path / "a", ALL)
    assert found(recipe(tmp_path, form)) == TRUTH


@pytest.mark.parametrize("form", ["voc", "deepforest"])
@pytest.mark.parametrize(
    ("corners", "first", "last"), [("edges", 0, 0), ("pixels_from_0", 0, -1), ("pixels_from_1", 1, 0)]
)
def test_corners_mean_what_the_recipe_says(form: str, corners: str, first: int, last: int, tmp_path: Path) -> None:
    image(tmp_path)
    written = [(n, (x0 + first, y0 + first, x1 + last, y1 + last)) for n, (x0, y0, x1, y1) in ALL]
    WRITERS[form](tmp_path / "a", written)
    assert found(recipe(tmp_path, form, corners=corners)) == TRUTH
    for other in {"pixels_from_0", "pixels_from_1"} - {corners}:
        text = fault(recipe(tmp_path, form, corners=other))
        assert f"source.corners: {other} does not fit, all 3 boxes lie in their images with " in text
        assert corners in text.partition("with ")[2]


@pytest.mark.parametrize(("corners", "first", "last"), [("pixels_from_0", 0, -1), ("pixels_from_1", 1, 0)])
def test_edges_that_stop_short_of_the_border_are_doubted(
    corners: str, first: int, last: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    image(tmp_path)
    many = [*ALL, ("field", (0, 30, 9, 80)), ("field", (40, 0, 100, 9))]
    deepforest(tmp_path / "a", [(n, (x0 + first, y0 + first, x1 + last, y1 + last)) for n, (x0, y0, x1, y1) in many])
    scenes(recipe(tmp_path, "deepforest"))
    assert f"{corners}? Look at labels.png" in caplog.text
    caplog.clear()
    deepforest(tmp_path / "a", many)
    scenes(recipe(tmp_path, "deepforest"))
    assert not caplog.text


def test_conventions_are_declared_and_not_guessed(tmp_path: Path) -> None:
    for form, change, said in (
        ("voc", {"corners": None}, "voc does not say what they are; expected one of"),
        ("coco", {"corners": "edges"}, "in coco they can only be edges"),
        ("yolo", {"coordinates": "pixels"}, "yolo has relative, not pixels"),
        ("voc", {"coordinates": "crs"}, "voc has pixels, not crs"),
    ):
        with pytest.raises(ValueError, match=said):
            recipe(tmp_path, form, **change)
    with pytest.raises(ValueError, match="did you mean 'yolo'"):
        recipe(tmp_path, "vector", format="yollo")


WRONG: list[tuple[Box, str]] = [
    ((50, 20, 130, 60), "reaches out of the image of 100 x 80 pixels"),
    ((50, 20, 60, 20), "its box has no size"),
    ((60, 20, 50, 40), "its box is inverted"),
    ((50, 20, float("nan"), 40), "its box is not finite"),
]


@pytest.mark.parametrize(
    ("form", "box", "said"),
    [
        (form, *wrong)
        for form in FORMATS.names()
        for wrong in WRONG[: 2 if form == "vector" else None]  # a polygon has no first corner, GDAL reads no NaN
    ],
)
def test_a_wrong_box_is_told_by_file_and_line(form: str, box: Box, said: str, tmp_path: Path) -> None:
    image(tmp_path)
    WRITERS[form](tmp_path / "a", [*ALL, ("roof", box)])
    text = fault(recipe(tmp_path, form))
    where = {"voc": "a.xml: line 21", "yolo": "a.txt: line 4", "coco": "all.json: annotation 3 (id 3)"}
    where |= {"deepforest": "all.csv: row 5", "vector": "a.geojson: feature 3"}
    assert said in text
    assert where[form] in text
    assert text.count("its box") == 1


def test_all_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    for name in "abc":
        image(tmp_path, name)
    voc(tmp_path / "a", [("roof", (5, 5, 130, 9)), ("boat", (1, 1, 9, 9))])
    voc(tmp_path / "b", ALL, width="640", height="480")
    text = fault(recipe(tmp_path, "voc"))
    assert "a.xml: line 9: its box reaches out" in text
    assert "'boat'" in text
    assert "a.xml: line 13: " in text
    assert "b.xml: labels of an image of 640 x 480 pixels; b.tif has 100 x 80" in text
    assert "c.xml: missing; set source.no_file to 'empty'" in text


def test_what_reaches_out_is_cut_off_where_the_recipe_says_so(tmp_path: Path) -> None:
    image(tmp_path)
    yolo(tmp_path / "a", [*ALL[:-1], ("field", (30, 20, 51, 44)), ("roof", (90, 60, 110, 68))])
    (cut,) = set(found(recipe(tmp_path, "yolo", outside="clip"))) - set(TRUTH)
    assert cut == (0, 0, 60, 90, 68, 100)
    yolo(tmp_path / "a", [("roof", (120, 60, 130, 68))])
    assert "its box is outside the image" in fault(recipe(tmp_path, "yolo", outside="clip"))


def test_pixels_and_shares_are_told_apart(tmp_path: Path) -> None:
    image(tmp_path)
    (tmp_path / "a.txt").write_text("0 50 40 10 10\n")
    assert "a.txt: numbers up to 55 where shares of the image, 0 to 1, are expected" in fault(recipe(tmp_path, "yolo"))
    for form in ("voc", "coco", "deepforest", "vector"):
        WRITERS[form](tmp_path / "a", [("roof", (0.1, 0.2, 0.4, 0.9))])
        assert "no number is above 1 where pixels are expected" in fault(recipe(tmp_path, form)), form


@pytest.mark.parametrize("form", ["voc", "yolo", "coco", "deepforest"])
def test_a_class_that_the_recipe_does_not_know(form: str, tmp_path: Path) -> None:
    image(tmp_path)
    WRITERS[form](tmp_path / "a", ALL)
    values = {"0": 7} if form == "yolo" else {}
    classes = {"roof": 7, "field": 99} if form != "yolo" else {"0": 7, "1": 99}
    text = fault(recipe(tmp_path, form, values=values | classes))
    assert "no class (values [3, 7], names ['field', 'roof'])" in text
    assert "`ignore`" in text


def test_ignored_and_difficult_objects_and_crowds_are_not_known(tmp_path: Path) -> None:
    image(tmp_path)
    voc(tmp_path / "a", ALL)
    text = (tmp_path / "a.xml").read_text()
    (tmp_path / "a.xml").write_text(text.replace("<name>field</name>", "<name>field</name><difficult>1</difficult>"))
    value = coco_value(ALL)
    value["annotations"][2]["iscrowd"] = 1
    value["annotations"][2]["segmentation"] = {"counts": [1, 2], "size": [HEIGHT, WIDTH]}
    (tmp_path / "all.json").write_text(json.dumps(value))
    yolo(tmp_path / "a", ALL)
    for made in (recipe(tmp_path, "voc"), recipe(tmp_path, "coco"), recipe(tmp_path, "yolo", ignore=["1"])):
        (scene,) = scenes(made)
        target = scene.read().target
        assert (target[INDEX, 20:44, 30:51] == IGNORE).all()
        assert (target[INDEX] == IGNORE).sum() == 24 * 21
        known = boxes_of(target)
        assert sorted(tuple(r) for r in known[known[:, 1] == 0].tolist()) == [r for r in TRUTH if r[0] == 0]


def test_what_is_known_in_a_crowd_stays_known(tmp_path: Path) -> None:
    image(tmp_path)
    value = coco_value([*ALL, ("field", (25, 15, 60, 50))])
    value["annotations"][3]["iscrowd"] = 1
    (tmp_path / "all.json").write_text(json.dumps(value))
    (scene,) = scenes(recipe(tmp_path, "coco"))
    target = scene.read().target
    assert (target[INDEX, 20:44, 30:51] != IGNORE).all()
    assert (target[INDEX, 15:20, 25:60] == IGNORE).all()


def test_images_without_an_object_stay(tmp_path: Path) -> None:
    for name in "abc":
        image(tmp_path, name)
    split = {"kind": "files", "train": ["a", "b"], "val": ["c"]}
    deepforest(tmp_path / "a", ALL)
    with (tmp_path / "all.csv").open("a") as file:
        file.write("\nb.tif,0,0,0,0,roof\n")
    assert "all.csv: nothing about c.tif" in fault(recipe(tmp_path, "deepforest"))
    splits = prepare(recipe(tmp_path, "deepforest", no_file="empty", split=split))
    assert [p.scene.id for p in splits["train"]] == ["a", "b"]
    assert [p.scene.id for p in splits["val"]] == ["c"]
    for piece in (splits["train"][1], splits["val"][0]):
        target = piece.scene.read().target
        assert not len(boxes_of(target))
        assert (target[INDEX] != IGNORE).all(), "ground without objects is searched and scored"


def test_a_file_without_features_is_an_image_without_objects(tmp_path: Path) -> None:
    image(tmp_path)
    for form in FORMATS.names():
        WRITERS[form](tmp_path / "a", [])
        if form != "deepforest":  # there a row of zeros says it
            assert found(recipe(tmp_path, form)) == [], form


def test_a_split_without_a_box_does_not_train(tmp_path: Path) -> None:
    for name in "ab":
        image(tmp_path, name)
    yolo(tmp_path / "a", ALL)
    for files, said in (({"val": ["b"]}, "no box at all in val"), ({"val": ["a"]}, "no box at all in train")):
        made = recipe(tmp_path, "yolo", no_file="empty", split={"kind": "files", **files})
        with pytest.raises(InputError, match=said):
            tasks.find("detection").fit(made, tmp_path / "out")
        assert not (tmp_path / "out").exists()


def test_pixels_of_another_size_than_the_recipe_says(tmp_path: Path) -> None:
    image(tmp_path)
    yolo(tmp_path / "a", ALL)
    assert "a.tif: pixels of 10 m; the recipe says gsd: 5" in fault(recipe(tmp_path, "yolo", gsd=5))
    assert found(recipe(tmp_path, "yolo", gsd=6)) == TRUTH


# --- headings and outlines

TURNED = shapely.affinity.rotate(shapely.box(30, 30, 70, 40), 45)


def test_boxes_with_a_heading_are_refused_unless_upright_ones_are_meant(tmp_path: Path) -> None:
    image(tmp_path)
    corners = np.array(TURNED.exterior.coords[:4])
    shares = (corners / [WIDTH, HEIGHT]).ravel().tolist()
    (tmp_path / "a.txt").write_text(" ".join(map(repr, [0, *shares])))
    text = fault(recipe(tmp_path, "yolo"))
    assert "1 of 1 objects are boxes with a heading; upright boxes are 3.1 times as large" in text
    oriented = recipe(tmp_path, "yolo")
    model = oriented.model.model_copy(update={"config": {"oriented": True}})
    assert len(scenes(oriented.model_copy(update={"model": model}))) == 1
    x0, y0, x1, y1 = TURNED.bounds
    np.testing.assert_allclose(found(recipe(tmp_path, "yolo", rotated="upright")), [(0, 0, y0, x0, y1, x1)], atol=1e-3)
    robox = "<cx>50</cx><cy>35</cy><w>40</w><h>10</h><angle>0.7853981633974483</angle>"
    (tmp_path / "a.xml").write_text(
        f"<annotation><object><name>roof</name><robndbox>{robox}</robndbox></object></annotation>"
    )
    assert "boxes with a heading" in fault(recipe(tmp_path, "voc"))
    np.testing.assert_allclose(found(recipe(tmp_path, "voc", rotated="upright")), [(0, 0, y0, x0, y1, x1)], atol=1e-3)


def test_outlines_that_are_turned_rectangles_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    image(tmp_path)
    features = [{"type": "Feature", "properties": {"name": "roof"}, "geometry": shapely.geometry.mapping(TURNED)}]
    (tmp_path / "a.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    with caplog.at_level(logging.WARNING):
        scenes(recipe(tmp_path, "vector"))
    assert (
        "1 of 1 objects are outlines that are rotated rectangles; upright boxes are 3.1 times as large" in caplog.text
    )
    caplog.clear()
    vector(tmp_path / "a", ALL)
    with caplog.at_level(logging.WARNING):
        scenes(recipe(tmp_path, "vector"))
    assert not caplog.text


def test_outlines_of_coco_and_of_deepforest_have_their_bounding_box(tmp_path: Path) -> None:
    image(tmp_path)
    outline = shapely.Polygon([(30, 30), (51, 20), (40, 44), (30, 40)])
    value = coco_value([("field", (30, 20, 51, 44))])
    value["annotations"][0]["segmentation"] = [[c for xy in outline.exterior.coords[:-1] for c in xy]]
    (tmp_path / "all.json").write_text(json.dumps(value))
    assert found(recipe(tmp_path, "coco")) == [TRUTH[-1]]
    (tmp_path / "all.csv").write_text(f'image_path,label,geometry\na.tif,field,"{outline.wkt}"\n')
    assert found(recipe(tmp_path, "deepforest", corners="edges")) == [TRUTH[-1]]


# --- points


def points(folder: Path, crs: str = "EPSG:32621") -> None:
    at = [shapely.Point(600_000 + 10 * x, 7_000_000 - 10 * y) for x, y in ((20, 30), (99, 40))]
    frame = geopandas.GeoDataFrame({"name": ["roof", "field"]}, geometry=at, crs="EPSG:32621").to_crs(crs)
    frame.to_file(folder / "a.geojson", driver="GeoJSON")


@pytest.mark.parametrize("crs", ["EPSG:32621", "EPSG:4326"])
def test_points_are_boxes_of_their_radius(crs: str, tmp_path: Path) -> None:
    image(tmp_path)
    points(tmp_path, crs)
    rows = found(recipe(tmp_path, "vector", coordinates="crs", radius=45))
    np.testing.assert_allclose(rows, [(0, 0, 25.5, 15.5, 34.5, 24.5), (1, 0, 35.5, 94.5, 44.5, 103.5)], atol=2e-3)
    assert "points without a size; set source.radius" in fault(recipe(tmp_path, "vector", coordinates="crs"))


def test_a_radius_needs_metres(tmp_path: Path) -> None:
    data = np.full((1, HEIGHT, WIDTH), 20, np.uint8)
    testing.write_cog(tmp_path / "a.tif", data, crs="EPSG:4326", transform=Affine(1e-4, 0, -54, 0, -1e-4, 10))
    at = {"type": "Point", "coordinates": [-53.995, 9.995]}
    feature = {"type": "Feature", "properties": {"name": "roof"}, "geometry": at}
    (tmp_path / "a.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    text = fault(recipe(tmp_path, "vector", coordinates="crs", radius=30))
    assert "a radius in metres, but" in text
    assert "is in degrees; expected an image in a projected CRS" in text


def test_features_elsewhere_are_labels_of_another_image(tmp_path: Path) -> None:
    image(tmp_path)
    frame = geopandas.GeoDataFrame({"name": ["roof"]}, geometry=[shapely.box(0, 0, 9, 9)], crs="EPSG:32621")
    frame.to_file(tmp_path / "a.geojson", driver="GeoJSON")
    assert "labels of another image, none of them touches a.tif" in fault(recipe(tmp_path, "vector", coordinates="crs"))
    image(tmp_path, placed=False)
    assert "boxes in a CRS need an image with a georeference" in fault(recipe(tmp_path, "vector", coordinates="crs"))


def test_ids_may_have_a_folder(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / f"set_{name}" / "img").mkdir(parents=True)
        (tmp_path / f"set_{name}" / "txt").mkdir()
        image(tmp_path / f"set_{name}" / "img", "a" if name == "one" else "b")
    yolo(tmp_path / "set_one" / "txt" / "a", ALL)
    yolo(tmp_path / "set_two" / "txt" / "b", ALL[:1])
    made = recipe(tmp_path, "yolo", images="set_{folder}/img/{id}.tif", boxes="set_{folder}/txt/{id}.txt")
    assert [(s.id, len(boxes_of(s.read().target))) for s in scenes(made)] == [("one/a", 3), ("two/b", 1)]
