"""Nobody without the key gives work to a Dask cluster that geoml starts; certificates for those of others are used."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from distributed import Client, LocalCluster, Security
from distributed.comm import connect

import geoml
from flows.runner import Steps
from geoml import testing
from geoml.engine.workers.cluster_tls import private

BANDS = ("red", "nir")
SCENE = testing.Scene(id="scene", data=testing.smooth((2, 128, 192), seed=5), bands=BANDS)


def recipe(model: str, catalog: Path) -> dict[str, Any]:
    query = {"catalog": str(catalog), "bbox": [float(f"{v:.9f}") for v in SCENE.bbox()], "datetime": ["2024"]}
    return {"model": model, "query": query, "block_size": 64}


def assert_same_maps(out: Path, whole: Path) -> None:
    maps = sorted(p.relative_to(whole) for p in whole.rglob("*.tif"))
    assert len(maps) > 10
    assert maps == sorted(p.relative_to(out) for p in out.rglob("*.tif"))
    assert [p for p in maps if (out / p).read_bytes() != (whole / p).read_bytes()] == []


def listening() -> dict[int, str]:
    """Ports, and their addresses, of this process and all that it has started."""
    here = psutil.Process()
    found = (c for p in (here, *here.children(recursive=True)) for c in p.net_connections("inet"))
    return {c.laddr.port: c.laddr.ip for c in found if c.status == psutil.CONN_LISTEN}


async def knock(address: str, security: Security | None = None) -> str | None:
    """How a caller is refused, by its kind of error; None where Dask took the call."""
    how = security.get_connection_args("client") if security else {}
    try:
        comm = await asyncio.wait_for(connect(address, timeout=3, **how), 3)
    except (OSError, TimeoutError) as err:  # a port that speaks HTTP says nothing that Dask would wait for
        return type(err).__name__
    comm.abort()
    return None


def assert_closed(before: set[int], at_least: int) -> None:
    """Every port that came since is on loopback, and takes no call without the key."""
    ports = {p: ip for p, ip in listening().items() if p not in before}
    assert len(ports) >= at_least
    assert set(ports.values()) == {"127.0.0.1"}

    async def strangers() -> list[str | None]:
        other = Security.temporary()
        plain = (knock(f"tcp://127.0.0.1:{port}") for port in ports)
        return await asyncio.gather(*plain, *(knock(f"tls://127.0.0.1:{port}", other) for port in ports))

    assert None not in asyncio.run(strangers()), "without TLS, or with another certificate"


def assert_ours(client: Client) -> None:
    assert client.scheduler.address.startswith("tls://127.0.0.1:")
    assert asyncio.run(knock(client.scheduler.address, client.security)) is None, "who has the key is not refused"


def test_strangers_are_refused_by_a_scheduler_that_geoml_starts() -> None:
    before = set(listening())
    with LocalCluster(**private(0, threads=1)) as cluster, Client(cluster, set_as_default=False) as client:
        assert_closed(before, at_least=1)
        assert_ours(client)


@pytest.mark.slow
def test_strangers_are_refused_by_the_workers_of_a_flow(machine: Callable[..., None], tmp_path: Path) -> None:
    machine(workers="cluster:1")
    before = set(listening())
    with Steps(None, str(tmp_path), print) as pool:  # type: ignore[arg-type]  # no step is given
        client = pool.runners[0].client  # type: ignore[attr-defined]
        client.wait_for_workers(1, timeout=60)
        assert_closed(before, at_least=3)
        assert_ours(client)
        assert client.submit(pow, 2, 3).result(timeout=60) == 8, "and it works on"


@pytest.mark.slow
def test_strangers_are_refused_while_a_command_writes_what_one_process_writes(
    threshold: str, catalog: Path, machine: Callable[..., None], tmp_path: Path
) -> None:
    geoml.predict(recipe(threshold, catalog), tmp_path / "whole")
    machine(workers="cluster:1")
    before, told = set(listening()), list[str]()

    def during(key: str, _pixels: int) -> None:
        if not told:
            assert_closed(before, at_least=3)
        told.append(key)

    geoml.predict(recipe(threshold, catalog), tmp_path / "out", progress=during)
    assert told
    assert_same_maps(tmp_path / "out", tmp_path / "whole")


@contextmanager
def scheduler_of_others(folder: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """A scheduler with certificates and one worker: its address, and what a caller sets in the environment."""
    made = Security.temporary().get_tls_config_for_role("client")
    for name in ("ca_file", "cert", "key"):
        (folder / name).write_text(made[name])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tls://127.0.0.1:{free.getsockname()[1]}"
    files = ["--tls-ca-file", folder / "ca_file", "--tls-cert", folder / "cert", "--tls-key", folder / "key"]
    files += ["--host", "tls://127.0.0.1", "--dashboard-address", "127.0.0.1:0"]
    starts = [["scheduler", "--port", address.rpartition(":")[2], "--no-show"]]
    starts += [["worker", address, "--nthreads", "1", "--memory-limit", "0", "--local-directory", folder]]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    running = []
    try:
        for words in starts:
            command = [sys.executable, "-m", "dask", *map(str, words), *map(str, files)]
            with (folder / f"{words[0]}.log").open("wb") as log:
                running.append(subprocess.Popen(command, env=env, cwd=folder, stdout=log, stderr=log))
        tls = "DASK_DISTRIBUTED__COMM__TLS__"
        yield (
            address,
            {
                f"{tls}CA_FILE": str(folder / "ca_file"),
                f"{tls}CLIENT__CERT": str(folder / "cert"),
                f"{tls}CLIENT__KEY": str(folder / "key"),
            },
        )
    finally:
        for process in reversed(running):
            process.terminate()
            process.wait(30)


@pytest.mark.slow
@pytest.mark.integration
def test_a_scheduler_of_others_is_called_with_the_certificates_of_the_environment(
    threshold: str, catalog: Path, tmp_path: Path
) -> None:
    geoml.predict(recipe(threshold, catalog), tmp_path / "whole")
    given = recipe(threshold, catalog)
    words = ["predict", "--model", threshold, "--catalog", str(catalog), "--bbox", *map(str, given["query"]["bbox"])]
    words += ["--datetime", "2024", "--block-size", "64", "--out"]

    def run(out: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
        program = "from geoml.cli import app; app()"
        command = [sys.executable, "-c", program, *words, str(tmp_path / out)]
        env = {**os.environ, "GEOML_WORKERS": address, "GEOML_TIMEOUT": "60", **env}
        return subprocess.run(command, env=env, capture_output=True, text=True, timeout=200, check=False)

    with scheduler_of_others(tmp_path) as (address, env):
        done = run("out", env)
        assert done.returncode == 0, done.stderr
        without = run("without", {})
        assert (without.returncode, "no certificates" in without.stderr) == (2, True), without.stderr
        foreign = Security.temporary().get_tls_config_for_role("client")
        for name in ("ca_file", "cert", "key"):
            (tmp_path / f"other-{name}").write_text(foreign[name])
        other = {name: str(Path(path).with_name(f"other-{Path(path).name}")) for name, path in env.items()}
        refused = run("refused", other)
        assert (refused.returncode, "do not fit" in refused.stderr) == (2, True), refused.stderr
    assert_same_maps(tmp_path / "out", tmp_path / "whole")
