"""A service of the local stack as a context manager around its processes.

Every service binds 127.0.0.1 and a free port, waits until it answers (or says why not, with the end of its log), and
is ended by the pid of the process that was started here. It also ends when its parent dies, however that happens.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import random
import secrets
import shutil
import signal
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import requests

HOST = "127.0.0.1"


class StackError(RuntimeError):
    """A service did not start, or ended by itself; the message has the end of its log."""


def free_port(also: int = 0) -> int:
    """A port that nobody listens on, below those that the system hands out to clients; ``+ also`` is free too."""
    for port in random.sample(range(20000, 22768 if also else 32768), 200):
        if all(_is_free(p) for p in {port, port + also}):
            return port
    raise StackError("no free port found")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def answers(url: str) -> bool:
    """True when ``url`` answers with a good status within two seconds."""
    with requests.Session() as session:
        session.trust_env = False  # no proxy stands between this machine and itself
        try:
            return session.get(url, timeout=2).ok
        except requests.RequestException:
            return False


def until(true: Callable[[], bool], seconds: float, what: str) -> None:
    """Wait until ``true()``. Raises StackError after ``seconds``."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise StackError(f"{what}: not after {seconds:.0f} s")
        time.sleep(0.1)


def kept_secret(path: Path) -> str:
    """The secret in ``path``, made on first use, readable by this user only."""
    if not path.exists():
        write_private(path, secrets.token_hex(16))
    return path.read_text().strip()


def write_private(path: Path, text: str) -> None:
    """Write ``path`` anew, for the eyes of this user alone from the first byte on."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)


class Service(ABC):
    """One or more processes with a folder for their data and logs; a context manager.

    ``launch`` starts the processes, ``wait`` returns when they answer, ``start`` does both. After ``stop`` a further
    ``start`` uses the same ports and data: a service that was away for a while.
    """

    patience = 60.0
    """Seconds until it has to answer."""
    grace = 10.0
    """Seconds to end in when it is asked to."""
    end_by = signal.SIGTERM

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: list[subprocess.Popen[bytes]] = []
        folder.mkdir(parents=True, exist_ok=True)

    @classmethod
    def available(cls) -> str | None:
        """Why it cannot run here; None when it can."""
        return None

    @abstractmethod
    def launch(self) -> None:
        """Start the processes by `spawn`."""

    @abstractmethod
    def ready(self) -> bool:
        """Whether it answers now."""

    @property
    def name(self) -> str:
        return type(self).__name__

    @property
    def log(self) -> Path:
        return self.folder / "log.txt"

    @property
    def pid(self) -> int:
        """Process id of the first process, which leads its process group."""
        return self.processes[0].pid

    def spawn(self, words: list[str | Path], env: Mapping[str, str] | None = None, user: str | None = None) -> None:
        """Start ``words`` in a session of its own, with its output in the log, to be ended with its parent."""
        tie = [shutil.which("setpriv") or "", "--pdeathsig", self.end_by.name.removeprefix("SIG"), "--"]
        with self.log.open("ab") as log:
            self.processes.append(
                subprocess.Popen(
                    [*(tie if tie[0] else []), *map(str, words)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    cwd=self.folder,
                    env={**os.environ, "PYTHONUNBUFFERED": "1", **(env or {})},
                    start_new_session=True,
                    **({"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []} if user else {}),
                )
            )

    def wait(self) -> Self:
        """Return when the service answers. Raises StackError, and stops it, when it does not."""

        def settled() -> bool:
            gone = [p.returncode for p in self.processes if p.poll() is not None]
            if gone:
                raise StackError(f"{self.name}: ended with code {gone[0]}")
            return self.ready()

        try:
            until(settled, self.patience, f"{self.name}: no answer")
        except StackError as err:
            self.stop()
            raise StackError(f"{err}; the log ends with\n{self.tail()}") from None
        return self

    def start(self) -> Self:
        self.launch()
        return self.wait()

    def stop(self) -> None:
        """End the processes: asked first, killed with their groups after ``grace``."""
        running, self.processes = self.processes, []
        for process in reversed(running):
            _signal(process, self.end_by)
        deadline = time.monotonic() + self.grace
        for process in reversed(running):
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.1, deadline - time.monotonic()))
            _signal(process, signal.SIGKILL, group=True)  # also what it has left behind
            process.wait()

    def tail(self, lines: int = 25) -> str:
        """The last lines of the log."""
        text = self.log.read_text("utf-8", "replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _signal(process: subprocess.Popen[bytes], number: signal.Signals, group: bool = False) -> None:
    try:
        if group:
            os.killpg(process.pid, number)
        elif process.poll() is None:
            process.send_signal(number)
    except (ProcessLookupError, PermissionError):
        pass
