"""Labels are held out by squares of ground, each class in all three splits, or refused with what there is."""

from __future__ import annotations

import geopandas as gpd
import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from geoml.data import ground_split
from geoml.data.ground_split import LEAST, cut, split_ground, squares_of, too_few
from geoml.errors import InputError

CRS, GSD = "EPSG:32633", 10.0


def drawn(boxes: list[tuple[int, float, float, float]]) -> gpd.GeoDataFrame:
    """Squares (label, west, south, side) in metres."""
    shapes = [shapely.box(x, y, x + s, y + s) for _, x, y, s in boxes]
    return gpd.GeoDataFrame({"label": [k for k, *_ in boxes]}, geometry=shapes, crs=CRS)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 99), classes=st.integers(2, 5), each=st.integers(3, 8))
def test_every_class_is_in_every_split_on_ground_of_its_own(seed: int, classes: int, each: int) -> None:
    random = np.random.default_rng(seed)
    boxes = [(k, *random.uniform(0, 40_000, 2), 60.0) for k in range(classes) for _ in range(each)]
    labels = drawn(boxes)
    found = split_ground(labels, [f"c{k}" for k in range(classes)], GSD, seed=seed)
    frame = found.frame
    assert frame.groupby("split")["label"].nunique().to_dict() == dict.fromkeys(("train", "val", "test"), classes)
    assert (frame.groupby("square")["split"].nunique() == 1).all(), "a square is in one split whole"
    assert frame.area.sum() == pytest.approx(labels.area.sum(), rel=0.02)
    again = split_ground(labels, [f"c{k}" for k in range(classes)], GSD, seed=seed)
    assert again.frame.equals(frame)


def test_a_large_polygon_is_cut_and_small_ones_are_counted() -> None:
    labels = drawn([(0, 0, 0, 1000), (1, 5000, 0, 1000), (2, 9000, 0, 40)])
    names = ["wheat", "maize", "pond"]
    with pytest.raises(
        InputError,
        match=r"1 of 3 classes cannot be split; .*: class pond: 1 label drawn, 16 pixels, in 1 square of \d+ m\. Draw",
    ):
        split_ground(labels, names, GSD)
    assert too_few(labels, names, GSD) == [2]
    found = split_ground(labels[labels["label"] < 2], names[:2], GSD)
    assert set(found.frame["split"]) == {"train", "val", "test"}
    share = found.frame[found.frame["split"] == "train"].area.sum() / found.frame.area.sum()
    assert 0.3 < share < 0.8


def test_pieces_cover_their_polygon_and_know_their_square() -> None:
    labels = drawn([(0, 95, 95, 105)])
    pieces = cut(labels, 100, GSD)
    assert sorted(pieces.area.round().tolist()) == [500.0, 500.0, 10000.0], "the corner of 5 m holds no pixel"
    assert squares_of(pieces, 2) == [LEAST, 0]


def test_pieces_are_polygons_where_an_edge_runs_along_a_square() -> None:
    corner = shapely.union(shapely.box(20, 20, 150, 40), shapely.box(100, 20, 150, 90))
    whole = shapely.intersection(shapely.box(0, 0, 100, 100), corner)
    assert whole.geom_type == "GeometryCollection", "a polygon, and the line where the corner only touches the square"
    pieces = cut(gpd.GeoDataFrame({"label": [0]}, geometry=[corner], crs=CRS), 100.0, GSD)
    assert set(pieces.geom_type) <= {"Polygon", "MultiPolygon"}
    assert sorted(pieces.area) == [80 * 20, 50 * 70]
    assert squares_of(pieces, 1) == [2]


@pytest.mark.parametrize("at_once", [1, 4, 10_000])
def test_halves_give_the_same_pieces(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    ring = shapely.Point(512, 333).buffer(500).difference(shapely.Point(500, 300).buffer(400))
    monkeypatch.setattr(ground_split, "AT_ONCE", at_once)
    pieces = cut(gpd.GeoDataFrame({"label": [0]}, geometry=[ring], crs=CRS), 100.0, GSD)
    corners = [(x, y) for x in range(-2, 12) for y in range(-3, 10)]
    parts = [ring.intersection(shapely.box(100 * x, 100 * y, 100 * x + 100, 100 * y + 100)).area for x, y in corners]
    assert np.sort(pieces.area) == pytest.approx(sorted(a for a in parts if a >= 50))
    assert pieces["square"].nunique() == len(pieces)


def test_huge_labels_are_cut_where_there_is_ground_and_no_further_than_they_are_held(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    road = shapely.LineString([(0, 0), (400_000, 400_000)]).buffer(20)  # 25 million squares of 80 m around it
    labels = gpd.GeoDataFrame({"label": [0, 1]}, geometry=[road, shapely.box(0, 0, 70, 70)], crs=CRS)
    assert too_few(labels, ["road", "pond"], GSD) == [1]
    assert squares_of(cut(labels, 80.0, GSD), 2)[0] == pytest.approx(2 * 5000, rel=0.6)
    with pytest.raises(
        InputError, match=r"1 of 2 classes cannot be split; .*class pond: 1 label drawn, 49 pixels, in 1 square of"
    ):
        split_ground(labels, ["road", "pond"], GSD)
    monkeypatch.setattr(ground_split, "MOST", 1000)
    with pytest.raises(InputError, match=r"ground: .* more than 1000 squares of 80 m; .* --ground 1280"):
        cut(labels, 80.0, GSD)
