from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geoml.data.prepare import prepare
from geoml.data.sources import point_change
from geoml.data.sources.point_change import match
from geoml.errors import DataError, InputError
from geoml.nn.metrics import IGNORE
from geoml.recipe import parse

CLASSES = [
    {"value": 0, "name": "unchanged", "color": "#000000"},
    {"value": 1, "name": "gain", "color": "#00ff00", "before": "other", "after": "tree"},
    {"value": 2, "name": "loss", "color": "#ff0000", "before": "tree", "after": "other"},
]
SIZE = 60


@pytest.fixture
def made(recipe, tmp_path):
    """made(**source) is a recipe over images of 60 x 60 pixels of 1 m under tmp_path."""

    def make(split=None, **source):
        value = {
            "kind": "point_change",
            "root": str(tmp_path),
            "images": "img/{id}.tif",
            "points": "csv/{id}.csv",
            "dates": ["2016", "2018", "2020"],
            "file_bands": ["grey"],
            "match": 4,
            "apart": 8,
            "radius": 2,
            "ring": 2,
            "edge": 3,
            "gain": 1,
            "loss": 2,
            **source,
        }
        changes = {"split": split} if split else {}
        return recipe(source=value, dates=2, gsd=1, classes=CLASSES, task="change", **changes)

    return make


@pytest.fixture
def place(tif, tmp_path):
    """place(id, points, value, column) writes an image and the pixels of its points."""

    def write(name, points, value=1, column=0):
        where = {"origin": (600_000.0 + column * 1000, 7_000_000.0), "res": 1.0}
        tif(tmp_path / f"img/{name}.tif", np.full((SIZE, SIZE), value, np.uint8), **where)
        path = tmp_path / f"csv/{name}.csv"
        path.parent.mkdir(exist_ok=True)
        path.write_text("x,y\n" + "".join(f"{x},{y}\n" for x, y in points))

    return write


def test_points_become_gain_loss_and_what_is_not_known(made, place):
    place("a_2016_1", [(10, 10), (40, 10), (20, 40), (1, 30)], value=5)
    place("a_2018_1", [(11, 12), (40, 40), (26, 40)], value=9)
    recipe = made()
    (scene,) = point_change.scenes(recipe.source, recipe)
    assert scene.id == "a_2016-2018_1"
    sample = scene.read()
    assert sample.image[:, 0, 0].tolist() == [5, 9]
    target = sample.target
    assert target[10, 10] == target[12, 11] == 0  # the same tree, marked 2.2 m apart
    assert target[10, 40] == 2  # only on the first date
    assert target[40, 40] == 1  # only on the second
    assert target[40, 20] == target[40, 26] == IGNORE  # 6 m apart: too far for one tree, too near for two
    assert target[30, 1] == IGNORE  # alone, but at the edge
    assert target[10, 43] == target[10, 37] == IGNORE  # the ring of the loss: 2 to 4 m
    assert target[10, 45] == 0
    assert (target == 2).sum() == (target == 1).sum() == 13  # a disc of 2 m around a pixel's centre


def test_every_two_dates_of_a_place_are_scenes(made, place):
    for year in ("2016", "2018", "2020"):
        place(f"a_{year}_1", [(30, 30)])
    place("b_2016_7", [(30, 30)], column=3)
    place("b_2020_7", [], column=3)

    def names(**source):
        recipe = made(**source)
        return [s.id for s in point_change.scenes(recipe.source, recipe)]

    assert names() == ["a_2016-2018_1", "a_2016-2020_1", "a_2018-2020_1", "b_2016-2020_7"]
    assert names(pairs="consecutive") == ["a_2016-2018_1", "a_2018-2020_1", "b_2016-2020_7"]
    assert names(pairs="longest") == ["a_2016-2020_1", "b_2016-2020_7"]
    recipe = made()
    last = point_change.scenes(recipe.source, recipe)[-1].read().target
    assert set(np.unique(last)) == {0, 2, IGNORE}  # no point on the second date: all is loss


def test_a_list_of_one_year_decides_for_all_pairs_of_the_ground(made, place, tmp_path):
    for column, name in enumerate("abc"):
        for year in ("2016", "2018"):
            place(f"{name}_{year}_1", [(30, 30)], column=column * 2)
    (tmp_path / "train.txt").write_text("a_2020_1\nc_2020_1\n")
    (tmp_path / "val.txt").write_text("b_2020_1\n")  # its image of 2020 is not here
    lists = {"kind": "lists", "train": "train.txt", "val": "val.txt", "same_ground": True}
    found = prepare(made(lists))
    assert [p.scene.id for p in found["train"]] == ["a_2016-2018_1", "c_2016-2018_1"]
    assert [p.scene.id for p in found["val"]] == ["b_2016-2018_1"]
    (tmp_path / "val.txt").write_text("b_2020_1\na_2018_1\n")
    with pytest.raises(InputError, match="a_2016-2018_1 is of images in train and val"):
        prepare(made(lists))


def test_a_missing_file_is_an_error_or_no_points(made, place, tmp_path):
    place("a_2016_1", [(30, 30)])
    place("a_2018_1", [])
    (tmp_path / "csv/a_2018_1.csv").unlink()
    recipe = made()
    with pytest.raises(DataError, match="no_file"):
        point_change.scenes(recipe.source, recipe)
    recipe = made(no_file="empty")
    (scene,) = point_change.scenes(recipe.source, recipe)
    assert (scene.read().target == 2).any()


@pytest.mark.parametrize(
    ("change", "says"), [({"apart": 1}, "less than match"), ({"stamp": "_"}, "stamp"), ({"match": 0}, "match")]
)
def test_a_wrong_rule_is_named(made, change, says):
    good = made().model_dump(mode="json")
    with pytest.raises(InputError, match=says):
        parse(type(made()), {**good, "source": {**good["source"], **change}}, "recipe")


def test_a_value_that_is_no_class_is_named(made, place):
    place("a_2016_1", [])
    place("a_2018_1", [])
    recipe = made(gain=5)
    with pytest.raises(InputError, match=r"source.gain: 5 is not a class"):
        point_change.scenes(recipe.source, recipe)


def test_pairs_are_one_to_one_and_nearest_first():
    first, second = np.array([[0.0, 0], [3, 0]]), np.array([[2.0, 0], [20, 0]])
    found = match(first, second, 4, 8)
    assert sorted(found.stayed.tolist()) == [[2, 0], [3, 0]]  # 1 apart; the other, 2 apart, has lost its partner
    assert found.unsure.tolist() == [[0, 0]]
    assert found.gained.tolist() == [[20, 0]]
    assert not len(found.lost)


points = st.lists(st.tuples(*[st.integers(0, 40)] * 2), max_size=12).map(lambda p: np.array(p, float).reshape(-1, 2))


@settings(deadline=None)
@given(points, points)
def test_every_point_is_in_one_group_and_swapped_dates_swap_gain_and_loss(first, second):
    found, back = match(first, second, 4, 8), match(second, first, 4, 8)

    def rows(a):
        return sorted(map(tuple, a.tolist()))

    groups = (found.stayed, found.lost, found.gained, found.unsure)
    assert rows(np.concatenate(groups)) == rows(np.concatenate([first, second]))
    assert rows(found.lost) == rows(back.gained)
    assert rows(found.gained) == rows(back.lost)
    for lone, others in ((found.lost, second), (found.gained, first)):
        if len(lone) and len(others):
            assert np.hypot(*(lone[:, None] - others[None]).transpose(2, 0, 1)).min() > 8
