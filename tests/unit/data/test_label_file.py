"""Files of labels as people make them: what cannot be meant is refused with field and count, the rest is counted."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyogrio
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from geoml.data import label_file
from geoml.data.label_file import LabelFile, word
from geoml.errors import DataError, InputError, NothingFound

Frame = gpd.GeoDataFrame

POINTS = [(14.0, 46.0), (14.1, 46.0), (14.2, 46.1), (14.3, 46.1)]


def points(classes: list[Any], at: list[tuple[float, float]] = POINTS, crs: Any = "EPSG:4326", **more: Any) -> Frame:
    return Frame({"class": classes, **more}, geometry=shapely.points(at[: len(classes)]), crs=crs)


def squares(classes: list[Any], corners: list[tuple[float, float]], side: float = 100.0, **more: Any) -> Frame:
    shapes = [shapely.box(x, y, x + side, y + side) for x, y in corners]
    return Frame({"class": classes, **more}, geometry=shapes, crs="EPSG:32633")


APART = [(500_000.0 + 300 * k, 5_100_000.0) for k in range(6)]


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., LabelFile]:
    """``read(frame, "class")`` by way of a GeoPackage."""

    def run(frame: Frame, column: str = "class", **how: Any) -> LabelFile:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a frame without a CRS
            frame.to_file(tmp_path / "labels.gpkg")
        return label_file.read(tmp_path / "labels.gpkg", column, **how)

    return run


@pytest.mark.parametrize("name", ["a.gpkg", "a.geojson", "a.shp", "a.parquet"])
@pytest.mark.parametrize("kind", ["point", "polygon"])
def test_every_format_says_the_same(name: str, kind: str, tmp_path: Path) -> None:
    frame = points(["wood", "lake", "lake"]) if kind == "point" else squares(["wood", "lake", "lake"], APART[:3])
    if name.endswith(".geojson"):
        frame = frame.to_crs("EPSG:4326")
    frame.to_parquet(tmp_path / name) if name.endswith(".parquet") else frame.to_file(tmp_path / name)
    found = label_file.read(tmp_path / name, "class")
    assert (found.kind, found.classes, found.left_out) == (kind, ("lake", "wood"), {})
    assert found.frame["label"].tolist() == [1, 0, 0]
    assert found.frame.crs == "EPSG:4326"
    want = frame.to_crs("EPSG:4326").geometry.to_numpy()
    assert shapely.hausdorff_distance(found.frame.geometry.to_numpy(), want).max() < 1e-6


def test_classes_are_in_the_order_of_numbers_then_of_names(read: Callable[..., LabelFile]) -> None:
    at = [(14 + k / 100, 46.0) for k in range(7)]
    found = read(points(["10", "9", "wood", "nan", "-1", " Lake ", "2"], at))
    assert found.classes == ("-1", "2", "9", "10", "Lake", "nan", "wood")
    assert read(points([2.0, 10.0, 2.0, 1.0])).classes == ("1", "2", "10")


@pytest.mark.parametrize(
    ("value", "says"),
    [(None, None), (float("nan"), None), (pd.NA, None), ("", None), ("  ", None), (np.float32("nan"), None),
     (3.0, "3"), (np.float32(3), "3"), (np.int64(4), "4"), (2.5, "2.5"), (" a b ", "a b"), (True, "True"),
     (float("inf"), None)],
)  # fmt: skip
def test_a_value_is_a_name_or_none(value: object, says: str | None) -> None:
    assert word(value) == says


def test_what_is_missing_in_some_rows_is_left_out_and_counted(read: Callable[..., LabelFile]) -> None:
    frame = points(["a", None, "", "b"] * 3, POINTS * 3)
    frame.loc[[0, 11], "geometry"] = [shapely.Point(), None]
    found = read(frame)
    assert found.left_out == {"without a geometry": 2, "without a value in class": 6}
    assert found.frame["label"].tolist() == [1, 0, 1, 0]
    assert found.frame.index.tolist() == [0, 1, 2, 3]


def test_each_point_of_a_multipoint_is_a_place(read: Callable[..., LabelFile]) -> None:
    frame = Frame(
        {"class": ["a", "b"]}, geometry=[shapely.MultiPoint(POINTS[:3]), shapely.MultiPoint(POINTS[3:])], crs=4326
    )
    found = read(frame)
    assert found.frame["label"].tolist() == [0, 0, 0, 1]
    assert [(p.x, p.y) for p in found.frame.geometry] == POINTS


@pytest.mark.parametrize(
    ("frame", "says"),
    [
        (points([None, "", " "]), "field: 'class' is empty in all 3 rows of FILE; expected"),
        (points([None]), "field: 'class' is empty in the only row of FILE; expected"),
        (points(["a"]).iloc[:0], "labels: FILE has no rows; expected places"),
        (Frame({"class": ["a", "b"]}, geometry=[None, None], crs=4326), "labels: FILE has no geometry in any row"),
        (points(["a"] * 4), "field: 'class' is 'a' in all 4 rows of FILE; expected two"),
        (points(["a"]), "field: 'class' is 'a' in the only row of FILE; expected two"),
        (points(list(range(300)), [(k / 10, 46.0) for k in range(300)]),
         "field: 300 values of 'class' in 300 rows of FILE; at most 254"),
        (points(["a", "b"], [(14, 100.0), (14, 46)]), "labels: 1 of 2 places of FILE has a latitude beyond 90 degrees"),
        (points(["a", "b", "a"], crs=None), r"labels: FILE has no CRS; expected one in the file \(none of the 3 "),
        (Frame({"class": ["a", "b", "a"]}, crs=4326,
               geometry=[shapely.Point(1, 2), shapely.box(0, 0, 1, 1), shapely.box(0, 0, 1, 1)]),
         "labels: 2 polygons and 1 point in FILE; expected all points or all polygons"),
        (Frame({"class": ["a", "b"]}, crs=4326, geometry=[shapely.LineString([(0, 0), (1, k)]) for k in (1, 2)]),
         "labels: 2 lines in FILE"),
        (squares(["a", "b", "a", "b"], [(0, 5e6), (50, 5e6), (900, 5e6), (950, 5e6)]),
         r"field: 2 pairs of polygons with two values of 'class' overlap in FILE, such as row 1 \(a\) and row 2 \(b\)"),
        (squares([None, "a", "b"], [(0, 5e6), (500, 5e6), (550, 5e6)]),
         r"field: 1 pair of polygons .* overlaps in FILE, such as row 2 \(a\) and row 3 \(b\)"),
        (points(list("aaabbbc"), [(14 + k / 100, 46) for k in range(7)], id=[1, 1, 2, 2, 2, 2, 3]),
         r"field: 'class' and 'id' contradict each other in 1 of 7 rows of FILE \('a' is '1' in 2, 'a' is '2' in 1\)"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused_with_field_and_count(
    frame: Frame, says: str, read: Callable[..., LabelFile], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=says.replace("FILE", re.escape(str(tmp_path / "labels.gpkg")))):
        read(frame)


def test_a_border_drawn_twice_is_no_overlap(read: Callable[..., LabelFile]) -> None:
    assert read(squares(["a", "b"], [(0, 5e6), (99.5, 5e6)])).classes == ("a", "b")
    same = read(squares(["a", "a", "b"], [(0, 5e6), (50, 5e6), (500, 5e6)]))
    assert len(same.frame) == 3, "polygons of one class may overlap"


def test_a_column_that_says_the_same_or_something_else_is_no_contradiction(read: Callable[..., LabelFile]) -> None:
    names = ["a"] * 90 + ["b"] * 10
    at = [(14 + k / 100, 46.0) for k in range(100)]
    sure = ["high", *["low"] * 9, *["high"] * 80, "low", *["high"] * 9]  # 81, 9, 9, 1: no more than chance
    found = read(points(names, at, fid=range(100), code=[n.upper() for n in names],
                        finer=[f"{n}{k % 2}" for k, n in enumerate(names)], sure=sure, year=[2020] * 100))  # fmt: skip
    assert len(found.frame) == 100


def test_a_column_that_is_silent_about_a_row_contradicts_the_others(read: Callable[..., LabelFile]) -> None:
    frame = points(list("aaaabbbb"), [(14 + k / 100, 46) for k in range(8)], id=[None, *"1112222"])
    assert read(frame).classes == ("a", "b")
    frame.loc[3, "id"] = "2"
    with pytest.raises(InputError, match="in 1 of 8 rows"):
        read(frame)


def test_a_contradiction_may_be_allowed(read: Callable[..., LabelFile]) -> None:
    frame = points(list("aaabbb"), [(14 + k / 100, 46) for k in range(6)], id=[1, 1, 1, 1, 2, 2])
    with pytest.raises(InputError, match="--contradictions allow"):
        read(frame)
    assert read(frame, contradictions=True).classes == ("a", "b")


def test_a_file_with_several_layers_has_to_be_asked_for_one(tmp_path: Path) -> None:
    path = tmp_path / "a.gpkg"
    pyogrio.write_dataframe(pd.DataFrame({"class": ["x", "y"]}), path, layer="about")
    points(["a", "b"]).to_file(path, layer="first", mode="a")
    assert label_file.read(path, "class").classes == ("a", "b"), "a table without geometry is not a layer of labels"
    points(["c", "d"]).to_file(path, layer="second", mode="a")
    with pytest.raises(InputError, match=r"layer: .* has 2 layers: first, second; choose one, .*:first"):
        label_file.read(path, "class")
    with pytest.raises(InputError, match=r"layer: no 'third' in .*; it has first, second"):
        label_file.read(path, "class", "third")
    assert label_file.read(path, "class", "second").classes == ("c", "d")


def test_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("class,x,y\na,1,2\nb,3,4\n")
    with pytest.raises(InputError, match=r"labels: .*a.csv is not a .geojson, .*expected one of these"):
        label_file.read(tmp_path / "a.csv", "class")
    with pytest.raises(InputError, match="does not exist"):
        label_file.read(tmp_path / "gone.gpkg", "class")
    for name in ("a.gpkg", "a.parquet", "a.geojson"):
        (tmp_path / name).write_bytes(b"nothing")
        with pytest.raises(DataError, match="cannot be read as vectors"):
            label_file.read(tmp_path / name, "class")
    points(["a", "b"]).to_file(tmp_path / "b.gpkg")
    for column in ("klass", "geometry", "geom"):
        with pytest.raises(InputError, match=rf"field: no '{column}' in .*; it has class"):
            label_file.read(tmp_path / "b.gpkg", column)


@pytest.mark.data
@pytest.mark.parametrize("column", ["class", "id"])
def test_the_polygons_of_landsat7_contradict_themselves(column: str) -> None:
    path = Path(os.environ["GEOML_DATA"]) / "fewlabels" / "landsat7_1999" / "training_data.shp"
    with pytest.raises(InputError, match=rf"field: '{column}' and '(class|id)' contradict each other in 2 of 30 rows"):
        label_file.read(path, column)
    found = label_file.read(path, column, contradictions=True)
    assert (found.kind, len(found.frame), len(found.classes)) == ("polygon", 30, 5)


def test_what_a_map_says_of_a_place_may_be_corrected(tmp_path: Path) -> None:
    names = list("ab") * 10
    for column, taken in (("mapped", True), ("geoml_mapped", True), ("id", False)):
        frame = points(names, 5 * POINTS).assign(**{column: ["b", *names[1:]]})
        frame.to_file(tmp_path / "next.gpkg")
        if taken:
            assert label_file.read(tmp_path / "next.gpkg", "class").classes == ("a", "b")
            continue
        with pytest.raises(InputError, match="contradict each other in 1 of 20 rows"):
            label_file.read(tmp_path / "next.gpkg", "class")


def test_what_lies_outside_of_the_region_is_counted(read: Callable[..., LabelFile]) -> None:
    found = read(points(["a", "b", "a", "b"]))
    region = shapely.MultiPolygon([shapely.box(13.9, 45.9, 14.15, 46.05)])
    inside = label_file.within(found, region)
    assert inside.left_out == {"outside of the region": 2}
    assert inside.frame["label"].tolist() == [0, 1]
    assert label_file.within(inside, region) is inside
    with pytest.raises(NothingFound, match=r"labels: none of 4 places of .*labels.gpkg lies in the region"):
        label_file.within(found, shapely.MultiPolygon([shapely.box(0, 0, 1, 1)]))
    with pytest.raises(InputError, match=r"none of 4 places .* 4 of them would with x and y swapped"):
        label_file.within(found, shapely.MultiPolygon([shapely.box(45, 13, 47, 15)]))


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:32633"])
def test_swapped_axes_are_hinted_at_if_most_places_show_it(read: Callable[..., LabelFile], crs: str) -> None:
    x, y = np.full(20, 14.0), 46 + np.arange(20) / 100
    right = Frame({"class": list("ab") * 10}, geometry=shapely.points(x, y), crs="EPSG:4326").to_crs(crs)
    found = read(right.set_geometry(shapely.transform(right.geometry.to_numpy(), lambda c: c[:, ::-1]), crs=crs))
    near = shapely.MultiPolygon([shapely.box(13.9, 45.9, 14.1, 46.165)])
    with pytest.raises(
        InputError, match=r"none of 20 places of .* lies in the region, and 17 of them would with x and y sw"
    ):
        label_file.within(found, near)
    few = shapely.MultiPolygon([shapely.box(13.9, 45.9, 14.1, 46.095)])
    with pytest.raises(NothingFound, match=r"none of 20 places of .* lies in the region$"):
        label_file.within(found, few)


@settings(max_examples=10)
@given(st.integers(0, 999), st.sampled_from([50.0, 250.0, 1000.0]))
def test_ground_is_one_square_of_its_side(seed: int, side: float) -> None:
    at = np.random.default_rng(seed).uniform((500_000, 5_100_000), (502_000, 5_102_000), (40, 2))
    frame = Frame({"label": [0] * 40}, geometry=shapely.points(at), crs="EPSG:32633").to_crs(4326)
    number = label_file.ground(LabelFile(frame, ("a",), "point"), side)
    for piece in np.unique(number):
        assert np.ptp(at[number == piece], axis=0).max() <= side * (1 + 1e-6)
    near = np.linalg.norm(at[:, None] - at, axis=2) > side * 1.5
    assert (number[:, None] != number)[near].all()
    assert (label_file.ground(LabelFile(frame, ("a",), "point"), 0) == np.arange(40)).all()


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 999), st.sampled_from([50.0, 200.0]))
def test_polygons_of_other_ground_share_no_square(seed: int, side: float) -> None:
    random = np.random.default_rng(seed)
    corner, size = random.uniform((500_000, 5_100_000), (502_000, 5_102_000), (30, 2)), random.uniform(5, 400, (30, 2))
    boxes = shapely.box(*corner.T, *(corner + size).T)
    shapes = shapely.union(boxes[0], boxes[1]), *boxes[2:]
    frame = Frame({"label": [0] * 29}, geometry=list(shapes), crs="EPSG:32633").to_crs(4326)
    number = label_file.ground(LabelFile(frame, ("a",), "polygon"), side)
    low, high = np.floor(corner / side), np.floor((corner + size) / side)
    shared = ((low[:, None] <= high) & (high[:, None] >= low)).all(2)  # of a box with a box
    of = np.r_[0, 0, 1:29]
    expected = of
    for one, two in np.argwhere(shared):
        expected = np.where(expected == expected[one], expected[two], expected)
    expected = expected[np.unique(of, return_index=True)[1]]
    np.testing.assert_array_equal(number[:, None] == number, expected[:, None] == expected)


def test_polygons_that_touch_are_one_piece_of_ground_however_long_they_are() -> None:
    """By their middles they are kilometres apart."""
    field, strip = (
        shapely.box(500_010, 5_100_000, 504_000, 5_103_000),
        shapely.box(504_000, 5_100_000, 508_000, 5_103_000),
    )
    far = shapely.box(508_500, 5_100_000, 508_600, 5_100_100)
    frame = Frame({"label": [0] * 3}, geometry=[field, strip, far], crs="EPSG:32633").to_crs(4326)
    one, two, three = label_file.ground(LabelFile(frame, ("a",), "polygon"), 200.0)
    assert one == two != three


@pytest.mark.parametrize(
    ("label", "number", "says"),
    [
        ([0, 0, 1], [0, 1, 2], "field: 1 of 2 classes of 'class' has fewer than two points, .*: b has 1"),
        ([0, 0, 0], [0, 1, 2], "field: 1 of 2 classes of 'class' has fewer than two points, .*: b has 0"),
        (
            [0, 0, 1, 1, 1],
            [0, 1, 4, 4, 4],
            r"field: 1 of 2 classes of 'class' lies on one piece of ground .*\(all 3 of b; .*--ground",
        ),
    ],
)
def test_a_class_that_cannot_be_held_out_is_refused(label: list[int], number: list[int], says: str) -> None:
    frame = Frame({"label": label}, geometry=shapely.points([(k, 0) for k in range(len(label))]), crs=4326)
    with pytest.raises(InputError, match=says):
        label_file.check_ground(LabelFile(frame, ("a", "b"), "point"), np.array(number), "class")
