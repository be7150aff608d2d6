"""Where blocks run changes nothing; who dies there, and how the run is told to end, loses nothing."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from distributed import Client
from typer.testing import Result

import geoml
import geoml.models
from geoml import testing
from geoml.engine.packages import package
from geoml.engine.run.state import RunState, state
from geoml.engine.workers import drive as spread
from geoml.errors import DataError, InputError, TransientError
from geoml.settings import settings

BANDS = ("red", "nir")
BRITTLE = Path(__file__).with_name("brittle")
SCENE = testing.Scene(id="scene", data=testing.smooth((2, 256, 320), seed=5), bands=BANDS)
BOX = [float(f"{v:.9f}") for v in SCENE.bbox()]
MACHINE = {"GEOML_PRECISION": "fp32", "GEOML_DEVICE": "cpu", "GEOML_THREADS": "1"}
CHANGING = {"run.json", "report.html"}
"""They tell seconds."""
IN_TIME = 10 * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
"""Seconds to the end of a run that is told to end; longer where others have the processors."""

pytestmark = pytest.mark.filterwarnings("ignore:.*is already in use:UserWarning:distributed")


def assert_same(out: Path, whole: Path) -> None:
    """Every file, but for the times that two of them tell."""
    a, b = testing.tree(out), testing.tree(whole)
    assert a.keys() == b.keys()
    assert {name for name in a if a[name] != b[name]} <= CHANGING
    first, second = (json.loads((folder / "run.json").read_text()) for folder in (out, whole))
    assert first["blocks"] == second["blocks"]


def items(out: Path) -> set[str]:
    return {p.stem for p in (out / "items").glob("*.json")}


def until(what: Callable[[], Any], seconds: float = 120) -> Any:
    ends = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < ends
        time.sleep(0.01)
    return found


@pytest.fixture(autouse=True)
def _brittle(monkeypatch: pytest.MonkeyPatch, machine: Callable[..., None]) -> None:
    """Here and in processes to come there is one model more, and one thread for each of two workers."""
    monkeypatch.setattr(geoml.models, "__path__", [*geoml.models.__path__, str(BRITTLE)])
    monkeypatch.setenv("PYTHONPATH", str(BRITTLE))
    machine(threads=2)


@pytest.fixture(scope="module")
def brittle(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Some 40 blocks take four seconds, and nearly no computing."""
    folder = tmp_path_factory.mktemp("model") / "brittle"
    card = testing.card("brittle", BANDS, ("low", "middle", "high"), architecture="brittle", config={"pause": 0.1})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(geoml.models, "__path__", [*geoml.models.__path__, str(BRITTLE)])
        package.save(package.build(card), card, folder)
    return str(folder)


@pytest.fixture(scope="module")
def alone(brittle: str, catalog: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of `brittle` in one process that nobody disturbed."""
    out = tmp_path_factory.mktemp("alone") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(geoml.models, "__path__", [*geoml.models.__path__, str(BRITTLE)])
        for name, value in MACHINE.items():
            patch.setenv(name, value)
        settings.cache_clear()
        geoml.predict(recipe(brittle, catalog), out)
        settings.cache_clear()
    return out


def recipe(model: str, catalog: Path, **changes: Any) -> dict[str, Any]:
    query = {"catalog": str(catalog), "bbox": BOX, "datetime": ["2024"]}
    return {"model": model, "query": query, "block_size": 64, **changes}


class Shot:
    """A thread that kills one of some processes as soon as a run has two items."""

    def __init__(self, out: Path, pids: Callable[[], list[int]]) -> None:
        self.hit = 0
        self.done_before: set[str] = set()

        def work() -> None:
            until(lambda: len(items(out)) >= 2)
            self.done_before = items(out)
            self.hit = pids()[0]
            os.kill(self.hit, signal.SIGKILL)

        self.thread = threading.Thread(target=work)

    def __enter__(self) -> Shot:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.thread.join()


def children() -> list[int]:
    return [p.pid for p in multiprocessing.active_children() if p.name == "geoml-worker" and p.pid]


class Dask:
    """A scheduler and two workers under nannies, which start a dead worker again."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.address = f"tcp://127.0.0.1:{port}"
        web = ["--dashboard-address", "127.0.0.1:0"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "60s"}

        def start(*words: str) -> subprocess.Popen[bytes]:
            command = [sys.executable, "-m", "dask", *words, *web]
            with (folder / f"{words[0]}.log").open("wb") as log:
                return subprocess.Popen(command, env=environment, cwd=folder, stdout=log, stderr=log)

        self.processes = [start("scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-show")]
        more = ["--nworkers", "2", "--nthreads", "1", "--memory-limit", "0", "--local-directory", str(folder)]
        self.processes.append(start("worker", self.address, "--host", "127.0.0.1", *more))

    def pids(self) -> list[int]:
        with Client(self.address, set_as_default=False) as client:
            client.wait_for_workers(2, timeout=120)
            return list(client.run(os.getpid).values())

    def stop(self) -> None:
        for process in reversed(self.processes):
            process.terminate()
            process.wait(30)


@pytest.fixture(scope="module")
def dask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dask]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(BRITTLE))
        for name, value in MACHINE.items():
            patch.setenv(name, value)
        cluster = Dask(tmp_path_factory.mktemp("dask"))
    yield cluster
    cluster.stop()


@pytest.mark.slow
def test_two_processes_write_what_one_writes_though_one_is_killed(
    unet: str, catalog: Path, machine: Callable[..., None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    given = recipe(unet, catalog)
    geoml.predict(given, tmp_path / "whole")
    machine(workers="processes:2")
    seen: dict[str, int] = {}
    with Shot(tmp_path / "two", children) as shot:
        geoml.predict(given, tmp_path / "two", progress=lambda key, n: seen.update({key: seen.get(key, 0) + n}))
    assert shot.hit
    assert "ended by signal 9 (SIGKILL)" in caplog.text
    assert not children()
    assert_same(tmp_path / "two", tmp_path / "whole")
    assert seen.keys() == items(tmp_path / "two")
    assert min(seen.values()) >= 64 * 64
    told = json.loads((tmp_path / "two" / "run.json").read_text())
    assert told["seconds"].keys() == {"read", "model", "write", "publish", "collect", "map"}
    assert told["bytes"].keys() == {"read", "write", "features"}


@pytest.mark.integration
def test_a_dask_cluster_writes_what_one_process_writes(
    unet: str,
    catalog: Path,
    dask: Dask,
    machine: Callable[..., None],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    given = recipe(unet, catalog)
    geoml.predict(given, tmp_path / "whole")
    machine(workers=dask.address)
    seen: dict[str, int] = {}
    geoml.predict(given, tmp_path / "dask", progress=lambda key, n: seen.update({key: seen.get(key, 0) + n}))
    assert "gone" not in caplog.text
    assert_same(tmp_path / "dask", tmp_path / "whole")
    assert seen == dict.fromkeys(items(tmp_path / "dask"), 64 * 64)


@pytest.mark.integration
def test_a_killed_dask_worker_loses_nothing(
    brittle: str,
    alone: Path,
    catalog: Path,
    dask: Dask,
    machine: Callable[..., None],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    machine(workers=dask.address)
    pids = dask.pids()
    with Shot(tmp_path / "dask", lambda: pids) as shot:
        geoml.predict(recipe(brittle, catalog), tmp_path / "dask")
    assert shot.hit
    assert "gone from the Dask cluster" in caplog.text
    assert_same(tmp_path / "dask", alone)


@pytest.mark.integration
def test_a_block_that_kills_its_workers_is_named_and_its_neighbours_are_done(
    brittle: str, dask: Dask, machine: Callable[..., None], tmp_path: Path
) -> None:
    data = SCENE.data.copy()
    data[0, 100, 150] = 65_000  # 6.5 with the scale
    bad = testing.Scene(id="bad", data=data, bands=BANDS)
    catalog = testing.write_catalog(tmp_path / "bad", [bad])
    machine(workers=dask.address)
    out = tmp_path / "out"
    with pytest.raises(DataError, match=r"1 of \d+ blocks failed"):
        geoml.predict(recipe(brittle, catalog), out)
    run = json.loads((out / "run.json").read_text())
    (key,) = run["blocks"]["failed"]
    place = bad.window
    y, x = (place.y0 + 100) // 64, (place.x0 + 150) // 64
    assert key.endswith(f"_y{y}_x{x}")
    ended = r"the process at tcp://\S+ is gone from the Dask cluster, and so did 2 before it"
    assert re.match(ended, run["blocks"]["failed"][key])
    assert len(run["blocks"]["done"]) == run["blocks"]["planned"] - 1 == len(items(out)) > 20
    found = state(out)
    assert (found.status, found.left, list(found.failed)) == ("failed", 0, [key])


class Command:
    """``geoml predict`` in a process group of its own."""

    def __init__(self, workers: str, model: str, catalog: Path, out: Path) -> None:
        box = [f"{v:.9f}" for v in BOX]
        words = ["predict", "--model", model, "--catalog", str(catalog), "--bbox", *box, "--datetime", "2024"]
        # jobs in the background of a shell are started deaf to Ctrl-C, and so would be what tests start there
        program = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        program += "from geoml.cli import app; app()"
        self.process = subprocess.Popen(
            [sys.executable, "-c", program, *words, "--out", str(out), "--block-size", "64"],
            env={**os.environ, "OMP_NUM_THREADS": "1", "GEOML_WORKERS": workers, "BRITTLE_SLOWER": "5"},
            start_new_session=True,
            stderr=subprocess.PIPE,
            text=True,
        )

    def family(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def end(self, number: int, *, group: bool = False) -> tuple[float, int, str]:
        """Send a signal: seconds to the end, exit code, what was written to standard error."""
        started = time.monotonic()
        (os.killpg if group else os.kill)(self.process.pid, number)
        _, text = self.process.communicate(timeout=60)
        return time.monotonic() - started, self.process.returncode, text


def assert_stopped(out: Path) -> RunState:
    """Blocks are there whole or not at all, and nobody holds the run."""
    found = state(out)
    assert found.status == "stopped"
    assert 0 < found.done == len(items(out)) < found.planned
    assert found.left == found.planned - found.done
    assert {p.parent.name for p in (out / "cogs").glob("*/*") if not p.name.startswith(".")} == items(out)
    assert not list(out.rglob("*.part"))
    assert not (out / ".geoml" / "lock.json").exists()
    return found


@pytest.mark.parametrize(
    ("workers", "number", "code"),
    [
        ("here", signal.SIGTERM, 143),
        pytest.param("processes:2", signal.SIGINT, 130, marks=pytest.mark.slow),
        pytest.param("cluster:2", signal.SIGTERM, 143, marks=pytest.mark.slow),
    ],
)
def test_a_run_that_is_told_to_end_ends_in_order(
    workers: str,
    number: int,
    code: int,
    brittle: str,
    alone: Path,
    catalog: Path,
    cli: Callable[..., Result],
    tmp_path: Path,
) -> None:
    """SIGTERM to the command, or Ctrl-C, which a terminal sends to all of its processes."""
    out = tmp_path / "out"
    command = Command(workers, brittle, catalog, out)
    until(lambda: len(items(out)) >= 3)
    during = state(out)
    assert during.status == "running"
    assert during.holder
    assert during.holder["pid"] == command.process.pid
    assert during.started
    family = command.family()
    assert len(family) >= (0 if workers == "here" else 2)
    seconds, ended, text = command.end(number, group=number == signal.SIGINT)
    assert seconds < IN_TIME
    assert ended == code, text
    assert "Traceback" not in text
    assert "WARNING" not in text
    assert psutil.wait_procs(family, timeout=5)[1] == []
    stopped = assert_stopped(out)
    shown = json.loads(cli("runs", out, "--json").stdout)
    assert (shown["status"], shown["done"], shown["planned"]) == ("stopped", stopped.done, stopped.planned)
    geoml.predict(recipe(brittle, catalog), out)
    assert_same(out, alone)
    assert state(out).status == "finished"
    assert "finished" in cli("runs", out).stdout


@pytest.mark.slow
def test_workers_of_a_killed_command_end_with_it(
    brittle: str, alone: Path, catalog: Path, cli: Callable[..., Result], tmp_path: Path
) -> None:
    """Nobody writes beside the one that takes the run up again."""
    out = tmp_path / "out"
    command = Command("processes:2", brittle, catalog, out)
    until(lambda: len(items(out)) >= 3)
    family = command.family()
    command.end(signal.SIGKILL)
    gone, alive = psutil.wait_procs(family, timeout=10)
    assert len(gone) >= 2
    assert not alive
    found = state(out)
    assert found.status == "died"
    assert 3 <= found.done < found.planned
    assert "died" in cli("runs", out).stdout
    geoml.predict(recipe(brittle, catalog), out)
    assert state(out).status == "finished"
    assert_same(out, alone)


def test_a_read_that_hangs_does_not_keep_a_run_that_is_told_to_end(brittle: str, tmp_path: Path) -> None:
    catalog = testing.write_catalog(tmp_path / "made", [SCENE])
    with socket.create_server(("127.0.0.1", 0)) as server:  # takes calls and says nothing
        path = tmp_path / "made" / "scene" / "item.json"
        item = json.loads(path.read_text())
        item["assets"]["image"]["href"] = f"http://127.0.0.1:{server.getsockname()[1]}/image.tif"
        path.write_text(json.dumps(item))
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("GEOML_PRIVATE_HOSTS", "true")
            command = Command("here", brittle, catalog, tmp_path / "out")
        server.settimeout(120)
        call, _ = server.accept()
        with call:
            time.sleep(0.5)
            seconds, code, text = command.end(signal.SIGTERM)
    assert seconds < IN_TIME
    assert code == 143, text
    assert not (tmp_path / "out" / ".geoml" / "lock.json").exists()


def test_log_lines_say_run_block_and_item(brittle: str, catalog: Path, tmp_path: Path) -> None:
    box = [f"{v:.9f}" for v in SCENE.bbox(inner=0.45)]
    words = ["-v", "predict", "--model", brittle, "--catalog", str(catalog), "--bbox", *box, "--datetime", "2024"]
    program = "from geoml.cli import app; app()"
    result = subprocess.run(
        [sys.executable, "-c", program, *words, "--out", str(tmp_path / "out"), "--block-size", "64"],
        capture_output=True,
        text=True,
        check=True,
    )
    run = json.loads((tmp_path / "out" / "run.json").read_text())["hash"][:8]
    for block in items(tmp_path / "out"):
        assert f"INFO run={run} block={block} item=scene reading 2 bands" in result.stderr.splitlines()
        assert f"INFO run={run} block={block} done" in result.stderr.splitlines()


@pytest.mark.parametrize(
    "workers", ["two", "processes", "processes:0", "cluster:x", "http://127.0.0.1:8786", "tcp://x"]
)
def test_a_place_that_is_none_is_refused(workers: str) -> None:
    with pytest.raises(InputError, match="GEOML_WORKERS"):
        spread.parse(workers)


def test_a_scheduler_that_is_not_there_is_a_transient_error(
    brittle: str, catalog: Path, machine: Callable[..., None], tmp_path: Path
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        machine(workers=f"tcp://127.0.0.1:{free.getsockname()[1]}", timeout=1)
        logging.getLogger("distributed").setLevel(logging.CRITICAL)
        with pytest.raises(TransientError, match="no Dask scheduler"):
            geoml.predict(recipe(brittle, catalog), tmp_path / "out")
    assert not (tmp_path / "out" / ".geoml" / "lock.json").exists()
