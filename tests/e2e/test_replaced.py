"""A package that is replaced, and software that is, while a run is under way: nothing is mixed without a word."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from geoml import pipeline, testing
from geoml.errors import InputError, ModelError
from geoml.io.software import software
from geoml.recipe import PredictRecipe, parse

BANDS = ("red", "nir")


@pytest.fixture
def recipe(tmp_path: Path) -> PredictRecipe:
    scene = testing.Scene(id="A1", data=testing.smooth((2, 256, 256)), bands=BANDS)
    catalog = testing.write_catalog(tmp_path / "made", [scene])
    testing.threshold_model(tmp_path / "model", BANDS, (0.2, 0.4))
    query = {"catalog": str(catalog), "bbox": list(scene.bbox(inner=0.1)), "datetime": ["2024-06-01"]}
    value = {"model": str(tmp_path / "model"), "query": query, "block_size": 128, "features": False}
    return parse(PredictRecipe, value, "recipe")


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def weights(model: Path) -> None:
    shutil.rmtree(model)
    testing.threshold_model(model, BANDS, (0.05, 0.9))


def classes(model: Path) -> None:
    edit(model / "model.json", lambda m: m["properties"]["mlm:output"][0]["classification:classes"].reverse())


def scaling(model: Path) -> None:
    edit(model / "model.json", lambda m: m["properties"]["mlm:input"][0]["value_scaling"][0].update(mean=0.5))


@pytest.mark.parametrize("replace", [weights, classes, scaling])
def test_a_package_that_is_replaced_after_the_plan_is_refused(
    recipe: PredictRecipe, tmp_path: Path, replace: Callable[[Path], None]
) -> None:
    out = tmp_path / "out"
    pipeline.plan(recipe, out)
    pipeline.run_blocks(out, pipeline.todo(out)[:1])  # the old package, which this process remembers
    replace(tmp_path / "model")
    name = {weights: "sha256", classes: "classes", scaling: "bands"}[replace]
    before = {p.name: p.read_bytes() for p in (out / "items").iterdir()}
    fresh = tmp_path / "fresh"
    shutil.copytree(out, fresh)
    edit(fresh / ".geoml/plan.json", lambda p: p["card"].update(version="planned by another process"))
    with pytest.raises(ModelError, match=rf"replaced since the run was planned \(other .*{name}"):
        pipeline.run_blocks(fresh)
    with pytest.raises(InputError, match="the card or the weights of its model have changed"):
        pipeline.predict(recipe, out)
    assert {p.name: p.read_bytes() for p in (out / "items").iterdir()} == before


def test_what_a_card_tells_of_its_scores_may_change(recipe: PredictRecipe, tmp_path: Path) -> None:
    out = tmp_path / "out"
    pipeline.plan(recipe, out)
    pipeline.run_blocks(out, pipeline.todo(out)[:1])
    edit(tmp_path / "model/model.json", lambda m: m["properties"].update({"geoml:scores": {"miou": 0.5}}))
    assert len(pipeline.run_blocks(out, pipeline.todo(out)).done) > 1


def test_a_plan_by_an_older_geoml_goes_on(recipe: PredictRecipe, tmp_path: Path) -> None:
    """It lacks fields of today's card, whatever the package says of them."""
    out = tmp_path / "out"
    pipeline.plan(recipe, out)
    edit(out / ".geoml/plan.json", lambda p: (p["card"].pop("window"), p["card"].pop("overlap"), p.pop("units")))
    edit(tmp_path / "model/model.json", lambda m: m["properties"].update({"geoml:window": "flat"}))
    assert pipeline.run_blocks(out).done
    assert pipeline.predict(recipe, out)["blocks"]["failed"] == {}


def test_blocks_by_other_software_are_counted_and_said(
    recipe: PredictRecipe, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "out"
    pipeline.plan(recipe, out)
    first, second, third, *others = pipeline.todo(out)
    pipeline.run_blocks(out, [first, second, third])
    edit(out / f"items/{first}.json", lambda i: i["properties"]["processing:software"].update(torch="2.9.1"))
    edit(out / f"items/{second}.json", lambda i: i["properties"].update({"processing:software": {"geoml": "0.0.1"}}))
    assert not caplog.records
    run = pipeline.predict(recipe, out)
    (said,) = [r.getMessage() for r in caplog.records if "blocks done before" in r.getMessage()]
    here = software()
    assert f"1 by geoml {here['geoml']}, torch 2.9.1" in said
    assert "1 by geoml 0.0.1, torch unknown" in said
    assert said.endswith(f"by geoml {here['geoml']}, torch {here['torch']}")
    versions = json.loads((out / "run.json").read_text())["versions"]
    assert versions == run["versions"]
    assert versions["torch"] == {"2.9.1": 1, "unknown": 1, here["torch"]: 1 + len(others)}
    assert versions["geoml"] == {"0.0.1": 1, here["geoml"]: 2 + len(others)}
    assert versions["python"][here["python"]] == 2 + len(others)
    assert f"{here['torch']} ({1 + len(others)} blocks)" in (out / "report.html").read_text()
    caplog.clear()
    pipeline.predict(recipe, out)
    assert not [r for r in caplog.records if "blocks done before" in r.getMessage()]  # nothing goes on
