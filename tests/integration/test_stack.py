"""The services of the local stack, each by the client that geoml uses."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import geopandas
import numpy as np
import obstore
import psutil
import psycopg
import pystac
import pytest
import rasterio
import requests
from distributed import Client
from obstore.exceptions import AlreadyExistsError, UnauthenticatedError

from geoml import pipeline
from geoml.errors import NothingFound
from geoml.io.stac.search import read_items

pytestmark = [pytest.mark.integration, pytest.mark.slow]

SCRIPT = Path(__file__).parents[2] / "docker" / "stack.py"
BIN = Path(sys.executable).parent
DEMO = Path(__file__).parents[2] / "catalogs" / "demo"
HAS_TORCH = "'torch' in __import__('sys').modules"
EVERYWHERE = [-54.8, -25.5, -54.4, -25.1]
SOUTH = [-54.6, -25.46, -54.5, -25.4]  # only the southern scene


@pytest.fixture(scope="module")
def demo(stac_api: Any) -> str:
    """The URL of the STAC API, with the demo collection in it."""
    items = [json.loads(p.read_text()) for p in DEMO.glob("*/item.json")]
    stac_api.load(json.loads((DEMO / "collection.json").read_text()), items)
    return str(stac_api.url)


def search(url: str, bbox: list[float] = EVERYWHERE, datetime: str = "2020-05-18", **more: Any) -> list[str]:
    query = {"catalog": url, "collection": "landsat-itaipu", "bbox": bbox, "datetime": [datetime], **more}
    return [item.id for item in pipeline.search(query)]


def test_the_stac_api_answers_by_place_time_and_property(demo: str) -> None:
    both = ["LC08_L1TP_224077_20200518_20200518_01_RT", "LC08_L1TP_224078_20200518_20200518_01_RT"]
    assert search(demo) == both == search("demo")
    assert search(demo, SOUTH) == both[1:] == search("demo", SOUTH)
    assert search(demo, filter='"platform" = \'landsat-8\' AND "gsd" < 31') == both
    for nothing in ({"datetime": "2020-05-19"}, {"bbox": [10, 5, 11, 6]}, {"filter": '"gsd" < 30'}):
        with pytest.raises(NothingFound, match="no items"):
            search(demo, **nothing)


def test_the_stac_api_has_pages(stac_api: Any, demo: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seven items in pages of three: all come, each once, in the order asked for."""
    one = json.loads(next(DEMO.glob("*77_*/item.json")).read_text())
    days = [f"2021-01-0{n}" for n in range(1, 8)]
    made = [{**one, "id": d, "properties": {"datetime": f"{d}T12:00:00Z"}} for d in days]
    stac_api.load({**json.loads((DEMO / "collection.json").read_text()), "id": "paged"}, made)
    monkeypatch.setattr("geoml.io.stac.search.PAGE", 3)
    asked: list[str] = []
    send = requests.Session.request

    def counted(self: requests.Session, method: str, url: str, **more: Any) -> requests.Response:
        asked.append(url)
        return send(self, method, url, **more)

    monkeypatch.setattr(requests.Session, "request", counted)
    assert search(demo, datetime="2021", collection="paged", sortby="datetime") == days
    assert len([url for url in asked if "search" in url]) >= 3
    stac_api.load({**json.loads((DEMO / "collection.json").read_text()), "id": "paged"}, made)
    assert search(demo, datetime="2021", collection="paged", limit=2) == days[:-3:-1], "loading again adds nothing"


def test_s3_keeps_what_it_is_given(s3: Any) -> None:
    store, body = s3.store, os.urandom(12 * 2**20)
    obstore.put(store, "stack/large.bin", body, use_multipart=True, chunk_size=5 * 2**20)
    assert obstore.get(store, "stack/large.bin").bytes() == body
    assert obstore.get_range(store, "stack/large.bin", start=2**20, end=2**20 + 7) == body[2**20 : 2**20 + 7]
    obstore.put(store, "stack/once.json", b"first", mode="create")
    with pytest.raises(AlreadyExistsError):
        obstore.put(store, "stack/once.json", b"second", mode="create")
    assert obstore.get(store, "stack/once.json").bytes() == b"first"
    listed = [o["path"] for o in obstore.list(store, "stack/").collect()]
    assert sorted(listed) == ["stack/large.bin", "stack/once.json"]
    other = type(store)(
        s3.bucket,
        endpoint=s3.url,
        access_key_id="geoml",
        secret_access_key="x",
        region="us-east-1",
        client_options={"allow_http": True},
    )
    with pytest.raises((UnauthenticatedError, PermissionError, obstore.exceptions.BaseError)):
        obstore.get(other, "stack/once.json")


def test_gdal_reads_a_cog_from_s3(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    red = next(DEMO.glob("*77_*/red.tif"))
    s3.upload({"stack/red.tif": red})
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"):
        monkeypatch.setenv(name, s3.env[name])
    there = {"AWS_S3_ENDPOINT": s3.url.removeprefix("http://"), "AWS_HTTPS": "NO", "AWS_VIRTUAL_HOSTING": "FALSE"}
    path = f"/vsis3/{s3.bucket}/stack/red.tif"
    with rasterio.Env(**there), rasterio.open(path) as far, rasterio.open(red) as near:
        assert far.profile == near.profile
        np.testing.assert_array_equal(far.read(1), near.read(1))


def test_nginx_serves_ranges(nginx: Any) -> None:
    body = bytes(range(256)) * 1000
    (nginx.root / "a.bin").write_bytes(body)
    answer = requests.get(f"{nginx.url}/a.bin", headers={"Range": "bytes=1000-1999"}, timeout=10)
    assert answer.status_code == 206
    assert answer.content == body[1000:2000]
    assert requests.get(f"{nginx.url}/none.bin", timeout=10).status_code == 404
    red = next(DEMO.glob("*77_*/red.tif"))
    (nginx.root / "red.tif").write_bytes(red.read_bytes())
    with rasterio.open(f"/vsicurl/{nginx.url}/red.tif") as far, rasterio.open(red) as near:
        np.testing.assert_array_equal(far.read(1), near.read(1))


def test_dask_runs_on_two_processes_and_gets_back_one_that_died(dask_cluster: Any) -> None:
    assert len(dask_cluster.workers) == 2
    with Client(dask_cluster.address) as client:
        assert set(client.run(os.getpid).values()) == set(dask_cluster.workers)
        assert sum(client.gather(client.map(abs, range(-100, 0)))) == 5050
    gone = dask_cluster.workers[0]
    os.kill(gone, signal.SIGKILL)
    deadline = time.monotonic() + 20
    while dask_cluster.registered() != 1:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert len(dask_cluster.workers) == 1
    dask_cluster.heal()
    dask_cluster.wait()
    assert gone not in dask_cluster.workers
    with Client(dask_cluster.address) as client:
        assert client.submit(sum, [1, 2]).result(timeout=30) == 3


def test_prefect_answers(prefect_server: Any) -> None:
    assert requests.get(f"{prefect_server.url}/health", timeout=10).json() is True
    prefect_server.command("work-pool", "create", "stack", "--type", "process")
    pools = requests.post(f"{prefect_server.url}/work_pools/filter", json={}, timeout=10).json()
    assert ("stack", "process") in {(p["name"], p["type"]) for p in pools}


def members(group: int) -> list[str]:
    """Command lines of the living processes of a process group."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                found.append(" ".join(process.cmdline()))
    return found


def within(seconds: float, holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_service_that_does_not_start_says_why(stack: ModuleType, tmp_path: Path) -> None:
    class Broken(stack.Service):  # type: ignore[misc, name-defined]
        patience = 20.0

        def launch(self) -> None:
            self.spawn(["sh", "-c", "echo the disk is full >&2; exit 3"])

        def ready(self) -> bool:
            return False

    class Silent(Broken):
        patience = grace = 0.5

        def launch(self) -> None:
            self.spawn(["sh", "-c", "trap '' TERM; echo waiting; sleep 600 & wait; wait"])

    with pytest.raises(stack.StackError, match=r"(?s)Broken: ended with code 3.*the disk is full"):
        Broken(tmp_path / "broken").start()
    silent = Silent(tmp_path / "silent")
    silent.launch()
    pid = silent.pid
    with pytest.raises(stack.StackError, match=r"(?s)Silent: no answer: not after 0 s.*waiting"):
        silent.wait()
    assert members(pid) == [], "neither it nor its child"


def test_services_end_with_the_process_that_started_them(tmp_path: Path) -> None:
    """Killed without a chance to stop anything, it leaves no server behind."""
    program = (
        "import sys, time; sys.path.insert(0, sys.argv[1]); from pathlib import Path; import stack\n"
        "class Sleep(stack.Service):\n"
        "    def launch(self): self.spawn(['sleep', '600'])\n"
        "    def ready(self): return True\n"
        "print(Sleep(Path(sys.argv[2])).start().pid, flush=True); time.sleep(600)\n"
    )
    words = [sys.executable, "-c", program, str(SCRIPT.parent), str(tmp_path)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as parent:
        try:
            assert parent.stdout
            pid = int(parent.stdout.readline())
            within(10, lambda: members(pid) == ["sleep 600"])  # setpriv, until it has become its program
        finally:
            parent.kill()
    within(10, lambda: not members(pid))


class Local:
    """``docker/stack.py up`` as a process."""

    def __init__(self, log: Path) -> None:
        self.log = log
        with log.open("wb") as file:
            self.process = subprocess.Popen([sys.executable, SCRIPT, "up"], stdout=file, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + 240
        while "Ctrl-C ends it" not in self.said:
            assert self.process.poll() is None, self.said
            assert time.monotonic() < deadline, self.said
            time.sleep(0.2)
        self.file = Path(self.said.partition("\nIn another terminal:  . ")[2].split()[0])
        exports = [line.removeprefix("export ") for line in self.file.read_text().splitlines()]
        self.env = dict(line.split("=", 1) for line in exports)
        self.folder = Path(self.env["GEOML_SCRATCH"]).parent

    @property
    def said(self) -> str:
        return self.log.read_text()

    def services(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)


@pytest.fixture(scope="module")
def local(stack: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Local]:
    for kind in (stack.StacApi, stack.S3, stack.Prefect, stack.DaskCluster):
        if why := kind.available():
            pytest.skip(f"{kind.__name__}: {why}")
    running = Local(tmp_path_factory.mktemp("local") / "log.txt")
    yield running
    if running.process.poll() is None:  # a test failed before the last one
        running.process.send_signal(signal.SIGINT)
        running.process.wait(60)


def test_it_listens_on_loopback_alone(local: Local) -> None:
    ours = {p.pid: p for p in local.services()}  # some are short-lived: only those that listen are asked for a name
    sockets = [c for c in psutil.net_connections("inet") if c.status == psutil.CONN_LISTEN and c.pid in ours]
    listening = {(ours[c.pid].name(), c.laddr.ip) for c in sockets}
    assert {name for name, _ in listening} >= {"dask", "postgres", "prefect", "uvicorn", "weed"}
    assert {ip for _, ip in listening} == {"127.0.0.1"}, listening


def test_its_passwords_are_its_own_and_stay_in_files_of_this_user(local: Local) -> None:
    files = [local.file, *(local.folder / name for name in ("postgres/password", "s3/secret", "s3/s3.json"))]
    assert {oct(p.stat().st_mode & 0o777) for p in files} == {"0o600"}
    known = [local.env["AWS_SECRET_ACCESS_KEY"], (local.folder / "postgres" / "password").read_text()]
    assert all(re.fullmatch("[0-9a-f]{32}", secret) for secret in known)
    assert len(set(known)) == 2
    shown = {word for p in local.services() for word in p.cmdline()}
    assert [s for s in known if s in local.said or any(s in word for word in shown)] == []


@pytest.mark.slow
def test_a_deployment_predicts_by_the_stac_api_from_and_to_s3_on_dask(
    stack: ModuleType, local: Local, tmp_path: Path
) -> None:
    query = {"collection": "landsat-itaipu", "bbox": [-54.6, -25.36, -54.5, -25.24], "datetime": ["2020-05-18"]}
    how = {"model": "demo-itaipu", "crs": "data", "block_size": 512}
    given = {**how, **query, "catalog": "stack", "out": "s3://geoml/nightly", "batch": 1}
    words = [w for key, value in given.items() for w in ("-p", f"{key}={json.dumps(value)}")]
    with Client(local.env["GEOML_WORKERS"]) as client:
        assert not any(client.run(eval, HAS_TORCH).values()), "nothing ran there yet"
    run = subprocess.run(
        [BIN / "prefect", "deployment", "run", "predict/adhoc", *words, "--watch"],
        env={**os.environ, **local.env},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    log = (local.folder / "worker" / "log.txt").read_text()
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:] + log[-6000:]
    with Client(local.env["GEOML_WORKERS"]) as client:
        assert any(client.run(eval, HAS_TORCH).values()), "the blocks ran on Dask"

    password = (local.folder / "postgres" / "password").read_text()
    address = local.said.partition("PostgreSQL")[2].split()[0]
    with psycopg.connect(f"postgresql://postgres:{password}@{address}/prefect") as link:
        states = link.execute("SELECT state_name FROM flow_run WHERE state_name <> 'Scheduled'").fetchall()
    assert states == [("Completed",)], "Prefect keeps its runs in PostgreSQL; those of the schedule are still to come"

    near = tmp_path / "near"  # the same job on the same files, in this process, without any service
    pipeline.predict({**how, "query": {**query, "catalog": "demo"}}, near)
    store = stack.bucket_store("geoml", local.env)
    far = tmp_path / "far"
    for found in obstore.list(store, "nightly/").collect():
        path = far / found["path"].removeprefix("nightly/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(obstore.get(store, found["path"]).bytes())
    cogs = sorted(p.relative_to(near) for p in near.rglob("*.tif"))
    assert len(cogs) >= 6
    assert cogs == sorted(p.relative_to(far) for p in far.rglob("*.tif"))
    for path in cogs:
        assert (near / path).read_bytes() == (far / path).read_bytes(), path
    columns = ["name", "area_m2", "geometry"]
    mine, theirs = (geopandas.read_parquet(f / "features.parquet")[columns] for f in (near, far))
    assert mine.equals(theirs)
    read = pystac.ItemCollection(read_items(far / "sources.parquet"))
    assert {a.href.partition("/demo/")[0] for item in read for a in item.assets.values()} == {"s3://geoml"}


def test_it_ends_without_leaving_anything(local: Local) -> None:
    """Last of the tests of ``local``: Ctrl-C."""
    services = local.services()
    assert len(services) > 6
    local.process.send_signal(signal.SIGINT)
    assert local.process.wait(60) == 0, local.said
    assert psutil.wait_procs(services, timeout=10)[1] == []
    assert not local.folder.exists()
    assert local.said.endswith("stopping\n")
