"""COGs from a server that fails: the right pixels or a typed error in time; the requests are counted."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.io import MemoryFile

from geoml.errors import DataError, TransientError
from geoml.io.cog import read as cog
from geoml.io.stac.bands import BandSpec
from geoml.io.stores import hrefs, ranges
from tests.integration import fault_server

pytestmark = pytest.mark.integration

DATA = np.random.default_rng(3).integers(1, 9000, (1, 640, 640), dtype=np.uint16)
OTHER = DATA[:, ::-1].copy()
GRID = GeoBox((256, 256), Affine(10, 0, 500_640, 0, -10, 4_999_360), "EPSG:32632")
WANTED = DATA[:, 64:320, 64:320]


def tiff(data: np.ndarray, compress: str = "deflate", **options: Any) -> bytes:
    profile = {"driver": "COG", "blocksize": 128, "compress": compress, "crs": "EPSG:32632"}
    profile |= {"transform": Affine(10, 0, 500_000, 0, -10, 5_000_000), **options}
    profile |= {"count": data.shape[0], "height": data.shape[1], "width": data.shape[2], "dtype": data.dtype}
    with MemoryFile() as memory:
        with memory.open(**profile) as file:
            file.write(data)
        return bytes(memory.getbuffer())


CONTENT = {kind: tiff(DATA, kind) for kind in ("deflate", "none")}


Serve = Callable[..., AbstractContextManager[Any]]


@pytest.fixture
def serve(machine: Callable[..., None]) -> Serve:
    """``serve(compress, host)``: a server with ``/a.tif``; every read starts with nothing known."""
    machine(private_hosts=True, retries=5, timeout=10)

    @contextmanager
    def run(compress: str = "deflate", host: str = "127.0.0.1", **known: Any) -> Iterator[Any]:
        with fault_server.serve(host, files={"/a.tif": CONTENT[compress]}, **known) as server:
            yield server

    return run


def read(server: Any, name: str = "a.tif", **known: Any) -> np.ndarray:
    spec = BandSpec("S2X", "B04", f"{server.url}/{name}", "red", **known)
    values, valid = cog.read([spec], GRID)
    assert valid.all()
    return values


@pytest.fixture
def no_pause(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Pauses between tries take no time and are noted."""
    asked: list[float] = []
    monkeypatch.setattr("geoml.io.stores.web.time.sleep", asked.append)
    return asked


# ---- what passes


@pytest.mark.parametrize("compress", ["deflate", "none"])
@pytest.mark.parametrize("fate", ["503", "429", "500", "reset", "truncate", "short", "wrong", "whole", "gzip"])
def test_five_failures_in_a_row_are_survived(serve: Serve, no_pause: list[float], compress: str, fate: str) -> None:
    """Of the head, and of the pixels. GDAL alone gives up, or takes what is missing of an uncompressed file for 0."""
    for skip in (0, 1):
        with serve(compress, skip=skip, script=[fate] * 5) as server:
            np.testing.assert_array_equal(read(server), WANTED)
            assert server.fates()[: skip + 5] == ["ok"] * skip + [fate] * 5
            good = [s.range for s in server.seen if s.fate == "ok"]
            assert len(good) == len(set(good)), "nothing that came well is asked for twice"
            assert {s.range for s in server.seen} == set(good)
    assert all(0.25 <= seconds <= 16 for seconds in no_pause)


def test_the_exact_requests_of_a_read(serve: Serve) -> None:
    """One for the head, one for each row of tiles; none for side files, no HEAD, nothing for the next block's head."""
    with serve() as server:
        read(server)
        assert server.ranges()[0] == (0, ranges.PAGE)
        assert {s.method for s in server.seen} == {"GET"}
        assert {s.path for s in server.seen} == {"/a.tif"}
        before = server.ranges()
        assert len(before) <= 4
        read(server)
        assert sorted(server.ranges()[len(before) :]) == sorted(before[1:])
        assert server.seen[0].headers["accept-encoding"] == "identity"


def test_a_server_says_how_long_to_wait(serve: Serve, no_pause: list[float]) -> None:
    with serve(script=["429 7", "503 3600"]) as server:
        np.testing.assert_array_equal(read(server), WANTED)
    assert no_pause == [7.0, 60.0], "as long as asked, but no longer than a minute"


def test_a_file_that_changes_is_read_again_from_its_head(serve: Serve, no_pause: list[float]) -> None:
    with serve(script=["ok", "changed"]) as server:
        server.changed = tiff(OTHER)
        np.testing.assert_array_equal(read(server), OTHER[:, 64:320, 64:320])
        assert server.ranges().count((0, ranges.PAGE)) == 2
    with serve(tag=None, script=["ok", "changed"]) as server:  # no ETag: the size tells
        server.changed = tiff(DATA, "none")
        np.testing.assert_array_equal(read(server), WANTED)


def test_a_file_that_never_stays_the_same(serve: Serve, no_pause: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    with serve() as server:

        def each_time(seen: Any) -> bool:
            server.tag = f'"{len(server.seen)}"'
            return True

        server.allow = each_time
        with pytest.raises(TransientError, match="changed while it was read"):
            read(server)
        assert len(server.seen) < 30


# ---- what ends


@pytest.mark.parametrize("compress", ["deflate", "none"])
@pytest.mark.parametrize(
    ("fate", "kind", "said", "most"),
    [
        ("503", TransientError, r"HTTP 503; bytes \d+-\d+, 6 tries", 20),
        ("reset", TransientError, r"no answer.*6 tries", 20),
        ("truncate", TransientError, r"no answer.*6 tries", 20),
        ("short", TransientError, r"bytes as 'bytes.*6 tries", 20),
        ("wrong", TransientError, r"bytes as 'bytes.*6 tries", 20),
        ("whole", TransientError, r"HTTP 200.*6 tries", 20),
        ("html", TransientError, r"HTTP 200.*6 tries", 20),
        ("403", DataError, "HTTP 403", 4),
        ("404", DataError, "HTTP 404", 4),
    ],
)
def test_what_never_ends_is_named(
    serve: Serve, no_pause: list[float], compress: str, fate: str, kind: type[Exception], said: str, most: int
) -> None:
    with serve(compress, skip=1, last=fate) as server:
        with pytest.raises(kind, match=said) as caught:
            read(server, "a.tif?sig=S3CRET")
        assert f"item S2X, asset B04 ({server.url}/a.tif)" in str(caught.value)
        assert "window 256 x 256" in str(caught.value) or kind is TransientError
        assert len(server.seen) <= most
        shown, err = [], caught.value
        while err is not None:
            shown.append(str(err))
            err = err.__cause__ or (None if err.__suppress_context__ else err.__context__)
        assert "S3CRET" not in " ".join(shown)


def test_wrong_bytes_under_the_right_label_do_not_pass_for_a_compressed_file(serve: Serve) -> None:
    """Of an uncompressed one nobody could tell; `file:checksum` and TLS are what there is against it."""
    with serve(skip=1, last="shifted") as server:
        with pytest.raises(DataError, match="item S2X"):
            read(server)
        assert server.ranges().count((0, ranges.PAGE)) == 2, "tried once more, from the head"


@pytest.mark.parametrize(("fate", "skip"), [("stall", 0), ("stall", 1), ("drip", 1), ("drip-head", 0)])
def test_a_stall_ends(serve: Serve, machine: Callable[..., None], fate: str, skip: int) -> None:
    """A byte each tenth of a second starts every timeout of the socket anew; the deadline of a request does not."""
    machine(private_hosts=True, retries=1, timeout=1)
    started = time.monotonic()
    with serve(skip=skip, last=fate) as server:
        with pytest.raises(TransientError, match=r"no answer.*tries"):
            read(server)
        assert time.monotonic() - started < 20
        started = time.monotonic()
        server.last, server.script = "ok", [fate]
        np.testing.assert_array_equal(read(server), WANTED)
    assert time.monotonic() - started < 12


def test_one_of_many_is_missing(serve: Serve) -> None:
    """The others are read; what the run makes of it is in tests/e2e/test_resume.py."""
    with serve() as server:
        with pytest.raises(DataError, match=r"HTTP 404.*gone\.tif|gone\.tif.*HTTP 404"):
            read(server, "gone.tif")
        np.testing.assert_array_equal(read(server), WANTED)


# ---- signed hrefs


def signing(server: Any, *lifetimes: int) -> list[str]:
    """Tokens ``sig=S3CRET1``, ``sig=S3CRET2``, …, each good for so many requests; those who asked for one."""
    left = dict(enumerate(lifetimes, start=1))
    asked: list[str] = []

    def token(seen: Any, _: bytes) -> tuple[int, bytes]:
        asked.append(seen.path)
        until = (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
        return 200, json.dumps({"token": f"sig=S3CRET{len(asked)}", "msft:expiry": until}).encode()

    def allow(seen: Any) -> bool:
        number = int(seen.query.removeprefix("sig=S3CRET") or 0)
        left[number] = left.get(number, 0) - 1
        return seen.path.startswith("/token") or left[number] >= 0

    server.pages["/token/127.0.0.1/data"] = token
    server.files["/data/a.tif"] = server.files["/a.tif"]
    server.allow = allow
    return asked


def test_a_signature_that_expires_in_the_middle_is_renewed_once(serve: Serve) -> None:
    with serve() as server:
        asked = signing(server, 1, 99)
        np.testing.assert_array_equal(read(server, "data/a.tif", sign=f"{server.url}/token"), WANTED)
        data = [s for s in server.seen if s.path == "/data/a.tif"]
        assert (data[0].fate, data[0].query, data[0].range) == ("ok", "sig=S3CRET1", (0, ranges.PAGE))
        assert {s.fate for s in data if s.query == "sig=S3CRET1"} == {"ok", "403"}
        assert {s.fate for s in data if s.query == "sig=S3CRET2"} == {"ok"}
        assert len(asked) == 2


def test_a_second_refusal_is_an_error(serve: Serve) -> None:
    with serve() as server:
        asked = signing(server, 0, 0, 99)
        with pytest.raises(DataError, match="HTTP 403") as caught:
            read(server, "data/a.tif", sign=f"{server.url}/token")
        assert "S3CRET" not in str(caught.value)
        assert len(asked) == 2
        assert server.fates().count("403") == 2


# ---- redirects and addresses


def test_redirects_are_followed_once_and_carry_no_secret(serve: Serve) -> None:
    with serve() as origin, serve(host="127.0.0.2") as target:
        origin.pages, origin.last = {}, f"to {target.url}/a.tif?once=1"
        np.testing.assert_array_equal(read(origin, "x.tif?sig=S3CRET"), WANTED)
        np.testing.assert_array_equal(read(origin, "x.tif?sig=S3CRET"), WANTED)
        assert len(origin.seen) == 1, "where it leads is remembered"
        for seen in target.seen:
            assert seen.query == "once=1"
            assert not {"authorization", "cookie", "referer"} & set(seen.headers)
            assert "S3CRET" not in str(seen.headers)
        known = len(target.seen)
        target.allow = lambda seen: seen.query != "once=1"  # what it led to has expired
        origin.last = f"to {target.url}/a.tif?once=2"
        np.testing.assert_array_equal(read(origin, "x.tif?sig=S3CRET"), WANTED)
        assert {s.query for s in target.seen[known:]} == {"once=1", "once=2"}


def test_redirects_end(serve: Serve) -> None:
    with serve() as server:
        server.last = f"to {server.url}/a.tif"
        with pytest.raises(DataError, match="more than 5 redirects"):
            read(server)
        assert len(server.seen) == 6


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://data.example/a.tif", "s3://bucket/../a.tif"])
def test_redirects_to_other_schemes(serve: Serve, target: str) -> None:
    with serve(last=f"to {target}") as server, pytest.raises(DataError, match="geoml does not follow"):
        read(server)


@pytest.fixture
def one_public_address(serve: Serve, machine: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """127.0.0.1 stands for the open internet, every other address of this machine for what must not be reached."""
    machine(private_hosts=False, retries=0, timeout=5)
    monkeypatch.setattr(hrefs, "_public", lambda address: str(address) == "127.0.0.1")
    hrefs._private.cache_clear()
    yield
    hrefs._private.cache_clear()


def test_redirects_to_private_addresses_are_not_followed(serve: Serve, one_public_address: None) -> None:
    with serve() as origin, serve(host="127.0.0.2") as inside:
        np.testing.assert_array_equal(read(origin), WANTED)
        for target in (inside.url, inside.url.replace("127.0.0.2", "0x7f.2"), "http://169.254.169.254"):
            origin.last = f"to {target}/a.tif"
            with pytest.raises(DataError, match="points to a private host"):
                read(origin, f"{len(origin.seen)}.tif")
        assert inside.seen == []


def test_a_name_that_resolves_anew_to_a_private_address(
    serve: Serve, one_public_address: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DNS rebinding: what was looked at is not what is connected to, so the connection itself is looked at."""
    asked: list[str] = []

    def lookup(host: Any, port: Any, *_: Any, **__: Any) -> list[Any]:
        asked.append(str(host))
        address = "127.0.0.1" if len(asked) == 1 else "127.0.0.2"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port or 0))]

    with serve(host="127.0.0.2") as inside:
        monkeypatch.setattr(socket, "getaddrinfo", lookup)
        href = inside.url.replace("127.0.0.2", "rebind.example")
        with pytest.raises(DataError, match=r"rebind\.example leads to the private address 127\.0\.0\.2"):
            cog.read([BandSpec("S2X", "B04", f"{href}/a.tif", "red")], GRID)
        assert len(asked) > 1
        assert inside.seen == [], "not a word was said"


# ---- object stores


@pytest.fixture
def store(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., AbstractContextManager[Any]]]:
    """The same server as an S3 endpoint, ``s3://bucket/a.tif``."""

    @contextmanager
    def run(compress: str, **known: Any) -> Iterator[Any]:
        with serve(compress, **known) as server:
            server.files["/bucket/a.tif"] = server.files["/a.tif"]
            monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
            ranges._bucket.cache_clear()
            ranges._cache.forget("s3://bucket/a.tif")
            yield server

    for name, value in {"AWS_ALLOW_HTTP": "true", "AWS_SKIP_SIGNATURE": "true", "AWS_REGION": "us-east-1"}.items():
        monkeypatch.setenv(name, value)
    yield run
    ranges._bucket.cache_clear()


def read_object(name: str = "a.tif") -> np.ndarray:
    return cog.read([BandSpec("S2X", "B04", f"s3://bucket/{name}", "red")], GRID)[0]


@pytest.mark.parametrize("compress", ["deflate", "none"])
@pytest.mark.parametrize("fate", ["503", "reset", "truncate", "wrong", "whole", "short"])
def test_objects_are_read_whole_or_not(
    store: Callable[..., AbstractContextManager[Any]], machine: Callable[..., None], compress: str, fate: str
) -> None:
    machine(private_hosts=True, retries=2, timeout=10)
    with store(compress, skip=1, script=[fate]) as server:
        np.testing.assert_array_equal(read_object(), WANTED)
        assert server.fates()[:2] == ["ok", fate]
        assert server.ranges()[0] == (0, ranges.PAGE)


def test_objects_that_never_come_or_stall(
    store: Callable[..., AbstractContextManager[Any]], machine: Callable[..., None]
) -> None:
    machine(private_hosts=True, retries=1, timeout=1)
    for fate in ("503", "wrong", "stall", "drip"):
        started = time.monotonic()
        with store("none", skip=1, last=fate), pytest.raises(TransientError, match=r"item S2X.*bucket/a\.tif"):
            read_object()
        assert time.monotonic() - started < 15, fate
    with store("none"), pytest.raises(DataError, match="HTTP 404"):
        read_object("gone.tif")
    with store("none", last="403"), pytest.raises(DataError, match="HTTP 403"):
        read_object()


# ---- what is no COG


def test_a_vrt_from_a_server_asks_for_nothing(serve: Serve, tmp_path: Path) -> None:
    """Named .tif, with a file of this machine and a loopback address as its sources."""
    (tmp_path / "secret").write_bytes(b"root:x:0:0" * 100)
    with serve() as server:
        for source in (tmp_path / "secret", f"/vsicurl/{server.url}/inside.tif"):
            text = f"""<VRTDataset rasterXSize="10" rasterYSize="10"><SRS>EPSG:32632</SRS>
              <GeoTransform>500640, 10, 0, 4999360, 0, -10</GeoTransform><VRTRasterBand dataType="Byte" band="1">
              <SimpleSource><SourceFilename>{source}</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>"""
            server.files["/v.tif"] = text.encode()
            ranges._cache.forget(f"{server.url}/v.tif")
            with pytest.raises(DataError, match="not a TIFF, it starts with b'<VRTDataset"):
                read(server, "v.tif")
        assert {s.path for s in server.seen} == {"/v.tif"}


@pytest.mark.parametrize("content", [b"", b"II*\x00", b"{}", b"version https://git-lfs.github.com/spec/v1\n"])
def test_what_is_no_tiff_is_quoted(serve: Serve, content: bytes) -> None:
    with serve() as server:
        server.files["/a.tif"] = content
        with pytest.raises(DataError, match="item S2X, asset B04") as caught:
            read(server)
        assert len(server.seen) <= 2
        assert repr(content[:40]) in str(caught.value) or content.startswith(b"II")


@pytest.mark.parametrize("compress", ["deflate", "none"])
def test_threads_of_gdal_do_not_hide_a_failure(
    serve: Serve, no_pause: list[float], monkeypatch: pytest.MonkeyPatch, compress: str
) -> None:
    """Somebody sets GDAL_NUM_THREADS: with GDAL's own client, reads that fail become zeros (GDAL 3.10)."""
    monkeypatch.setenv("GDAL_NUM_THREADS", "4")
    with serve(compress, skip=1, script=["truncate"] * 3) as server:
        np.testing.assert_array_equal(read(server), WANTED)
    for fate in ("503", "truncate", "short"):
        with serve(compress, skip=1, last=fate) as server, pytest.raises(TransientError, match="6 tries"):
            read(server)
