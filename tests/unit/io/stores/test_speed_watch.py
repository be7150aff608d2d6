"""Servers that drip: every reader ends after the window, whatever its cap, and memory follows what arrives."""

from __future__ import annotations

import json
import threading
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from shapely.geometry import box, mapping

from geoml import testing
from geoml.errors import DataError, TransientError
from geoml.geolocation.pictures import decode as photos
from geoml.geolocation.pictures import lists as photo_lists
from geoml.geolocation.pictures.listed import Reference
from geoml.io.stac.catalog import open_catalog
from geoml.io.stac.http import StacReader
from geoml.io.stores import web
from geoml.io.stores.remote import fetch, scratch
from geoml.io.tables.regions import load_region
from tests.integration import fault_server
from tests.serving import serving

REGION = json.dumps(mapping(box(0, 0, 1, 1))).encode()
MANY = b"w" * 2**20


@pytest.fixture
def server(machine: Callable[..., None], tmp_path: Path) -> Iterator[Any]:
    machine(timeout=0.5, retries=0, scratch=tmp_path / "scratch")
    files = {"/w.bin": MANY, "/r.geojson": REGION * 200, "/c/catalog.json": REGION * 200, "/p.jpg": MANY}
    with fault_server.serve(files=files) as made:
        yield made


@pytest.mark.parametrize("fate", ["drip", "drip-head", "stall"])
@pytest.mark.parametrize("kind", ["weights", "region", "picture", "catalog"])
def test_a_drip_ends_after_the_window(server: Any, kind: str, fate: str) -> None:
    """Caps are 2^40, 2^30, 2^29 and 2^26 bytes; deadlines by the cap would be between a quarter hour and a year."""
    server.last = fate
    readers: dict[str, Callable[[], object]] = {
        "weights": lambda: fetch(f"{server.url}/w.bin", "model", 2**40),
        "region": lambda: load_region(f"{server.url}/r.geojson"),
        "picture": lambda: photo_lists.load(next(photo_lists.pictures([f"{server.url}/p.jpg"]))),
        "catalog": lambda: StacReader(open_catalog(f"{server.url}/c/catalog.json")).get(f"{server.url}/c/catalog.json"),
    }
    started = time.monotonic()
    with pytest.raises(TransientError, match="no answer"):
        readers[kind]()
    assert time.monotonic() - started < 4
    assert not [p for p in scratch().rglob("*") if p.is_file()]


def test_a_body_that_takes_longer_than_the_window_comes_if_it_keeps_the_pace(server: Any) -> None:
    server.last = "even"
    started = time.monotonic()
    assert fetch(f"{server.url}/w.bin", "model", 2**40).read_bytes() == MANY
    assert time.monotonic() - started > 0.9, "two windows"


def test_the_pace_is_a_setting(server: Any, machine: Callable[..., None]) -> None:
    server.last = "even"
    machine(slowest=16 * 2**20)
    with pytest.raises(TransientError, match="no answer in time"):
        fetch(f"{server.url}/w.bin", "model", 2**40)


def test_a_writer_that_is_slow_is_not_the_servers_fault(server: Any) -> None:
    class Slow(list[bytes]):
        def write(self, chunk: bytes) -> None:
            self.append(bytes(chunk))
            time.sleep(1.2 if len(self) == 1 else 0)

    kept = Slow()
    answer = web.fetch("GET", f"{server.url}/w.bin", cap=2**30, into=kept, guarded=False)  # type: ignore[arg-type]
    assert (answer.size, answer.body, b"".join(kept)) == (len(MANY), b"", MANY)


@contextmanager
def endless(first: bytes, again: bytes) -> Iterator[str]:
    """A body in chunks, gzipped by its header, that goes on for ever (15 s) at full speed."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Encoding", "gzip")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            piece = first
            while not ended.is_set() and time.monotonic() < until:
                try:
                    self.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
                except OSError:
                    break
                piece = again
            self.close_connection = True

    ended, until = threading.Event(), time.monotonic() + 15
    with serving(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as server:
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            ended.set()


def test_a_body_that_unpacks_to_nothing_ends_too(server: Any) -> None:
    """No byte comes out of it, so no cap on what came out would end it."""
    packer = zlib.compressobj(wbits=31)
    first, again = packer.flush(zlib.Z_SYNC_FLUSH), packer.flush(zlib.Z_FULL_FLUSH) * 2000
    started = time.monotonic()
    with endless(first, again) as url, pytest.raises(TransientError, match="no answer in time"):
        web.fetch("GET", f"{url}/x.json", cap=2**20, guarded=False)
    assert time.monotonic() - started < 4


def test_what_goes_to_a_file_is_not_held_in_memory(server: Any) -> None:
    server.files["/large.bin"] = bytes(48 * 2**20)
    tracemalloc.start()
    try:
        path = fetch(f"{server.url}/large.bin", "model", 2**40)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert path.stat().st_size == 48 * 2**20
    assert peak < 4 * 2**20


def test_small_files_ask_for_little(server: Any, tmp_path: Path) -> None:
    """Their caps are 256 and 512 MiB; a read of that many bytes sets them all aside."""
    testing.write_catalog(tmp_path / "made", [testing.Scene(id="a", data=testing.smooth((1, 64, 64)), bands=("red",))])
    (tmp_path / "p.jpg").write_bytes(b"x" * 100)
    home = str(tmp_path / "made" / "catalog.json")
    reader = StacReader(open_catalog(home))
    tracemalloc.start()
    try:
        reader.get(home)
        photos.load_bytes(tmp_path / "p.jpg", "p")
        web.fetch("GET", f"{server.url}/r.geojson", cap=2**28, guarded=False)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * 2**20


def test_a_full_disk_is_no_fault_of_the_network(server: Any, tmp_path: Path) -> None:
    with Path("/dev/full").open("wb", buffering=0) as full, pytest.raises(OSError, match="No space"):
        web.fetch("GET", f"{server.url}/w.bin", cap=2**30, into=full, guarded=False)


def test_no_thread_stays(server: Any) -> None:
    for _ in range(5):
        web.fetch("GET", f"{server.url}/r.geojson", cap=2**20, guarded=False)
    ends = time.monotonic() + 2
    while any(t.name == "geoml-pace" for t in threading.enumerate()) and time.monotonic() < ends:
        time.sleep(0.02)
    assert not [t for t in threading.enumerate() if t.name == "geoml-pace"]


def test_what_a_list_names_is_read_by_the_same_rule(server: Any, machine: Callable[..., None]) -> None:
    machine(private_hosts=True)
    server.last = "drip"
    with pytest.raises(TransientError, match="no answer in time"):
        Reference("p", f"{server.url}/p.jpg").read_bytes()
    server.last = "404"
    with pytest.raises(DataError, match="not found"):
        photo_lists.load(Reference("p", f"{server.url}/p.jpg"))
