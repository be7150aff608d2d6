"""A proxy between geoml and an object store that breaks the connection in the middle of chosen uploads."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from tests.serving import serving


@dataclass
class Proxy:
    """``cut`` says of a request (method, path with query) whether its body breaks off half-way; ``status`` answers it
    with that status instead. ``seen`` lists all requests as (method, path, cut or not)."""

    url: str
    cut: Callable[[str, str], bool] = lambda _method, _path: False
    status: int | None = None
    seen: list[tuple[str, str, bool]] = field(default_factory=list)


@contextmanager
def cutting_proxy(upstream: str) -> Iterator[Proxy]:
    """Between ``upstream`` (http://host:port) and whoever asks ``Proxy.url``. Signatures hold: the Host stays."""
    target = urlsplit(upstream)
    proxy = Proxy("")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def _pass(self) -> None:
            size = int(self.headers.get("Content-Length") or 0)
            cut = proxy.cut(self.command, self.path)
            proxy.seen.append((self.command, self.path, cut))
            if cut and proxy.status:
                self.rfile.read(size)
                self.send_response(proxy.status)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            body = self.rfile.read(size // 2 if cut else size)
            if cut:
                with suppress(OSError), socket.create_connection((target.hostname, target.port), timeout=10) as up:
                    head = f"{self.command} {self.path} HTTP/1.1\r\n{self.headers}"
                    up.sendall(head.encode().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n") + body)
                self.close_connection = True
                with suppress(OSError):
                    self.connection.shutdown(socket.SHUT_RDWR)
                return
            up_connection = http.client.HTTPConnection(target.hostname or "", target.port, timeout=30)
            try:
                up_connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
                for name, value in self.headers.items():
                    up_connection.putheader(name, value)
                up_connection.endheaders(body)
                answer = up_connection.getresponse()
                content = answer.read()
                self.send_response(answer.status)
                for name, value in answer.getheaders():
                    if name.lower() not in ("transfer-encoding", "content-length", "connection", "server", "date"):
                        self.send_header(name, value)
                length = answer.getheader("Content-Length") if self.command == "HEAD" else None
                self.send_header("Content-Length", length or str(len(content)))
                self.end_headers()
                self.wfile.write(content)
            finally:
                up_connection.close()

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _pass

    with serving(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as server:
        proxy.url = f"http://127.0.0.1:{server.server_port}"
        yield proxy
