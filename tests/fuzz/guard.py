"""What stands around every example: which connections were made, how long it takes, how much memory it holds."""

from __future__ import annotations

import faulthandler
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

HANGS, EATS = 8, 9
"""Exit codes of a child whose example takes too long, or too much memory."""

_PAGE = os.sysconf("SC_PAGE_SIZE")


class Connections:
    """Refuses, and writes down, every connection of Python's sockets but those to the ports that are allowed.

    An audit hook sees them all, whatever library asks. Names are not looked up: those of other machines do not resolve.
    """

    def __init__(self) -> None:
        self.allowed: set[int] = set()
        self.wrong: list[str] = []
        sys.addaudithook(self._look)

    def _look(self, event: str, args: tuple[Any, ...]) -> None:
        if event in ("socket.connect", "socket.sendto"):
            one, address = args[0], args[1]
            if one.family not in (socket.AF_INET, socket.AF_INET6):
                return
            if str(address[0]) not in ("127.0.0.1", "::1") or address[1] not in self.allowed:
                self.wrong.append(f"{address[0]}:{address[1]}")
                raise OSError(f"not allowed: {address}")
        elif event == "socket.getaddrinfo" and args[0] not in (None, "", "localhost", "127.0.0.1", b"127.0.0.1"):
            host = args[0].decode("latin-1") if isinstance(args[0], bytes) else str(args[0])
            try:
                socket.inet_aton(host)
            except OSError:
                if ":" not in host:
                    raise socket.gaierror(socket.EAI_NONAME, "names are not looked up here") from None

    def check(self) -> None:
        """Raise AssertionError when something else was connected to since the last time."""
        wrong, self.wrong = self.wrong, []
        assert not wrong, f"connections that are not allowed: {', '.join(wrong)}"


class Served:
    """A server on this machine that gives the files of a folder; ``other`` is a port that nobody may ask."""

    def __init__(self, folder: Path) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path = (folder / self.path.partition("?")[0].lstrip("/")).resolve()
                if not path.is_relative_to(folder) or not path.is_file():
                    self.send_error(404)
                    return
                body = path.read_bytes()
                first, last = 0, len(body) - 1
                asked = self.headers.get("Range", "").removeprefix("bytes=").split("-")
                if len(asked) == 2 and asked[0].isdigit():
                    first, last = int(asked[0]), min(int(asked[1] or last), last)
                self.send_response(206 if len(asked) == 2 else 200)
                if len(asked) == 2:
                    self.send_header("Content-Range", f"bytes {first}-{last}/{len(body)}")
                self.send_header("Content-Length", str(last + 1 - first))
                self.end_headers()
                self.wfile.write(body[first : last + 1])

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.port = int(self.server.server_address[1])
        self.decoy = socket.create_server(("127.0.0.1", 0))  # it listens, so that a connection is one
        self.other = int(self.decoy.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}"


class Watchdog:
    """Ends the process, saying with which example and where, when one takes longer than ``seconds`` or too much memory.

    Python cannot end a thread that hangs in C, so the process goes; the seed of the batch repeats it.
    """

    def __init__(self, seconds: float, megabytes: float, replay: str) -> None:
        self.seconds, self.bytes, self.replay = seconds, megabytes * 2**20, replay
        self.now: tuple[float, object] | None = None
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    @contextmanager
    def example(self, value: object) -> Iterator[None]:
        self.now = (time.monotonic(), value)
        try:
            yield
        finally:
            self.now = None

    def _watch(self) -> None:
        while True:
            time.sleep(0.2)
            now = self.now
            if now is None:
                continue
            took, held = time.monotonic() - now[0], resident()
            if took > self.seconds:
                self._end(HANGS, f"hangs: {took:.0f} s", now[1])
            elif held > self.bytes:
                self._end(EATS, f"holds {held / 2**20:.0f} MB", now[1])

    def _end(self, code: int, what: str, value: object) -> None:
        print(f"\nFAILED: {what}\nexample (not shrunk): {value!r:.20000}\n{self.replay}", flush=True)
        faulthandler.dump_traceback(sys.stdout, all_threads=True)
        sys.stdout.flush()
        os._exit(code)


def resident() -> int:
    """Bytes of memory that this process holds now."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * _PAGE
