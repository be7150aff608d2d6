"""The shipped classifier of points on real clouds: a tile that it has not seen, and cuts of a town."""

from __future__ import annotations

from pathlib import Path

import pytest

from geoml.elevation.training.clouds import clouds
from geoml.elevation.training.recipe import CloudSplit, PointRecipe
from geoml.elevation.training.score import score
from geoml.engine.packages import points
from geoml.recipe import load_yaml, parse

pytestmark = pytest.mark.data


def recipe(source: int, test: str) -> PointRecipe:
    """The shipped one, of one of its sources and with other clouds held out."""
    path = Path(__file__).parents[2] / "catalogs" / "recipes" / "point-classes.yaml"
    found = parse(PointRecipe, load_yaml(path), str(path))
    return found.model_copy(update={"split": CloudSplit(test=(test,)), "sources": found.sources[source : source + 1]})


def test_an_unseen_tile_has_its_ground_and_its_buildings() -> None:
    found = score("point-classes", recipe(0, "*77055_627755*"), "test")
    assert found["iou"]["ground"] >= 0.93
    assert found["iou"]["building"] >= 0.8
    assert found["ground"]["total"] <= 3.0
    assert found["methods"]["smrf"]["iou"]["ground"] >= 0.93


def test_parts_of_a_town_have_the_classes_of_the_whole() -> None:
    """228 m from south to north, cut somewhere in the middle."""
    package = points.load("point-classes")
    (town,) = clouds(recipe(1, "ahn3*"), "test")
    whole = package.classify(town.cloud)
    for side in (-1, 1):
        north = side * (town.cloud.y - 447_541.3)
        seen, own = north < package.halo, north < 0
        assert not seen.all()
        assert (package.classify(town.cloud.take(seen))[own[seen]] == whole[own]).all()
