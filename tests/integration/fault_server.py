"""A web server on loopback that does to successive requests what a script says, and remembers what it was asked.

Fates: ``ok`` · ``503`` (any status; ``429 2`` adds Retry-After: 2) · ``reset`` (the connection breaks in the body) ·
``truncate`` (the body ends early) · ``stall`` (nothing comes) · ``drip`` (a byte each tenth of a second) ·
``drip-head`` (the same from the first header on) · ``even`` (a twentieth of the body each twentieth of a second) ·
``short`` (a whole 206 of fewer bytes than asked) · ``wrong`` (the bytes of another range, labelled so) · ``shifted``
(the bytes of another range under the right label) · ``whole`` (200 with all bytes) · ``html`` (a login page with 200) ·
``gzip`` (an encoding nobody asked for) · ``changed`` (from now on another ETag and another content, if there is one) ·
``to URL`` (a redirect).
"""

from __future__ import annotations

import re
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from tests.serving import serving

HTML = b"<!DOCTYPE html><html>please log in</html>" * 9


@dataclass(frozen=True)
class Seen:
    """One request and what became of it; ``range`` is (first, last + 1) or None."""

    method: str
    path: str
    query: str
    range: tuple[int, int] | None
    headers: dict[str, str]
    fate: str
    connection: tuple[str, int]


@dataclass
class FaultServer:
    """``files``: path → content; ``pages``: path → function of the request that gives (status, body).

    ``script`` is used up one fate a request, for the requests to a path of ``only`` (all paths when empty) that
    come after the first ``skip``; then ``last`` holds. ``allow``: 403 unless it says yes.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    pages: dict[str, Callable[[Seen, bytes], tuple[int, bytes]]] = field(default_factory=dict)
    script: list[str] = field(default_factory=list)
    last: str = "ok"
    skip: int = 0
    only: str = ""
    allow: Callable[[Seen], bool] | None = None
    tag: str | None = '"one"'
    changed: bytes | None = None
    seen: list[Seen] = field(default_factory=list)
    url: str = ""
    ended: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def fates(self) -> list[str]:
        return [s.fate for s in self.seen]

    def ranges(self) -> list[tuple[int, int] | None]:
        return [s.range for s in self.seen]

    def next_fate(self, path: str) -> str:
        if self.only and self.only not in path:
            return "ok"
        if self.skip:
            self.skip -= 1
            return "ok"
        return self.script.pop(0) if self.script else self.last


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: FaultServer

    def do_GET(self) -> None:
        self.answer(b"")

    def do_HEAD(self) -> None:
        self.answer(b"")

    def do_POST(self) -> None:
        self.answer(self.rfile.read(int(self.headers.get("Content-Length", 0))))

    def answer(self, sent: bytes) -> None:
        url = urlsplit(self.path)
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        span = (int(asked[1]), int(asked[2]) + 1) if asked else None
        with self.state.lock:
            fate = self.state.next_fate(url.path)
            headers = {k.lower(): v for k, v in self.headers.items()}
            seen = Seen(self.command, url.path, url.query, span, headers, fate, self.client_address[:2])
            if self.state.allow is not None and not self.state.allow(seen):
                fate = "403"
                seen = Seen(self.command, url.path, url.query, span, headers, fate, self.client_address[:2])
            self.state.seen.append(seen)
            if fate == "changed":
                self.state.tag, fate = '"two"', "ok"
                if self.state.changed is not None:
                    self.state.files[url.path] = self.state.changed
            content = self.state.files.get(url.path)
        if fate[0].isdigit():
            after = {"Retry-After": fate.split()[1]} if " " in fate else {}
            self.reply(int(fate.split()[0]), b"", after)
        elif fate.startswith("to "):
            self.reply(302, b"", {"Location": fate[3:]})
        elif fate == "html":
            self.reply(200, HTML, {"Content-Type": "text/html"})
        elif url.path in self.state.pages:
            self.page(fate, *self.state.pages[url.path](seen, sent))
        elif content is None:
            self.reply(404, b"")
        else:
            self.part(fate, content, span)

    def page(self, fate: str, status: int, body: bytes) -> None:
        self.body(fate, status, body, {"Content-Type": "application/json"})

    def part(self, fate: str, content: bytes, span: tuple[int, int] | None) -> None:
        tag = {"ETag": self.state.tag} if self.state.tag else {}
        if span is None or fate == "whole":
            self.body(fate, 200, content, tag)
            return
        start, stop = span[0], min(span[1], len(content))
        if start >= len(content):
            self.reply(416, b"", {"Content-Range": f"bytes */{len(content)}"})
            return
        low, high = start, stop
        if fate == "short":
            high = max(low + 1, stop - (stop - start) // 2)
        if fate == "wrong":
            low, high = (0, stop - start) if start else (1, min(stop + 1, len(content)))
        body = content[low:high]
        if fate == "shifted":
            body = content[-(stop - start) :]
        tag["Content-Range"] = f"bytes {low}-{high - 1}/{len(content)}"
        if fate == "gzip":
            tag["Content-Encoding"] = "gzip"
        self.body(fate, 206, body, tag)

    def body(self, fate: str, status: int, body: bytes, headers: dict[str, str]) -> None:
        if fate == "stall":
            self.state.ended.wait(60)
            self.close_connection = True
        elif fate == "drip-head":
            self.drip(b"HTTP/1.1 200 OK\r\nX-Slow: " + b"x" * 6000)
        elif fate in ("reset", "truncate", "drip", "even"):
            self.head(status, headers, len(body))
            if self.command != "HEAD":
                if fate == "even":
                    step = -(-len(body) // 20)
                    for start in range(0, len(body), step):
                        self.wfile.write(body[start : start + step])
                        self.state.ended.wait(0.05)
                elif fate == "drip":
                    self.drip(body)
                else:
                    self.wfile.write(body[: len(body) // 2])
                    self.wfile.flush()
            if fate == "reset":  # closes with RST
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()
            self.close_connection = True
        else:
            self.reply(status, body, headers)

    def drip(self, body: bytes) -> None:
        for k in range(600):
            self.wfile.write(body[k : k + 1])
            self.wfile.flush()
            if self.state.ended.wait(0.1):
                break
        self.close_connection = True

    def reply(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.head(status, headers or {}, len(body))
        if self.command != "HEAD":
            self.wfile.write(body)

    def head(self, status: int, headers: dict[str, str], length: int) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Quiet."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_: object) -> None:
        """Clients that hang up are part of the game."""


@contextmanager
def serve(host: str = "127.0.0.1", **known: object) -> Iterator[FaultServer]:
    """The server, until the block ends; its name in ``url`` is its address."""
    state = FaultServer(**known)  # type: ignore[arg-type]
    with serving(_Server((host, 0), type("Handler", (_Handler,), {"state": state}))) as server:
        state.url = f"http://{host}:{server.server_port}"
        try:
            yield state
        finally:
            state.ended.set()
