"""The flow under a real Prefect server, started once: the same files as the command, states and artifacts."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect import flow, task
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_HOME, temporary_settings
from prefect.testing.utilities import prefect_test_harness

from flows import predict as module
from geoml import testing
from geoml.errors import DataError, InputError, ModelError, TransientError
from geoml.recipe import PredictRecipe

pytestmark = pytest.mark.integration

SCENE = testing.Scene(id="scene", data=testing.smooth((2, 300, 300), seed=5), bands=("red", "nir"))


@pytest.fixture(scope="session")
def prefect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One server for all tests: it takes longer to start than everything they do."""
    with (
        temporary_settings({PREFECT_HOME: tmp_path_factory.mktemp("prefect")}),
        prefect_test_harness(server_startup_timeout=180),
    ):
        yield


@pytest.fixture
def recipe(tmp_path: Path, threshold: str) -> Callable[..., dict[str, Any]]:
    catalog = testing.write_catalog(tmp_path / "made", [SCENE])

    def make(**query: Any) -> dict[str, Any]:
        known = {"catalog": str(catalog), "bbox": list(SCENE.bbox(inner=0.05)), "datetime": ["2024"]}
        return {"model": threshold, "query": {**known, **query}, "block_size": 128}

    return make


def artifacts(key: str) -> list[Any]:
    async def ask() -> list[Any]:
        async with get_client() as client:
            return [a for a in await client.read_artifacts() if a.key == key]

    return asyncio.run(ask())


def test_the_flow_writes_what_the_command_writes(
    prefect: None, recipe: Callable[..., dict[str, Any]], predict: Callable[..., Path], tmp_path: Path
) -> None:
    given = recipe()
    by_flow = tmp_path / "flow"
    state = module.predict(PredictRecipe.model_validate(given), str(by_flow), batch=2, return_state=True)
    assert state.is_completed()
    run = asyncio.run(state.aresult()) if hasattr(state, "aresult") else state.result()
    assert run["blocks"]["failed"] == {}
    assert len(run["blocks"]["done"]) > 4, "several batches"
    by_command = predict(
        given["model"], given["query"]["catalog"], given["query"]["bbox"], block_size=128, query=given["query"]
    )
    for path in sorted(p for p in by_command.rglob("*.tif")):
        assert path.read_bytes() == (by_flow / path.relative_to(by_command)).read_bytes(), path
    names = {p.relative_to(by_command) for p in by_command.rglob("*") if p.is_file()}
    assert names == {p.relative_to(by_flow) for p in by_flow.rglob("*") if p.is_file()}
    rows = json.loads(artifacts("blocks")[0].data)
    assert {r["block"] for r in rows} == set(run["blocks"]["done"])
    assert "report.html" in artifacts("report")[0].data
    before = {p: p.stat().st_mtime_ns for p in by_flow.rglob("*")}
    again = module.predict(PredictRecipe.model_validate(given), str(by_flow), return_state=True)
    assert again.is_completed()
    assert {p: p.stat().st_mtime_ns for p in by_flow.rglob("*")} == before


def test_nothing_found_ends_as_skipped(
    prefect: None, recipe: Callable[..., dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(recipe(bbox=[10.0, 5.0, 11.0, 6.0])))
    state = module.predict(
        PredictRecipe.model_validate(recipe(bbox=[10.0, 5.0, 11.0, 6.0])), str(tmp_path / "skip"), return_state=True
    )
    assert state.name == "Skipped"
    assert state.is_completed()
    assert "no items" in str(state.message)
    assert module.main([str(file), "--out", str(tmp_path / "skip")]) == 3
    assert "no items" in capsys.readouterr().err


def test_a_broken_source_fails_the_flow_after_the_others_are_published(
    prefect: None, recipe: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    given = recipe()
    image = tmp_path / "made" / "scene" / "image.tif"
    image.write_text("<html>")
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(given))
    assert module.main([str(file), "--out", str(tmp_path / "out")]) == DataError.exit_code
    assert module.main([str(tmp_path / "none.yaml"), "--out", str(tmp_path / "out")]) == InputError.exit_code
    file.write_text(yaml.safe_dump({**given, "colour": 1}))
    assert module.main([str(file), "--out", str(tmp_path / "out")]) == InputError.exit_code


@pytest.mark.parametrize("error", [TransientError, InputError, ModelError])
def test_only_what_may_go_away_is_tried_again(prefect: None, error: type[Exception]) -> None:
    tries = []

    @task(retries=2, retry_delay_seconds=0, retry_condition_fn=module.transient, persist_result=False)
    def fails() -> None:
        tries.append(1)
        raise error("once more")

    @flow
    def outer() -> None:
        fails()

    with pytest.raises(error):
        outer()
    assert len(tries) == (3 if error is TransientError else 1)
