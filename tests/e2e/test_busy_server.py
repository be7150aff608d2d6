"""Prefect's server when there is no time for it: late at start, its database locked, gone; by real ones."""

from __future__ import annotations

import http.server
import logging
import os
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from prefect import flow
from prefect.exceptions import PrefectHTTPStatusError
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_HOME,
    PREFECT_SERVER_ALLOW_EPHEMERAL_MODE,
    PREFECT_SERVER_DATABASE_TIMEOUT,
    PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS,
    temporary_settings,
)

from flows import command, server
from geoml.cli.demo import prefect_environment
from geoml.errors import DataError, TransientError
from tests.serving import serving

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A Prefect without a server, whose database lies in ``home/prefect.db``."""
    monkeypatch.setattr(server, "PAUSE", 0.1)
    alone = {PREFECT_HOME: tmp_path, PREFECT_SERVER_ALLOW_EPHEMERAL_MODE: True}
    with temporary_settings(alone, restore_defaults={PREFECT_API_URL}):
        yield tmp_path
        server._stop()


@flow
def nothing() -> int:
    return 1


def run() -> int:
    return command.exit_code(lambda: nothing(return_state=True))


@pytest.mark.slow
def test_a_server_that_is_late_each_time_is_named(
    home: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """No server of Prefect starts within a second: its imports take longer."""
    with temporary_settings({PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS: 1}), caplog.at_level(logging.WARNING):
        assert run() == TransientError.exit_code
    said = capsys.readouterr().err
    for word in ("TransientError", "Prefect's server", server.STARTUP, "=1", "Timed out", "3 times", "PREFECT_API_URL"):
        assert word in said, said
    again = [r for r in caplog.records if "trying again" in r.getMessage()]
    assert len(again) == server.TRIES - 1


@pytest.mark.slow
def test_a_database_that_is_locked_at_first_only_delays(home: Path) -> None:
    """As long as it is locked the real server cannot begin: it does when the lock is gone."""
    other = sqlite3.connect(home / "prefect.db", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        sqlite3.connect(home / "prefect.db", timeout=0).execute("PRAGMA journal_mode = WAL")
    release = threading.Timer(6.0, other.execute, ("COMMIT",))
    release.start()
    with temporary_settings({PREFECT_SERVER_DATABASE_TIMEOUT: 1}):
        assert run() == 0
    assert not release.is_alive(), "it could not have been done before"
    other.close()


@contextmanager
def answers(code: int) -> Iterator[str]:
    """The address of a server that answers with a code."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(code)

        def log_message(self, *_: object) -> None:
            pass

    with serving(http.server.HTTPServer(("127.0.0.1", 0), Handler)) as made:
        yield f"http://127.0.0.1:{made.server_port}"


def failure(of: str, folder: Path) -> Exception:
    """An error as it really comes."""
    try:
        if of == "locked":
            one = sqlite3.connect(folder / "a.db", isolation_level=None)
            one.execute("BEGIN EXCLUSIVE")
            sqlite3.connect(folder / "a.db", timeout=0).execute("CREATE TABLE t (x)")
        elif of == "gone":
            with socket.create_server(("127.0.0.1", 0)) as made:
                port = made.getsockname()[1]
            httpx.get(f"http://127.0.0.1:{port}")
        elif of == "silent":
            with socket.create_server(("127.0.0.1", 0)) as made:
                httpx.get(f"http://127.0.0.1:{made.getsockname()[1]}", timeout=0.2)
        else:
            with answers(int(of)) as url:
                httpx.get(url).raise_for_status()
    except httpx.HTTPStatusError as err:
        return PrefectHTTPStatusError.from_httpx_error(err)
    except (httpx.HTTPError, sqlite3.Error) as err:
        return err
    raise AssertionError(of)


@pytest.mark.parametrize(
    ("of", "expected"),
    [("locked", True), ("gone", True), ("silent", True), ("503", True), ("500", True), ("404", False), ("422", False)],
)
def test_what_is_busy_and_what_is_wrong(of: str, expected: bool, tmp_path: Path) -> None:
    error = failure(of, tmp_path)
    assert server.busy(error) == expected
    outer, ours = RuntimeError("told by another"), DataError("has an exit code of its own")
    outer.__cause__ = ours.__cause__ = error
    assert server.busy(outer) == expected
    assert not server.busy(ours)


def test_what_is_not_busy_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "PAUSE", 0.0)
    tries: list[int] = []

    def fails() -> None:
        tries.append(1)
        raise RuntimeError("a fault of ours")

    with pytest.raises(RuntimeError, match="of ours"):
        server.patiently(fails)
    assert len(tries) == 1

    def twice() -> int:
        tries.append(1)
        if len(tries) < 4:
            raise httpx.ReadTimeout("late")
        return 7

    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:1/api"}):  # so that no temporary server is asked
        assert server.patiently(twice) == 7
    assert len(tries) == 4


CODE = """
import sys
if sys.argv[1] == "prefect-first":
    import prefect
import flows.form
from prefect.settings import get_current_settings
said = get_current_settings().server
print(said.ephemeral.startup_timeout_seconds, said.database.timeout)
"""


def timeouts(order: str, home: Path, **env: str) -> list[str]:
    clean = {k: v for k, v in os.environ.items() if k not in server.PATIENCE}
    given = {**clean, "PREFECT_HOME": str(home), **env}
    program = [sys.executable, "-c", CODE, order]
    return subprocess.run(program, env=given, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()


def test_one_place_gives_the_time_and_the_user_has_the_last_word(tmp_path: Path) -> None:
    assert timeouts("prefect-first", tmp_path) == ["300", "60.0"]
    (tmp_path / "profiles.toml").write_text(f'active = "own"\n[profiles.own]\n{server.STARTUP} = "42"\n')
    assert timeouts("flows-first", tmp_path, **{server.LOCKED: "7"}) == ["42", "7.0"]
    assert server.STARTUP not in set(prefect_environment("home")) - set(os.environ), "the demo leaves it to the flow"
