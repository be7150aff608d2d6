from __future__ import annotations

from pathlib import Path

import pytest

from geoml.data.recipe import TrainRecipe, load_recipe, resolve
from geoml.errors import InputError
from geoml.recipe import load_yaml, parse
from geoml.settings import settings

FOLDER = Path(__file__).parents[3] / "catalogs" / "recipes"
SHIPPED = sorted(p.stem for p in FOLDER.glob("*.yaml") if "source" in load_yaml(p))


@pytest.fixture(autouse=True)
def _fresh_settings(monkeypatch):
    monkeypatch.delenv("GEOML_DATA", raising=False)
    settings.cache_clear()
    yield
    settings.cache_clear()


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_recipes_parse_and_name_data_by_variable_only(name):
    found = load_recipe(name)
    root = getattr(found.source, "root", "${GEOML_CATALOGS}")
    assert root.startswith("${GEOML_")


def test_hash_does_not_depend_on_the_machine(monkeypatch, tmp_path):
    before = load_recipe(SHIPPED[0]).hash
    monkeypatch.setenv("GEOML_DATA", str(tmp_path))
    settings.cache_clear()
    assert load_recipe(SHIPPED[0]).hash == before


def test_hash_changes_with_what_changes_the_weights(recipe):
    assert recipe(seed=1).hash != recipe(seed=2).hash
    assert recipe(description="a").hash == recipe(description="b").hash


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
        load_recipe("no-such")
