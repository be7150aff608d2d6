"""What is wrong with a training recipe is told before anything is written, all of it at once."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
from shapely.geometry import box

from geoml import pipeline
from geoml.data import labels
from geoml.data.labels import VectorLabels
from geoml.data.targets.classes import ClassTarget
from geoml.engine.train.fit import fit
from geoml.engine.train.loop import LAST
from geoml.engine.train.state import EARLIER, NOTE, STATE
from geoml.errors import DataError, GeomlError, InputError, ModelError
from geoml.io.cards.map_card import ClassInfo
from geoml.recipe import PredictRecipe, differences
from geoml.testing import pictures as photos

CLASSES = [ClassInfo(value=v, name=n, color="#102030") for v, n in ((4, "dark"), (9, "bright"))]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"init": "no-such-model"}, "no-such-model"),
        ({"task": "segmentatoin"}, "did you mean 'segmentation'"),
        ({"model": {"architecture": "unett", "config": {}}}, "did you mean 'unet'"),
        ({"model": {"architecture": "unet", "config": {"depht": 3}}}, "did you mean 'depth'"),
        ({"loss": {"parts": {"cross_entropi": 1.0}}}, "loss"),
        ({"split": {"kind": "files"}}, "val is empty"),
        ({"split": {"kind": "lists", "train": "nowhere.txt"}}, "nowhere.txt"),
    ],
)
def test_a_typo_leaves_the_folder_free(problem: Any, tmp_path: Path, change: dict[str, Any], says: str) -> None:
    out = tmp_path / "m"
    with pytest.raises(GeomlError, match=says):
        fit(problem(epochs=1, **change), out)
    assert not out.exists()


def test_all_label_values_of_all_splits_are_told_at_once(problem: Any, tmp_path: Path) -> None:
    """One file of train, one of val and two of test hold values that the recipe does not explain."""
    out, folder = tmp_path / "m", tmp_path / "data" / "lab"
    for column, (name, value) in enumerate((("a1", 7), ("v0", 11), ("t0", 13))):
        problem.write(folder / f"{name}.tif", np.full((1, 48, 48), value, np.int16), (1, 4, 5)[column])
    with pytest.raises(DataError) as told:
        fit(problem(epochs=1), out)
    for word in ("7 (", "11 (", "13 (", "a1.tif", "v0.tif", "t0.tif", "[4, 9]", "source.values"):
        assert word in str(told.value), told.value
    assert not out.exists()
    source = problem().source.model_dump()
    mended = problem(epochs=1, source={**source, "values": {7: 4, 11: 9, 13: 9}})
    assert fit(mended, out).training["recipe_hash"] == mended.hash, "in the same folder"


def test_a_file_that_is_damaged_is_told_with_the_others(problem: Any, tmp_path: Path) -> None:
    (tmp_path / "data" / "img" / "t0.tif").write_bytes(b"II*\0" + bytes(400))
    with pytest.raises(DataError, match=r"t0\.tif"):
        fit(problem(epochs=1), tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_all_values_of_all_label_files_are_told_at_once(tmp_path: Path) -> None:
    specs = []
    for name, kinds in (("one", ["dark", "drak", "77"]), ("two", ["bright", "brihgt", "-3"])):
        frame = geopandas.GeoDataFrame({"kind": kinds}, geometry=[box(k, 0, k + 1, 1) for k in range(3)], crs=4326)
        frame.to_file(tmp_path / f"{name}.geojson")
        specs.append(VectorLabels(name=name, file=str(tmp_path / f"{name}.geojson"), field="kind"))
    specs.append(VectorLabels(name="three", file=str(tmp_path / "one.geojson"), field="knid"))
    with pytest.raises(InputError) as told:
        labels.read_all(specs, ClassTarget(CLASSES))
    for word in ("one", "'drak'", "'77'", "two", "'brihgt'", "'-3'", "no field 'knid'", "dark", "map them"):
        assert word in str(told.value), told.value
    good = specs[0].model_copy(update={"values": {"drak": 4, "77": 9}})
    assert labels.read_all([good], ClassTarget(CLASSES))[0]["label"].tolist() == [0, 0, 1]


def test_a_training_that_never_came_to_an_epoch_holds_no_one_up(problem: Any, tmp_path: Path) -> None:
    exploding = {"optimiser": {"kind": "sgd", "lr": 1e30, "clip": 0}, "schedule": {"warmup": 0}}
    with pytest.raises(ModelError):
        fit(problem(epochs=1, **exploding), tmp_path / "m")
    assert not (tmp_path / "m" / STATE / LAST).exists()
    assert fit(problem(epochs=1), tmp_path / "m").training["history"]


def test_another_recipe_is_refused_by_the_fields_that_differ(problem: Any, tmp_path: Path) -> None:
    out = tmp_path / "m"
    other = problem(epochs=2, seed=4, optimiser={"lr": 0.02}, description="another")

    class Killed(BaseException):
        pass

    def kill(_: object) -> None:
        raise Killed

    with pytest.raises(Killed):
        fit(problem(epochs=2), out, on_epoch=kill)
    assert (out / STATE / NOTE).is_file()
    for state in ("an unfinished run", "a model"):
        with pytest.raises(InputError) as told:
            fit(other, out)
        said = str(told.value)
        assert f"contains {state} of a different recipe" in said
        for word in ("seed is 3 there and 4 here", "optimiser.lr is 0.01 there and 0.02 here"):
            assert word in said, said
        assert not [w for w in ("epochs", "description", problem(epochs=2).hash[:8]) if w in said], said
        fit(problem(epochs=2), out)  # goes on, and is finished then


@pytest.mark.parametrize("earlier", EARLIER)
def test_a_state_of_another_version_is_refused_and_left_as_it_is(problem: Any, tmp_path: Path, earlier: str) -> None:
    recipe, state = problem(epochs=1), tmp_path / "m" / STATE
    state.mkdir(parents=True)
    (state / earlier).write_bytes(b"state")
    if earlier == "progress.json":
        (state / NOTE).write_text(json.dumps({"hash": recipe.hash, "recipe": recipe.model_dump(mode="json")}))
    with pytest.raises(InputError, match=r"another version of geoml.*delete .*\.fit to start afresh"):
        fit(recipe, tmp_path / "m")
    assert (state / earlier).read_bytes() == b"state"
    assert fit(recipe, tmp_path / "m", resume=False).training["history"]
    assert not state.exists()


def test_a_locator_with_a_typo_is_told_before_its_training(tmp_path: Path) -> None:
    world = photos.made_world(tmp_path / "world")
    given = photos.world_recipe(world).model_dump(mode="json")
    for change, says in (
        ({"head": {"name": "cells_retrieval", "config": {"neigbours": 3}}}, "did you mean 'neighbours'"),
        ({"head": {"name": "cels"}}, "did you mean 'cells'"),
        ({"source": {**given["source"], "other": f"{world}/juli.png"}}, r"source\.other: .*juli\.png"),
        ({"backbone": "alexnett"}, "alexnet"),
    ):
        training = {**given["training"], "backbone": {}}
        with pytest.raises(GeomlError, match=says):
            pipeline.train({**given, "training": training, **change}, tmp_path / "m")
        assert not (tmp_path / "m").exists()


def _run(**changes: Any) -> PredictRecipe:
    query = {"catalog": "demo", "bbox": [0, 0, 1, 1], "datetime": ["2024"], **changes.pop("query", {})}
    return PredictRecipe.model_validate({"model": "demo-itaipu", "query": query, **changes})


@pytest.mark.parametrize("name", [n for n in PredictRecipe.model_fields if n != "query"])
def test_differences_name_the_field_and_both_values(name: str, change: Callable[[str], Any]) -> None:
    before, now = _run().model_dump(mode="json"), _run(**{name: change(name)})
    said = differences(before, now)
    assert said.startswith(f"{name} is ")
    assert " there and " in said
    assert ";" not in said
    assert differences(before, now, [name]) == ""


@pytest.fixture
def change() -> Callable[[str], Any]:
    """Another value of a field than its default."""

    def other(name: str) -> Any:
        default = PredictRecipe.model_fields[name].default
        if isinstance(default, bool):
            return not default
        if isinstance(default, int | float):
            return type(default)(default / 2 if default else 1)
        words = {
            "mask": "none",
            "features_format": ("fgb",),
            "composite": "mean",
            "join": "blend",
            "harmonise": "histogram",
            "out_of_domain": "allow",
            "pyramid": (2,),
        }
        return words.get(name, "EPSG:32621")

    return other


def test_differences_show_no_secret_and_know_later_fields() -> None:
    url = "https://example.org/r.geojson?sig=secret"
    before = _run(query={"bbox": None, "region": "r.geojson"}).model_dump(mode="json")
    before["query"]["region"] = url  # as it was written down before
    del before["max_shift"]
    said = differences(before, _run())
    assert "query.region is" in said
    assert "query.bbox is null there and [0.0, 0.0, 1.0, 1.0] here" in said
    assert "secret" not in said
    assert "max_shift" not in said
    before["query"]["region"] = "https://me:secret@example.org/r.geojson?sig=secret"
    assert "secret" not in differences(before, _run())
