from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from geoml.data.recipe import BY_BAND, STANDARD, STRONG, ChangeRecipe, TrainRecipe, resolve, swapped
from geoml.errors import InputError
from geoml.io.cards.map_card import ClassInfo
from geoml.pipeline import training
from geoml.recipe import load_yaml, parse
from geoml.settings import settings
from geoml.tasks._classes import loss_parts

FOLDER = Path(__file__).parents[3] / "catalogs" / "recipes"
RECIPES = {p.stem: load_yaml(p) for p in FOLDER.glob("*.yaml")}
PLACES = sorted(name for name, value in RECIPES.items() if value.get("task") == "geolocation")
SHIPPED = sorted(name for name, value in RECIPES.items() if "source" in value and name not in PLACES)


def shipped(name):
    return training(name)[1]


@pytest.fixture(autouse=True)
def _fresh_settings(monkeypatch):
    monkeypatch.delenv("GEOML_DATA", raising=False)
    settings.cache_clear()
    yield
    settings.cache_clear()


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_recipes_parse_and_name_data_by_variable_only(name):
    found = shipped(name)
    root = getattr(found.source, "root", "${GEOML_CATALOGS}")
    assert root.startswith("${GEOML_")


@pytest.mark.parametrize("name", PLACES)
def test_shipped_recipes_of_geolocation_parse_and_name_data_by_variable_or_package(name):
    source = shipped(name).source
    for place in (source.picture, source.other, source.land, *source.renderings):
        assert place.startswith(("${GEOML_", "basemap:"))


def test_hash_does_not_depend_on_the_machine(monkeypatch, tmp_path):
    before = shipped(SHIPPED[0]).hash
    monkeypatch.setenv("GEOML_DATA", str(tmp_path))
    settings.cache_clear()
    assert shipped(SHIPPED[0]).hash == before


def test_hash_changes_with_what_changes_the_weights(recipe):
    assert recipe(seed=1).hash != recipe(seed=2).hash
    assert recipe(description="a").hash == recipe(description="b").hash


def test_hashes_from_before_pairs_still_hold():
    """As `geoml train` wrote them to cards before recipes knew dates, swap, same, buffer, before and after."""
    known = {
        "demo-itaipu": "f9571bfb3cadf3d21aec95ee964bb8a9d520b0b06b7eddd4bb361b52c5721407",
        "sen1floods11-water": "5940098b564d7e2f67ee44e5a033961123ebe6f0b3b8967aa03ecbecb2846f31",
        "urban-trees": "5f6f467840d7794ac5663304cfe32534d04c47e1cf61cfaf1b38c0755e8fcd09",
    }
    assert {name: shipped(name).hash for name in known} == known
    for card in FOLDER.parent.glob("models/*/model.json"):
        training = json.loads(card.read_text(encoding="utf-8"))["properties"].get("geoml:training", {})
        later = {shipped("kit-cars").hash}
        assert training.get("recipe_hash") in {None, *known.values(), *later}  # None: calibrated, not trained


def test_later_fields_count_where_they_are_set(recipe):
    blocks = {"kind": "blocks", "size": 100}
    classes = recipe().model_dump(mode="json")["classes"]
    changes = [
        {},
        {"task": "change"},
        {"task": "change", "augmentation": {"same": 0.1}},
        {"task": "change", "augmentation": {"swap": 0.1}},
        {"split": blocks},
        {"split": {**blocks, "buffer": 10}},
        {"classes": [classes[0], {**classes[1], "before": "a", "after": "b"}]},
    ]
    hashes = [recipe(**change).hash for change in changes]
    assert len(set(hashes)) == len(changes)
    assert recipe(split={**blocks, "buffer": 0}, augmentation={"swap": 0, "same": 0}, dates=1).hash == hashes[4]


def classes(*ways):
    rows = [ClassInfo(value=0, name="unchanged", color="#000000")]
    return rows + [
        ClassInfo(value=i + 1, name=f"{a}-{b}", color="#000000", before=a, after=b) for i, (a, b) in enumerate(ways)
    ]


def test_classes_turn_round_with_the_dates():
    assert swapped(classes(("a", "b"), ("b", "a"), ("a", "c"), ("c", "a"))) == (0, 2, 1, 4, 3)
    assert swapped(classes((None, None))) == (0, 1)
    with pytest.raises(ValueError, match="no class goes from c to a"):
        swapped(classes(("a", "b"), ("b", "a"), ("a", "c")))


def test_a_swap_without_the_class_turned_round_is_refused(recipe):
    value = recipe().model_dump(mode="json")
    one_way = [value["classes"][0], {**value["classes"][1], "before": "tree", "after": "other"}]
    with pytest.raises(InputError, match=r"augmentation.swap: no class goes from other to tree"):
        parse(ChangeRecipe, {**value, "task": "change", "classes": one_way, "augmentation": {"swap": 0.5}}, "recipe")


def test_resolve(monkeypatch, tmp_path):
    with pytest.raises(InputError, match="GEOML_DATA is not set"):
        resolve("${GEOML_DATA}/x")
    monkeypatch.setenv("GEOML_DATA", str(tmp_path))
    settings.cache_clear()
    assert resolve("${GEOML_DATA}/x/y") == tmp_path / "x" / "y"
    assert resolve("plain/path") == Path("plain/path")
    with pytest.raises(InputError, match="only"):
        resolve("a/${HOME}/b")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"epoch": 3}, "epoch"),
        ({"bands": ["red"]}, "file_bands"),
        ({"bands": ["grey", "grey"]}, "twice"),
        ({"loss": {"weights": [1, 2, 3]}}, "3 weights for 2 classes"),
        ({"split": {"kind": "labels", "train": ["a"]}}, "'stac'"),
        ({"split": {"kind": "random"}}, "split"),
        ({"classes": [{"value": 1, "name": "a", "color": "#000000"}] * 2}, "twice"),
    ],
)
def test_a_wrong_field_is_named(recipe, change, says):
    value = {**recipe().model_dump(mode="json"), **change}
    with pytest.raises(InputError, match=says):
        parse(TrainRecipe, value, "recipe")


def test_an_unknown_recipe_is_an_input_error():
    with pytest.raises(InputError, match="no-such"):
        shipped("no-such")


def test_what_a_recipe_does_not_say(recipe):
    value = recipe().model_dump(mode="json")
    silent = {k: v for k, v in value.items() if k not in ("model", "init", "augmentation", "loss")}
    found = parse(TrainRecipe, silent, "recipe")
    assert (found.model, found.init, found.augmentation, found.loss.parts) == (STANDARD, BY_BAND, STRONG, "auto")
    assert found.hash == parse(TrainRecipe, found.model_dump(mode="json"), "recipe").hash
    assert parse(TrainRecipe, {**silent, "init": None}, "recipe").init is None
    said = {**silent, "model": value["model"], "augmentation": {"flips": False}, "loss": {"weights": "auto"}}
    found = parse(TrainRecipe, said, "recipe")
    assert (found.init, found.augmentation.rotate, found.loss.parts) == (None, 0, {"cross_entropy": 1.0})


@pytest.mark.parametrize(
    ("pixels", "parts"),
    [
        ((50, 50), {"cross_entropy": 1.0, "dice": 0.5}),
        ((940, 60), {"cross_entropy": 1.0, "dice": 0.5}),
        ((960, 40), {"focal": 1.0, "dice": 0.5}),
        ((960, 0), {"cross_entropy": 1.0, "dice": 0.5}),
    ],
)
def test_the_loss_goes_by_the_rarest_class(recipe, pixels, parts):
    found = recipe(loss={"parts": "auto"})
    assert loss_parts(found, np.array(pixels)) == parts
    assert loss_parts(recipe(loss={"parts": {"dice": 2.0}}), np.array(pixels)) == {"dice": 2.0}
