"""What the folder of a run tells of it, at every moment of its life."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from geoml import testing
from geoml.cli import app
from geoml.cli.common import out_console
from geoml.engine.run.plan import Plan, PlannedBlock, Zone
from geoml.engine.run.state import state
from geoml.errors import InputError
from geoml.io.stores.remote import run_store
from geoml.io.stores.store import write_json
from geoml.recipe import PredictRecipe


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """Four blocks in a row, planned in ``tmp_path / "out"``."""
    query = {"catalog": "made", "bbox": (0.0, 0.0, 1.0, 1.0), "datetime": ["2024"]}
    made = Plan(
        recipe=PredictRecipe.model_validate({"model": "made", "query": query, "block_size": 64}),
        hash="0" * 64,
        model_path="made",
        card=testing.card("made", ["red"], ["a", "b"]),
        collection="made",
        zones=(Zone(crs="EPSG:32631", res=10.0, anchor=0.0, part="POLYGON ((0 0, 1 0, 1 1, 0 0))"),),
        blocks=tuple(PlannedBlock(zone=0, iy=0, ix=k, items=("scene",), hash=f"h{k}") for k in range(4)),
    )
    write_json(tmp_path / "out" / ".geoml" / "plan.json", made.model_dump(mode="json"))
    return made


@pytest.fixture
def publish(plan: Plan, tmp_path: Path) -> Callable[..., str]:
    """``publish(k)`` writes the item of block k, ``publish(k, "why")`` that it failed; gives its id."""

    def put(k: int, why: str = "", recipe_hash: str = "") -> str:
        key = list(plan.by_id())[k]
        if why:
            write_json(tmp_path / "out" / ".geoml" / "failed" / f"{key}.json", {"error": "DataError", "message": why})
        else:
            item = {"properties": {"geoml:recipe_hash": recipe_hash or f"h{k}"}}
            write_json(tmp_path / "out" / "items" / f"{key}.json", item)
        return key

    return put


def end(plan: Plan, out: Path, failed: dict[str, str] | None = None) -> None:
    done = [key for key in plan.by_id() if key not in (failed or {})]
    write_json(
        out / "run.json",
        {"blocks": {"done": done, "failed": failed or {}}, "seconds": {"read": 1.5}, "bytes": {"read": 7}},
    )


def test_no_run_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="contains no run"):
        state(tmp_path)
    assert not list(tmp_path.iterdir()), "looking leaves nothing"


def test_a_run_from_its_plan_to_its_end(plan: Plan, publish: Callable[..., str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    found = state(out)
    assert (found.status, found.planned, found.done, found.left) == ("stopped", 4, 0, 4)
    with run_store(out).lock():
        publish(0)
        found = state(out)
        assert (found.status, found.done, found.left) == ("running", 1, 3)
        assert found.holder
        assert found.updated == found.holder["renewed"]
    for k in range(1, 4):
        publish(k)
    assert state(out).status == "stopped", "its outputs are not written yet"
    end(plan, out)
    found = state(out)
    assert (found.status, found.done, found.left, found.holder) == ("finished", 4, 0, None)
    assert (found.seconds, found.bytes) == ({"read": 1.5}, {"read": 7})
    assert found.started
    assert found.updated
    assert found.started <= found.updated


def test_failed_blocks_are_named_with_the_reason(plan: Plan, publish: Callable[..., str], tmp_path: Path) -> None:
    for k in range(3):
        publish(k)
    key = publish(3, "item scene, asset image: \x1b[2Jdamaged")
    end(plan, tmp_path / "out", {key: "damaged"})
    found = state(tmp_path / "out")
    assert (found.status, found.done, found.left) == ("failed", 3, 0)
    assert found.failed == {key: "item scene, asset image: \x1b[2Jdamaged"}
    publish(3)
    assert state(tmp_path / "out").failed == {}, "it was done later"


def test_items_of_other_inputs_and_damaged_ones_do_not_count(publish: Callable[..., str], tmp_path: Path) -> None:
    publish(0)
    publish(1, recipe_hash="old")
    for k, text in ((2, "{"), (3, "[]")):
        path = tmp_path / "out" / "items" / f"{publish(k)}.json"
        path.write_text(text)
    publish(3)
    assert state(tmp_path / "out").done == 2


def test_a_dead_holder_is_known_before_and_after_the_plan(
    plan: Plan, publish: Callable[..., str], tmp_path: Path
) -> None:
    publish(0)
    program = (
        "import os, sys; from geoml.io.stores.remote import run_store\n"
        "with run_store(sys.argv[1]).lock(), run_store(sys.argv[2]).lock(): os._exit(9)"
    )
    folders = [str(tmp_path / "out"), str(tmp_path / "new")]
    assert subprocess.run([sys.executable, "-c", program, *folders], check=False).returncode == 9
    found = state(tmp_path / "out")
    assert (found.status, found.done, found.planned) == ("died", 1, 4)
    found = state(tmp_path / "new")
    assert (found.status, found.planned) == ("died", 0)


def test_the_command_prints_a_table_and_json(
    publish: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(out_console, "_width", 240)  # no cell is folded, however long the folder's name
    publish(0)
    key = publish(1, "[bold]why[/]")
    publish(2, "\x1b[2Jcleared")
    shown = json.loads(CliRunner().invoke(app, ["runs", str(tmp_path / "out"), "--json"]).stdout)
    expected = {"status": "stopped", "planned": 4, "done": 1, "left": 1}
    assert {k: shown[k] for k in expected} == expected
    assert shown["failed"][key] == "[bold]why[/]"
    table = CliRunner().invoke(app, ["runs", str(tmp_path / "out")])
    assert table.exit_code == 0
    assert "1 of 4 done, 2 failed, 1 left" in table.stdout
    assert "[bold]why[/]" in table.stdout
    assert "\x1b" not in table.stdout
    assert "1 of 4 done" in CliRunner().invoke(app, ["runs", str(tmp_path)]).stdout, "a folder with runs below it"
    (tmp_path / "empty").mkdir()
    assert CliRunner().invoke(app, ["runs", str(tmp_path / "empty")]).exit_code == InputError.exit_code
