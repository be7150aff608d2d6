"""Servers of tests end with their block: one that is closed and not shut down spins as long as its process lives."""

from __future__ import annotations

import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

from tests.serving import serving

TESTS = Path(__file__).parents[1]


def test_a_server_ends_with_its_block_whatever_happens_in_it() -> None:
    before = set(threading.enumerate())
    server = HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    with suppress(KeyError), serving(server):
        assert set(threading.enumerate()) != before
        raise KeyError
    assert set(threading.enumerate()) == before
    assert server.socket.fileno() == -1


def test_no_test_starts_one_by_itself() -> None:
    served = [p.relative_to(TESTS).as_posix() for p in TESTS.rglob("*.py") if ".serve_" + "forever" in p.read_text()]
    assert sorted(served) == ["fuzz/guard.py", "serving.py"]  # that of the fuzzer lives as long as its process
