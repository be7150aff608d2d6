"""The flow under a real Prefect server, started once: the same files as the command, states and artifacts."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import yaml
from prefect import flow, task
from prefect.blocks.system import Secret
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
from prefect.settings import PREFECT_HOME, PREFECT_SERVER_DATABASE_CONNECTION_URL, temporary_settings
from prefect.testing.utilities import prefect_test_harness
from prefect.utilities.schema_tools.validation import is_valid

import geoml
from flows import elevation as heights
from flows import forecast as forecasting
from flows import form, show, steps
from flows import geolocate as locating
from flows import monitor as nightly
from flows import predict as module
from geoml import fields, pipeline, testing
from geoml.cube.domain import fit
from geoml.engine.packages import calibrate, package
from geoml.engine.run.state import state as state_of
from geoml.errors import DataError, InputError, ModelError, TransientError
from geoml.recipe import PredictRecipe
from geoml.testing import pictures as testing_photos
from geoml.testing.radar import showers, time_of, write_radar
from tests.made_town import write_town

pytestmark = pytest.mark.integration

SCENE = testing.Scene(id="scene", data=testing.smooth((2, 300, 300), seed=5), bands=("red", "nir"))


@pytest.fixture(scope="session")
def prefect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One server for all tests: it takes longer to start than everything they do."""
    with (
        temporary_settings({PREFECT_HOME: tmp_path_factory.mktemp("prefect")}),
        prefect_test_harness(server_startup_timeout=None),
    ):
        yield


@pytest.fixture
def recipe(tmp_path: Path, threshold: str) -> Callable[..., dict[str, Any]]:
    catalog = testing.write_catalog(tmp_path / "made", [SCENE])

    def make(**query: Any) -> dict[str, Any]:
        known = {"catalog": str(catalog), "bbox": list(SCENE.bbox(inner=0.05)), "datetime": ["2024"]}
        return {"model": threshold, "query": {**known, **query}, "block_size": 128}

    return make


def flat(given: dict[str, Any]) -> dict[str, Any]:
    """The parameters of a recipe, as the form has them."""
    return fields.flat(PredictRecipe.model_validate(given))


def artifacts(key: str) -> list[Any]:
    async def ask() -> list[Any]:
        async with get_client() as client:
            return [a for a in await client.read_artifacts() if a.key == key]

    return asyncio.run(ask())


def names_of_runs() -> set[str]:
    async def ask() -> set[str]:
        async with get_client() as client:
            return {run.name for run in await client.read_flow_runs()}

    return asyncio.run(ask())


def newest(key: str) -> Any:
    return max(artifacts(key), key=lambda a: a.created)


def test_what_speaks_against_a_map_is_the_message_of_the_state(prefect: None, tmp_path: Path) -> None:
    """A pair without change and a model that splits every pair; the flow gives what the command gives all the same."""
    noise = np.random.default_rng(0).normal(0, 60, SCENE.data.shape)
    after = replace(
        SCENE, id="after", data=(SCENE.data + 500 + noise).astype(np.uint16), datetime="2025-06-01T00:00:00Z"
    )
    catalog = testing.write_catalog(tmp_path / "pair", [SCENE, after])
    made = calibrate.new("cva", SCENE.bands, 10)
    package.save(made.module, made.card, tmp_path / "cva")
    query = {"catalog": str(catalog), "bbox": list(SCENE.bbox(inner=0.05)), "datetime": ["2024", "2025"]}
    given = {"model": str(tmp_path / "cva"), "query": query, "block_size": 256}
    state = module.predict(**flat(given), out=str(tmp_path / "out"), return_state=True)
    assert state.is_completed()
    run = state.result()
    assert [state.message] == show.warning_line(run["warnings"]), "of a model that learnt nothing no image is unlike"
    assert state.message.startswith("1 warning: cva: the magnitude of change has one mode")
    assert run == json.loads((tmp_path / "out" / "run.json").read_text())


def test_the_flow_writes_what_the_command_writes(
    prefect: None, recipe: Callable[..., dict[str, Any]], predict: Callable[..., Path], tmp_path: Path
) -> None:
    given = recipe()
    by_flow = tmp_path / "flow"
    state = module.predict(**flat(given), out=str(by_flow), batch=2, return_state=True)
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
    rows = json.loads(newest("blocks").data)
    assert {r["block"] for r in rows if r["state"] == "done"} == set(run["blocks"]["done"])
    shown = newest("summary").data
    assert f"Report: {by_flow}/report.html" in shown.replace("\\", "")
    assert "![Map of classes" in shown
    assert len(shown) < 200_000
    areas = [line.split(" | ")[0].removeprefix("| ") for line in shown.splitlines() if line.endswith("% |")]
    assert sorted(areas) == ["level-0", "level-1", "level-2"]
    assert f"{Path(given['model']).name} {Path(given['query']['catalog']).name} 2024" in names_of_runs()
    assert float(newest("progress").data) == 100
    before = {p: p.stat().st_mtime_ns for p in by_flow.rglob("*")}
    again = module.predict(**flat(given), out=str(by_flow), return_state=True)
    assert again.is_completed()
    after = {p: p.stat().st_mtime_ns for p in by_flow.rglob("*")}
    assert {p: t for p, t in after.items() if p.is_file()} == {p: t for p, t in before.items() if p.is_file()}
    assert {r["state"] for r in json.loads(newest("blocks").data)} == {"skipped"}


def test_the_state_says_where_the_images_are_unlike_the_training_data(
    prefect: None, recipe: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    given = recipe()
    unknown = module.predict(**flat(given), out=str(tmp_path / "unknown"), return_state=True)
    assert "not known whether the model fits these images" in unknown.message
    elsewhere = np.random.default_rng(0).normal(0.05, 0.01, (5000, 2))
    testing.threshold_model(tmp_path / "model", SCENE.bands, (0.2, 0.4), domain=fit(elsewhere, elsewhere))
    given["model"] = str(tmp_path / "model")
    warned = module.predict(**flat(given), out=str(tmp_path / "warned"), return_state=True)
    assert warned.is_completed()
    assert warned.message.startswith("the images are mostly unlike the training data of the model (")
    refused = module.predict(**flat({**given, "out_of_domain": "refuse"}), out=str(tmp_path / "no"), return_state=True)
    assert refused.is_failed()
    with pytest.raises(ModelError, match="unlike the training data"):
        refused.result()
    known = nightly.monitor.parameters.properties
    nights = {k: v for k, v in flat(given).items() if k in known}
    series = nightly.monitor(**nights, out=str(tmp_path / "series"), until="2024-06-05", return_state=True)
    assert series.message == "1 new; 1 day; images unlike the training data of the model on 2024-06-01"


def kept_by_prefect() -> bytes:
    """All that its database holds: flow runs, parameters, states, logs and artifacts."""
    url: Any = PREFECT_SERVER_DATABASE_CONNECTION_URL.value()
    file = Path(getattr(url, "get_secret_value", lambda: url)().partition("///")[2])
    assert file.is_file()
    return b"".join(p.read_bytes() for p in sorted(file.parent.glob(f"{file.name}*")))


def test_signatures_of_urls_are_not_in_the_database(prefect: None, days: Any, tmp_path: Path) -> None:
    """Called with signed URLs the flow works, once to its end and once into an error that names them."""
    out = tmp_path / "out"
    state = module.predict(**flat(days.recipe()), out=str(out), batch=1, return_state=True)
    assert state.is_completed(), state.message
    days.signature = "S3CRETofTUESDAY"
    late = {**flat(days.recipe()), "region": f"{days.url}/signed/r.geojson?sig=S3CRETofMONDAY"}
    state = module.predict(**late, out=str(out), return_state=True)
    with pytest.raises(InputError, match="HTTP 403"):
        state.result()
    state = module.predict(**{**flat(days.recipe()), "batch": "many"}, out=str(out), return_state=True)
    assert state.is_failed()
    kept = kept_by_prefect()
    assert b"/signed/r.geojson" in kept, "this is where it would be"
    assert b"S3CRET" not in kept


def test_a_parameter_names_what_signs_its_url(
    prefect: None, days: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the environment of the worker or a Secret block, which Prefect keeps encrypted."""
    given = {k: v.replace(f"?sig={days.signature}", "?{today}") if isinstance(v, str) else v
             for k, v in flat(days.recipe()).items()}  # fmt: skip
    assert given["model"].endswith("/model?{today}")
    with pytest.raises(InputError, match=r"SIGNATURE_TODAY of the worker or the Secret block signature-today"):
        module.predict(**given, out=str(tmp_path / "out"))
    monkeypatch.setenv("SIGNATURE_TODAY", f"sig={days.signature}")
    assert module.predict(**given, out=str(tmp_path / "out"), return_state=True).is_completed()
    monkeypatch.delenv("SIGNATURE_TODAY")
    Secret(value=f"?sig={days.signature}").save("signature-today")
    assert form.recipe(given, PredictRecipe).query.region == f"{days.url}/signed/r.geojson?sig={days.signature}"
    assert b"S3CRET" not in kept_by_prefect()


@pytest.mark.parametrize("name", ["predict", "monitor", "geolocate", "forecast", "elevation"])
def test_forms_take_no_secret(name: str) -> None:
    """Prefect's API checks parameters of a deployment by this before it keeps them."""
    flows = {"predict": module.predict, "monitor": nightly.monitor, "geolocate": locating.geolocate}
    run: Any = {**flows, "forecast": forecasting.forecast, "elevation": heights.elevation}[name]
    schema = run.parameters.model_dump()
    texts = {"sources": ["x"]} if name == "geolocate" else {"catalog": "x", "region": "x", "datetime": ["2024"]}
    if name == "monitor":
        del texts["datetime"]
    if name == "forecast":
        texts = {"cube": "x", "reads": "x", "places": "x"}
    model = "ground" if name == "elevation" else "model"
    if name == "elevation":
        texts = {"points": ["x"], "dem": "x", "check_points": "x"}
    good = {model: "x", "out": "s3://bucket/a@b", **texts}
    assert is_valid(good, schema)
    for key in (model, "out", *(k for k in texts if k != "datetime")):
        for value, allowed in {
            "https://a.example/x.json": True, "https://a.example/x.json?{today}": True, "./a#b c.json": True,
            "https://a.example/x?sig=S3CRET": False, "https://me:S3CRET@a.example/x": False,
            "HTTPS://me@a.example": False, "https://a.example/x#S3CRET": False, "https:/me:x@h": False,
            "https://a.example/x?{today}&sig=S3CRET": False,
        }.items():  # fmt: skip
            asked = {**good, key: [value] if key in ("sources", "points") else value}
            assert is_valid(asked, schema) is allowed, (key, value)


def test_nothing_found_ends_as_skipped(
    prefect: None, recipe: Callable[..., dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(recipe(bbox=[10.0, 5.0, 11.0, 6.0])))
    state = module.predict(**flat(recipe(bbox=[10.0, 5.0, 11.0, 6.0])), out=str(tmp_path / "skip"), return_state=True)
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

    @task(retries=2, retry_delay_seconds=0, retry_condition_fn=steps.transient, persist_result=False)
    def fails() -> None:
        tries.append(1)
        raise error("once more")

    @flow
    def outer() -> None:
        fails()

    with pytest.raises(error):
        outer()
    assert len(tries) == (3 if error is TransientError else 1)


def test_a_failed_block_is_in_the_table_with_its_reason(
    prefect: None, recipe: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    given = recipe()
    testing.write_catalog(tmp_path / "made", [SCENE, replace(SCENE, id="other", origin=(601_500.0, 7_200_000.0))])
    (tmp_path / "made" / "other" / "image.tif").write_text("<html>")
    state = module.predict(**flat(given), out=str(tmp_path / "out"), return_state=True)
    assert state.is_failed()
    rows = {r["block"]: r for r in json.loads(newest("blocks").data)}
    failed = {key for key, row in rows.items() if row["state"] == "failed"}
    told = newest("summary").data
    assert f"**{len(failed)} of {len(rows)} blocks failed.**" in told
    assert failed
    assert all("other" in rows[key]["reason"] for key in failed)
    assert {r["state"] for key, r in rows.items() if key not in failed} == {"done"}


def test_the_second_of_two_waits_and_then_ends(
    prefect: None, recipe: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    out = str(tmp_path / "out")
    with pipeline.locked(out):
        state = module.predict(**flat(recipe()), out=out, wait=0.3, return_state=True)
        assert state.is_failed()
        assert "pid" in str(state.message)
    lock = pipeline.locked(out)
    lock.__enter__()
    threading.Timer(1.0, lock.__exit__, (None, None, None)).start()
    state = module.predict(**flat(recipe()), out=out, wait=60, return_state=True)
    assert state.is_completed()


def test_the_monitor_ends_as_skipped_when_nothing_is_new(
    prefect: None, recipe: Callable[..., dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = tmp_path / "recipe.yaml", tmp_path / "series"
    given = recipe()
    del given["query"]["datetime"]
    file.write_text(yaml.safe_dump(given))
    words = [str(file), "--out", str(out), "--until", "2024-06-05", "--lookback", "10"]
    assert nightly.main(words) == 0
    assert {(r["item"], r["change"]) for r in json.loads(newest("changes").data)} == {("scene", "new")}
    digest = newest("digest").data
    assert "What changed: 1 new" in digest
    assert "| 2024-06-01 | 1 |  |  |  | days/2024-06-01/report.html |" in digest
    assert nightly.main(words) == 3
    assert "nothing new" in capsys.readouterr().err
    assert nightly.main([*words[:4], "2023-06-05"]) == 3
    assert "no items" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["processes:2", "cluster:2"])
def test_a_step_whose_process_dies_goes_on_elsewhere(
    prefect: None,
    recipe: Callable[..., dict[str, Any]],
    machine: Callable[..., None],
    tmp_path: Path,
    workers: str,
) -> None:
    machine(workers=workers)
    killed: list[int] = []
    out = tmp_path / "out"
    watcher = threading.Thread(target=kill_one, args=(out, killed))
    watcher.start()
    state = module.predict(**flat(recipe()), out=str(out), batch=3, return_state=True)
    watcher.join()
    assert killed
    assert state.is_completed(), state
    whole = tmp_path / "whole"
    machine(workers="here")
    pipeline.predict(recipe(), whole)
    for path in sorted(whole.rglob("*.tif")):
        assert path.read_bytes() == (out / path.relative_to(whole)).read_bytes(), path
    assert state_of(out).status == "finished"


def kill_one(out: Path, killed: list[int]) -> None:
    """SIGKILL a process that computes as soon as the first block is done."""
    ends = time.monotonic() + 300
    while not list((out / "items").glob("*.json")) and time.monotonic() < ends:
        time.sleep(0.01)
    own = {}
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):  # some are gone before they are asked
            if "spawn" in " ".join(process.cmdline()):
                own[process] = process.memory_info().rss
    busy = max(own, key=lambda p: own[p])
    busy.kill()
    killed.append(busy.pid)


def test_a_batch_on_a_gpu_takes_a_slot_of_the_limit(
    prefect: None, machine: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing here needs a GPU: what is asked is the limit, by a process that believes it has one."""

    async def make() -> None:
        async with get_client() as client:
            limit = {"name": steps.GPU, "limit": 1, "active_slots": 0}
            await client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(**limit))

    asked: list[str] = []

    class Cuda:
        torch = type("device", (), {"type": "cuda"})

    monkeypatch.setattr(steps, "choose", Cuda)
    with steps.gpu():
        asked.append("without a limit")
    asyncio.run(make())

    @flow
    def two() -> list[float]:
        @task(persist_result=False)
        def hold() -> tuple[float, float]:
            with steps.gpu():
                start = time.monotonic()
                time.sleep(1.0)
                return start, time.monotonic()

        return [f.result() for f in [hold.submit(), hold.submit()]]

    first, second = sorted(two())
    assert second[0] >= first[1], "one after the other"
    assert asked


def test_pictures_by_flow_are_those_by_command(prefect: None, tmp_path: Path) -> None:
    testing_photos.made_locator(tmp_path / "model")
    source = testing_photos.folder(tmp_path / "in", 7)
    geoml.geolocate(source, tmp_path / "model", tmp_path / "command.parquet")
    given = {"sources": [str(source)], "model": str(tmp_path / "model"), "out": str(tmp_path / "flow.parquet")}
    state = locating.geolocate(**given, return_state=True)
    assert state.is_completed()
    assert (tmp_path / "flow.parquet").read_bytes() == (tmp_path / "command.parquet").read_bytes()
    assert {r["status"]: r["pictures"] for r in json.loads(newest("geolocated").data)}["ok"] >= 6
    (tmp_path / "empty").mkdir()
    skipped = locating.geolocate(**{**given, "sources": [str(tmp_path / "empty")]}, return_state=True)
    assert skipped.name == "Skipped"
    fields = locating.geolocate.parameters.properties
    assert all(f["description"] for f in fields.values())
    assert fields["use"]["items"]["enum"] == ["time", "text", "position", "altitude"]


def test_cycles_by_flow_are_those_by_command(prefect: None, tmp_path: Path, cli: Callable[..., Any]) -> None:
    radar = write_radar(tmp_path / "rain", showers(range(5), (48, 64)))
    given = {"model": "advection", "cube": str(tmp_path / "rain"), "reads": str(radar), "leads": ["PT5M"]}
    given |= {"since": time_of(3), "block_size": 256}
    state = forecasting.forecast(**given, out=str(tmp_path / "flow"), return_state=True)
    assert state.is_completed()
    assert state.message.startswith("2 issued; the newest step is of 2024-06-01T12:20:00Z, ")
    (row,) = json.loads(newest("verification").data)
    assert (row["lead"], row["cycles"], row["best simple"]) == ("PT5M", 1, "persistence")
    words = [w for k, v in given.items() for w in (f"--{k.replace('_', '-')}", v[0] if isinstance(v, list) else v)]
    assert cli("cycles", *words, "--out", tmp_path / "command").exit_code == 0
    by_flow, by_command = tmp_path / "flow", tmp_path / "command"
    names, others = (
        {p.relative_to(out) for p in out.rglob("*") if p.is_file() and ".geoml" not in p.relative_to(out).parts}
        for out in (by_command, by_flow)
    )
    assert names == others
    tiffs = [name for name in names if name.suffix == ".tif" and "cogs" in name.parts]
    assert tiffs
    assert all((by_flow / name).read_bytes() == (by_command / name).read_bytes() for name in tiffs)
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(given))
    assert forecasting.main([str(tmp_path / "recipe.yaml"), "--out", str(by_flow)]) == 3
    state = forecasting.forecast(**given, out=str(by_flow), return_state=True)
    assert (state.name, state.message[:11]) == ("Skipped", "nothing new")
    stale = forecasting.forecast(**given, out=str(by_flow), max_age="PT1H", return_state=True)
    assert stale.is_failed()
    with pytest.raises(DataError, match="max_age: the newest step is of"):
        stale.result()


def test_heights_by_flow_are_those_by_command(prefect: None, tmp_path: Path, cli: Callable[..., Any]) -> None:
    points = [str(p) for p in write_town(tmp_path / "town")]
    state = heights.elevation(points=points, res=2, block_size=64, out=str(tmp_path / "flow"), return_state=True)
    assert state.is_completed()
    assert state.result()["files"]["buildings.parquet"]
    words = [w for p in points for w in ("--points", p)]
    assert cli("elevation", *words, "--res", "2", "--block-size", "64", "--out", tmp_path / "command").exit_code == 0
    by_flow, by_command = tmp_path / "flow", tmp_path / "command"
    tiffs = [p.relative_to(by_command) for p in by_command.glob("cogs/*/*.tif")]
    assert len(tiffs) > 7
    for name in (*tiffs, "buildings.parquet"):
        assert (by_flow / name).read_bytes() == (by_command / name).read_bytes()
