"""Deployments on a real Prefect server with a real worker: the form, runs by hand, by schedule, and without the API."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import geopandas
import pyarrow.parquet as pq
import pytest
import requests
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows import form
from flows.predict import predict
from geoml import pipeline, testing
from geoml.engine.packages import cards
from geoml.engine.run.state import state
from geoml.errors import TransientError
from geoml.io.cards.map_card import MapCard
from geoml.recipe import PredictRecipe, Query
from geoml.testing.radar import showers, write_radar
from tests.serving import serving

pytestmark = [pytest.mark.integration, pytest.mark.slow]

SCENE = testing.Scene(
    id="first", data=testing.smooth((2, 300, 300), seed=5), bands=("red", "nir"), datetime="2024-06-01T12:00:00Z"
)
SECOND = replace(SCENE, id="second", data=testing.smooth((2, 300, 300), seed=6), datetime="2024-06-03T12:00:00Z")
LATE = replace(SCENE, id="late", data=testing.smooth((2, 300, 300), seed=7), datetime="2024-06-02T12:00:00Z")
AGAIN = replace(SECOND, data=testing.smooth((2, 300, 300), seed=8), properties={"updated": "2024-06-04T08:00:00Z"})
ROOT = Path(__file__).parents[2]
FILE = "flows/prefect.yaml"


class Server:
    """The API of a Prefect server."""

    def __init__(self, prefect: Any) -> None:
        self.prefect = prefect

    def ask(self, method: str, path: str, body: Any = None, fine: tuple[int, ...] = ()) -> Any:
        """The answer; a server whose database is locked for a moment is asked again, as Prefect's client does."""
        for last in [False] * 9 + [True]:
            answer = requests.request(method, f"{self.prefect.url}{path}", json=body, timeout=30)
            if last or answer.status_code < 500:
                break
            time.sleep(1)
        if answer.status_code not in fine:
            answer.raise_for_status()
        return answer.json() if answer.content else None

    def deployment(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.ask("GET", f"/deployments/name/{name}")
        return found

    def runs(self, deployment: str) -> list[dict[str, Any]]:
        """Runs that have started, oldest first."""
        body = {"deployments": {"id": {"any_": [deployment]}}, "sort": "START_TIME_ASC", "limit": 50}
        return [r for r in self.ask("POST", "/flow_runs/filter", body) if r["start_time"]]

    def ended(self, deployment: str, count: int, seconds: float = 600) -> list[dict[str, Any]]:
        """The first ``count`` runs that have ended, waiting for them."""
        ends = time.monotonic() + seconds
        while True:
            found = [r for r in self.runs(deployment) if r["end_time"]]
            if len(found) >= count:
                return found[:count]
            assert time.monotonic() < ends, f"{len(found)} of {count} runs ended in {seconds} s"
            time.sleep(0.5)

    def artifacts(self, run: str) -> dict[str, Any]:
        """Data of the artifacts of a run by key."""
        body = {"artifacts": {"flow_run_id": {"any_": [run]}}}
        return {a["key"]: a["data"] for a in self.ask("POST", "/artifacts/filter", body)}

    def log(self, run: str) -> str:
        body = {"logs": {"flow_run_id": {"any_": [run]}}, "limit": 200}
        return "\n".join(line["message"] for line in self.ask("POST", "/logs/filter", body))


@pytest.fixture(scope="module")
def server(prefect_server: Any) -> Server:
    """The server with everything deployed to the process pool ``geoml``, as an engineer does it once."""
    prefect_server.command("work-pool", "create", "geoml", "--type", "process", "--overwrite")
    told = prefect_server.command("deploy", "--all", "--prefect-file", FILE)
    assert told.count("successfully created") == 9, told
    return Server(prefect_server)


@pytest.fixture(scope="module")
def worker(server: Server, stack: ModuleType, services: Callable[..., Any]) -> Any:
    env = {"PREFECT_WORKER_PREFETCH_SECONDS": "1", "OMP_NUM_THREADS": "1", "GEOML_THREADS": "1", "GEOML_DEVICE": "cpu"}
    return services(stack.Worker, server.prefect, env | {"GEOML_PRECISION": "fp32"})


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("models") / "threshold"
    testing.threshold_model(folder, ("red", "nir"), (0.20005, 0.40005))
    return str(folder)


def run(server: Server, name: str, given: dict[str, Any], *more: str) -> subprocess.CompletedProcess[str]:
    """``prefect deployment run NAME -p …`` as an operator types it."""
    words = [w for k, v in given.items() for w in ("-p", f"{k}={json.dumps(v)}")]
    prefect = ROOT / ".venv" / "bin" / "prefect"
    program = [str(prefect) if prefect.exists() else "prefect", "deployment", "run", name, *words, *more]
    env = {**os.environ, **server.prefect.env}
    return subprocess.run(program, env=env, cwd=ROOT, capture_output=True, text=True, timeout=900, check=False)


def recipe(model: str, catalog: Path, **more: Any) -> dict[str, Any]:
    given = {"model": model, "catalog": str(catalog), "bbox": [round(v, 6) for v in SCENE.bbox(inner=0.05)]}
    return {**given, "datetime": ["2024-06"], "block_size": 128, **more}


def test_the_form_is_flat_typed_and_described(server: Server) -> None:
    form = server.deployment("predict/adhoc")["parameter_openapi_schema"]
    fields = form["properties"]
    assert form["required"] == ["model", "catalog", "datetime", "out"]
    assert all(f["description"] for f in fields.values())
    assert [f["position"] for f in fields.values()] == list(range(len(fields)))
    recipe_fields = {*Query.model_fields, *PredictRecipe.model_fields} - {"query"}
    assert recipe_fields <= fields.keys(), "every field of a recipe has its place in the form"
    known, other = fields["catalog"]["anyOf"]
    assert {"demo", "earth-search", "planetary-computer"} <= set(known["enum"])
    assert other["type"] == "string"
    assert "demo-itaipu" in fields["model"]["anyOf"][0]["enum"]
    box = fields["bbox"]["anyOf"][0]
    assert (box["type"], box["items"]["type"], box["minItems"], box["maxItems"]) == ("array", "number", 4, 4)
    assert (fields["datetime"]["type"], fields["datetime"]["minItems"]) == ("array", 1)
    plain = PredictRecipe.model_json_schema()["properties"]
    for name in ("composite", "mask", "join"):
        assert fields[name]["enum"] == plain[name]["enum"]
    for name in recipe_fields & plain.keys() - {"model"}:
        assert fields[name]["default"] == plain[name]["default"], name
    form = server.deployment("train/adhoc")["parameter_openapi_schema"]
    assert "urban-trees" in form["properties"]["recipe"]["anyOf"][0]["enum"]
    form = server.deployment("geolocate/adhoc")["parameter_openapi_schema"]
    assert form["required"] == ["sources", "out"]
    assert all(f["description"] for f in form["properties"].values())
    assert form["properties"]["model"]["anyOf"][0]["enum"] == ["world-overhead"]


def test_the_monitor_is_scheduled_by_cron_in_a_time_zone(server: Server) -> None:
    nightly = server.deployment("monitor/nightly")
    (schedule,) = nightly["schedules"]
    assert not schedule["active"], "it has the demo's parameters until somebody gives it others"
    assert schedule["schedule"]["cron"] == "15 3 * * *"
    assert schedule["schedule"]["timezone"] == "Europe/Berlin"
    assert nightly["work_pool_name"] == "geoml"
    assert nightly["enforce_parameter_schema"]
    form = nightly["parameter_openapi_schema"]
    assert all(f["description"] for f in form["properties"].values())
    assert set(form["required"]) <= nightly["parameters"].keys(), "a scheduled run needs no one to fill it in"


def test_a_run_by_hand_is_watched_to_its_end(server: Server, worker: Any, model: str, tmp_path: Path) -> None:
    catalog = testing.write_catalog(tmp_path / "made", [SCENE])
    out = tmp_path / "out"
    done = run(server, "predict/adhoc", recipe(model, catalog, out=str(out), batch=4), "--watch")
    assert done.returncode == 0, done.stdout + done.stderr + worker.tail()
    now = state(out)
    assert now.status == "finished"
    assert now.done == now.planned > 4
    last = server.runs(server.deployment("predict/adhoc")["id"])[-1]
    found = server.artifacts(last["id"])
    assert float(found["progress"]) == 100
    assert [r["state"] for r in json.loads(found["blocks"])] == ["done"] * now.planned
    assert "data:image/png;base64," in found["summary"]
    assert "report.html" in found["summary"]
    assert last["name"] == f"{Path(model).name} {catalog.name} 2024-06"

    wrong = run(server, "predict/adhoc", recipe(model, catalog, out=str(out), composite="best"), "--watch")
    assert wrong.returncode == 1, "refused by the form before a run is made"
    assert "best" in wrong.stdout + wrong.stderr
    failed = run(server, "predict/adhoc", recipe("no-such-model", catalog, out=str(tmp_path / "no")), "--watch")
    assert failed.returncode == 1
    last = server.runs(server.deployment("predict/adhoc")["id"])[-1]
    assert last["state"]["type"] == "FAILED"
    assert "no-such-model" in last["state"]["message"]


@pytest.fixture
def chat() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """An incoming webhook: its address, and what was posted there."""
    posted: list[dict[str, Any]] = []

    class Webhook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with serving(ThreadingHTTPServer(("127.0.0.1", 0), Webhook)) as listening:
        yield f"http://127.0.0.1:{listening.server_port}/S3CRET", posted


def test_areas_are_estimated_by_deployments_and_a_failure_is_told_to_a_chat(
    server: Server, worker: Any, model: str, chat: tuple[str, list[dict[str, Any]]], tmp_path: Path
) -> None:
    url, posted = chat
    env = {**os.environ, **server.prefect.env, "NOTIFY_URL": url}
    for _ in range(2):  # given again, nothing is there twice
        words = [sys.executable, "-m", "flows.notify"]
        made = subprocess.run(words, env=env, cwd=ROOT, capture_output=True, text=True, check=False)
        assert made.returncode == 0, made.stderr
    named = [a["name"] for a in server.ask("POST", "/automations/filter", {})]
    assert sorted(named) == ["geoml: a run failed", "geoml: something new"]
    assert "S3CRET" not in json.dumps(server.ask("POST", "/block_documents/filter", {}))

    out, places = tmp_path / "out", tmp_path / "places.gpkg"
    given = recipe(model, testing.write_catalog(tmp_path / "made", [SCENE]))
    pipeline.predict(form.recipe(given, PredictRecipe), out)
    done = run(server, "draw/adhoc", {"run": str(out), "out": str(places), "places": 60}, "--watch")
    assert done.returncode == 0, done.stdout + done.stderr + worker.tail()
    drawn = geopandas.read_file(places)
    drawn["reference"] = card_classes(model)[0]
    drawn.to_file(places)
    done = run(server, "estimate/adhoc", {"run": str(out), "reference": str(places)}, "--watch")
    assert done.returncode == 0, done.stdout + done.stderr + worker.tail()
    last = server.runs(server.deployment("estimate/adhoc")["id"])[-1]
    assert f"from {len(drawn)} places" in last["state"]["message"]
    table = json.loads(server.artifacts(last["id"])["areas"])
    assert [r["class"] for r in table] == card_classes(model)
    assert sum(r["mapped km²"] for r in table) == pytest.approx(sum(r["estimated km²"] for r in table))
    assert not posted, "runs that ended well are no news"

    given = {"run": str(out), "reference": str(places), "column": "nothing"}
    failed = run(server, "estimate/adhoc", given, "--watch")
    assert failed.returncode == 1
    ends = time.monotonic() + 120
    while not posted:
        assert time.monotonic() < ends, "no message came"
        time.sleep(0.5)
    last = server.runs(server.deployment("estimate/adhoc")["id"])[-1]
    assert posted[0]["text"].startswith(f"geoml: a run failed: {last['name']}"), posted
    assert "nothing" in posted[0]["text"]
    assert last["id"] in posted[0]["text"], "the page of the run"


def card_classes(model: str) -> list[str]:
    """Names of the classes of a package."""
    return [c.name for c in cards.read(model, MapCard).classes]


def test_the_monitor_runs_by_schedule_as_items_arrive(server: Server, worker: Any, model: str, tmp_path: Path) -> None:
    catalog = testing.write_catalog(tmp_path / "made", [SCENE, SECOND])
    out = tmp_path / "series"
    nightly = server.deployment("monitor/nightly")["id"]
    given = recipe(model, catalog, out=str(out), until="2024-06-05", lookback=10, crs="utm", wait=120)
    del given["datetime"]
    every = {"schedule": {"interval": 8}, "active": True, "parameters": given, "slug": "test"}
    server.ask("POST", f"/deployments/{nightly}/schedules", [every])
    try:
        server.ended(nightly, 1)
        with held(str(out)):  # a run that comes meanwhile waits for the lock
            shutil.rmtree(tmp_path / "made")
            testing.write_catalog(tmp_path / "made", [SCENE, AGAIN, LATE])
        runs = until_told(server, nightly, ["2 new; 2 days", "1 new, 1 reprocessed; 2 days", "nothing new"])
    finally:
        for schedule in server.ask("GET", f"/deployments/{nightly}/schedules"):
            if schedule["slug"] == "test":
                server.ask("DELETE", f"/deployments/{nightly}/schedules/{schedule['id']}")
    assert {r["created_by"]["type"] for r in runs} == {"SCHEDULE"}
    assert [r["state"]["name"] for r in runs] == ["Completed", "Completed", "Skipped"]
    assert all(r["state"]["type"] == "COMPLETED" for r in runs)
    table = json.loads(server.artifacts(runs[1]["id"])["changes"])
    assert {(r["item"], r["change"]) for r in table} == {("late", "new"), ("second", "reprocessed")}
    kept = pq.read_table(out / "changes.parquet").to_pylist()
    assert [(r["day"], r["change"]) for r in kept] == [
        ("2024-06-01", "new"),
        ("2024-06-02", "new"),
        ("2024-06-03", "new"),
        ("2024-06-03", "reprocessed"),
    ]
    month = json.loads((out / "months" / "2024-06.json").read_text())
    children = [k["title"] for k in month["links"] if k["rel"] == "child"]
    assert children == ["2024-06-01", "2024-06-02", "2024-06-03"]


def test_cycles_run_by_their_deployment(server: Server, worker: Any, tmp_path: Path) -> None:
    cycles = server.deployment("forecast/cycles")
    (schedule,) = cycles["schedules"]
    assert (schedule["active"], schedule["schedule"]["cron"]) == (False, "*/5 * * * *")
    form = cycles["parameter_openapi_schema"]
    assert form["required"] == ["model", "out"]
    assert all(f["description"] for f in form["properties"].values())
    assert "advection" in form["properties"]["model"]["anyOf"][0]["enum"]
    assert "knmi-radar" in form["properties"]["reads"]["anyOf"][0]["enum"]
    radar = write_radar(tmp_path / "rain", showers(range(4), (48, 64)))
    given = {"cube": str(tmp_path / "rain"), "reads": str(radar), "leads": ["PT5M"], "block_size": 256, "max_age": None}
    done = run(server, "forecast/cycles", {**given, "out": str(tmp_path / "out")}, "--watch")
    assert done.returncode == 0, done.stdout + done.stderr + worker.tail()
    last = server.runs(cycles["id"])[-1]
    assert last["state"]["message"].startswith("1 issued; the newest step is of 2024-06-01T12:15:00Z, ")
    assert (tmp_path / "out/cycles/20240601T121500Z/run.json").is_file()


class held:
    """The lock of a run, once no flow has it."""

    def __init__(self, out: str) -> None:
        self.out = out

    def __enter__(self) -> None:
        ends = time.monotonic() + 120
        while True:
            self.lock = pipeline.locked(self.out)
            try:
                self.lock.__enter__()
                return
            except TransientError:
                assert time.monotonic() < ends
                time.sleep(0.2)

    def __exit__(self, *_: object) -> None:
        self.lock.__exit__(None, None, None)


def until_told(server: Server, deployment: str, messages: list[str], seconds: float = 600) -> list[dict[str, Any]]:
    """The runs whose state says ``messages``, in this order; those between that had nothing to do do not count."""
    ends = time.monotonic() + seconds
    while True:
        ended = [r for r in server.runs(deployment) if r["end_time"]]
        found: list[dict[str, Any]] = []
        for one in ended:
            if len(found) < len(messages) and messages[len(found)] in one["state"]["message"]:
                found.append(one)
        if len(found) == len(messages):
            others = [r["state"]["name"] for r in ended[: ended.index(found[-1])] if r not in found]
            assert set(others) <= {"Skipped"}
            return found
        said = [r["state"]["message"] for r in ended]
        assert time.monotonic() < ends, f"{said} instead of {messages}"
        time.sleep(0.5)


def test_an_api_that_is_gone_stops_no_work(server: Server, worker: Any, model: str, tmp_path: Path) -> None:
    scene = replace(SCENE, data=testing.smooth((2, 900, 900), seed=9))
    catalog = testing.write_catalog(tmp_path / "made", [scene])
    out = tmp_path / "out"
    box = [round(v, 6) for v in scene.bbox(inner=0.02)]
    given = recipe(model, catalog, out=str(out), bbox=box, block_size=64, batch=2)
    started = run(server, "predict/adhoc", given)
    assert started.returncode == 0, started.stdout + started.stderr
    finished(out, 4, worker)
    server.prefect.stop()
    try:
        before = len(list((out / "items").glob("*.json")))
        finished(out, before + 10, worker)  # without an API
        time.sleep(5)
        missing = state(out).left
    finally:
        server.prefect.start()
    assert missing, "the run was not over when the API came back"
    (mine,) = [r for r in server.runs(server.deployment("predict/adhoc")["id"]) if r["parameters"]["out"] == str(out)]
    ends = time.monotonic() + 600
    while not (mine := server.ask("GET", f"/flow_runs/{mine['id']}"))["end_time"]:
        assert time.monotonic() < ends, f"{mine['state']} {state(out)}\n{worker.tail()}"
        time.sleep(0.5)
    assert mine["state"]["type"] == "COMPLETED", mine["state"]
    now = state(out)
    assert now.status == "finished"
    assert now.done == now.planned > 100


def finished(out: Path, count: int, worker: Any, seconds: float = 600) -> None:
    """Wait until so many blocks are done."""
    ends = time.monotonic() + seconds
    while len(list((out / "items").glob("*.json")) if out.exists() else []) < count:
        assert time.monotonic() < ends, worker.tail(60)
        time.sleep(0.1)


def test_blocks_run_on_a_dask_cluster_and_outlive_a_worker(
    server: Server, dask_cluster: Any, machine: Callable[..., None], model: str, tmp_path: Path
) -> None:
    catalog = testing.write_catalog(tmp_path / "made", [SCENE])
    machine(workers=dask_cluster.address, precision="fp32", device="cpu", threads=1)
    given = recipe(model, catalog, out=str(tmp_path / "out"), block_size=64, batch=4)

    def kill_one() -> None:
        finished(tmp_path / "out", 3, dask_cluster)
        os.kill(dask_cluster.workers[0], signal.SIGKILL)

    killer = threading.Thread(target=kill_one)
    killer.start()
    try:
        with temporary_settings({PREFECT_API_URL: server.prefect.url}):
            ended = predict(**given, return_state=True)
        killer.join()
        assert len(dask_cluster.workers) == 1
    finally:
        dask_cluster.heal()
    assert ended.is_completed(), ended
    machine(workers="here")
    out, whole = tmp_path / "out", tmp_path / "whole"
    pipeline.predict(form.recipe(given, PredictRecipe), whole)
    assert state(out).status == "finished"
    for path in sorted(whole.rglob("*.tif")):
        assert path.read_bytes() == (out / path.relative_to(whole)).read_bytes(), path


@pytest.fixture
def docker_pool(server: Server) -> Iterator[str]:
    """A pool of another kind and the two variables that send deployments to it."""
    image = {"type": "string", "title": "Image"}
    variables = {"type": "object", "properties": {"image": image, "env": {"type": "object"}, "command": image}}
    template = {"job_configuration": {k: f"{{{{ {k} }}}}" for k in variables["properties"]}, "variables": variables}
    there = (409,)  # of a first try
    server.ask("POST", "/work_pools/", {"name": "geoml-docker", "type": "docker", "base_job_template": template}, there)
    for name, value in (("geoml_pool", "-docker"), ("geoml_image", "registry.example/geoml:cpu")):
        server.ask("POST", "/variables/", {"name": name, "value": value}, there)
    yield "geoml-docker"
    for name in ("geoml_pool", "geoml_image"):
        server.ask("DELETE", f"/variables/name/{name}", fine=(404,))


def test_a_variable_sends_deployments_to_another_pool(server: Server, docker_pool: str) -> None:
    server.prefect.command("deploy", "-n", "nightly", "--prefect-file", FILE)
    made = server.deployment("monitor/nightly")
    assert made["work_pool_name"] == docker_pool
    assert made["job_variables"]["image"] == "registry.example/geoml:cpu"
    assert made["job_variables"]["env"]["PREFECT_CLIENT_MAX_RETRIES"] == "8"
