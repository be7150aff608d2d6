"""URLs of buckets, what their errors become, files by HTTP, and stores that lie on this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from geoml.errors import DataError, GeomlError, InputError, TransientError
from geoml.io.stores.bucket import Bucket
from geoml.io.stores.remote import fetch, is_url, run_store
from geoml.io.stores.scratch import scratch
from geoml.io.stores.store import sha256
from tests.serving import serving

Answers = dict[str, list[tuple[int, dict[str, str], bytes]]]


@contextmanager
def serve(answers: Answers) -> Iterator[str]:
    """A web server that gives each path's answers one after the other, the last one for ever."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def _answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            known = answers.get(self.path.partition("?")[0], answers.get("*", [(404, {}, b"")]))
            status, headers, body = known[0] if len(known) == 1 else known.pop(0)
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)
            self.close_connection = "Content-Length" in headers

        do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = _answer

    with serving(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as server:
        yield f"http://127.0.0.1:{server.server_port}"


@pytest.fixture(autouse=True)
def _here(machine: Callable[..., None], tmp_path: Path) -> None:
    machine(scratch=tmp_path / "scratch", retries=1, timeout=5)


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Bucket]:
    def at(url: str) -> Bucket:
        values = {"ENDPOINT_URL": url, "ACCESS_KEY_ID": "AKIA", "SECRET_ACCESS_KEY": "secret", "ALLOW_HTTP": "true"}
        for name, value in {**values, "REGION": "us-east-1"}.items():
            monkeypatch.setenv(f"AWS_{name}", value)
        return Bucket("s3://bucket/run")

    return at


@pytest.mark.parametrize(
    "url",
    ["s3://", "s3:///key", "s3://b//key", "s3://b/../key", "s3://b/./key", "s3://b/key?x=1", "s3://b/a b", "s3://b@c/k",
     "s3://b/k#f", "https://host/out", "ftp://host/out", "S3://b/key", "s3://b/\n"],
)  # fmt: skip
def test_urls_that_are_none(url: str) -> None:
    with pytest.raises(InputError, match="out: "):
        run_store(url)


def test_a_url_that_became_a_path_is_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="not as a Path"):
        run_store(Path("s3://bucket/run"))
    assert not list(tmp_path.iterdir())


def test_a_working_copy_for_each_place(monkeypatch: pytest.MonkeyPatch) -> None:
    one = run_store("s3://bucket/run/")
    assert one.url == "s3://bucket/run"
    assert one.local == run_store("s3://bucket/run").local
    assert one.local != run_store("s3://bucket/run2").local
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    assert one.local != run_store("s3://bucket/run").local, "the same name at another endpoint is another run"


def test_a_store_on_this_machine(tmp_path: Path) -> None:
    store = run_store(tmp_path / "out")
    assert not store.remote
    (tmp_path / "out" / "items").mkdir(parents=True)
    (tmp_path / "out" / "items" / "a.json").write_text("{}")
    store.push("items", "nothing")
    store.pull("items/")
    assert store.sizes("items") == store.sizes() == {"items/a.json": 2}
    assert (store.read("items/a.json"), store.read("items/b.json")) == (b"{}", None)
    assert (store.blocks()("items/a.json"), store.blocks(["b"])("items/b.json")) == (2, None)
    with store.fetched({"items/a.json": (2, None)}):
        pass
    store.free("items")
    assert store.read("items/a.json") == b"{}", "nothing is dropped where it is the only copy"
    store.remove("items/a.json", "items/b.json")
    assert store.sizes() == {}


LEAKY = (
    b"<Error><Code>SignatureDoesNotMatch</Code><AWSAccessKeyId>AKIA</AWSAccessKeyId>"
    b"<StringToSign>AWS4-HMAC-SHA256 secret</StringToSign></Error>"
)


@pytest.mark.parametrize(
    ("status", "body", "kind", "word"),
    [
        (403, LEAKY, InputError, r"access refused \(HTTP 403 SignatureDoesNotMatch\); look at the AWS_"),
        (403, b"", InputError, "access refused"),
        (401, b"", InputError, "access refused"),
        (404, b"<Error><Code>NoSuchBucket</Code></Error>", InputError, "no such bucket"),
        (500, b"", TransientError, "HTTP 500 after 1 retries"),
        (503, b"<Error><Code>SlowDown</Code></Error>", TransientError, "HTTP 503 SlowDown"),
        (429, b"", TransientError, "HTTP 429"),
        (400, b"<Error><Code>InvalidRequest</Code></Error>", DataError, "HTTP 400 InvalidRequest"),
    ],
)
def test_what_a_store_says_becomes_an_error_of_the_table(
    status: int, body: bytes, kind: type[GeomlError], word: str, s3: Callable[[str], Bucket]
) -> None:
    with serve({"*": [(status, {}, body)]}) as url:
        bucket = s3(url)
        with pytest.raises(kind, match=word) as told:
            bucket.list("items/")
    assert "AKIA" not in str(told.value)
    assert "StringToSign" not in str(told.value)
    assert told.value.__cause__ is None, "a traceback shows nothing more"


def test_an_object_that_is_not_there_is_none(s3: Callable[[str], Bucket], tmp_path: Path) -> None:
    with serve({"*": [(404, {}, b"<Error><Code>NoSuchKey</Code></Error>")]}) as url:
        bucket = s3(url)
        assert bucket.get("a.json", 10) is None
        assert bucket.head("a.json") is None
        assert bucket.download("a.json", tmp_path / "a.json", 10) is None
        bucket.delete("a.json")
    assert not (tmp_path / "a.json").exists()


def test_a_body_that_breaks_off_is_no_file(s3: Callable[[str], Bucket], tmp_path: Path) -> None:
    half = {"Content-Length": "1000", "Last-Modified": "Sun, 22 Nov 2026 00:00:00 GMT", "ETag": '"a"'}
    with serve({"*": [(200, half, b"x" * 500)]}) as url, pytest.raises(TransientError, match=r"a\.json"):
        s3(url).download("a.json", tmp_path / "a.json", 10**6)
    assert list(tmp_path.iterdir()) == []


def test_an_object_that_is_too_large_is_not_read(s3: Callable[[str], Bucket]) -> None:
    meta = {"Last-Modified": "Sun, 22 Nov 2026 00:00:00 GMT", "ETag": '"a"'}
    with serve({"*": [(200, meta, b"x" * 500)]}) as url, pytest.raises(DataError, match="500 bytes; at most 499"):
        s3(url).get("a.json", 499)


def test_a_body_longer_than_announced_is_cut(s3: Callable[[str], Bucket]) -> None:
    meta = {"Last-Modified": "Sun, 22 Nov 2026 00:00:00 GMT", "ETag": '"a"', "Content-Range": "bytes 0-9/1000"}
    with serve({"*": [(206, meta, b"x" * 5000)]}) as url, pytest.raises(TransientError, match="more than the 10 bytes"):
        s3(url).part("a.tif", 0, 10)


# ---- files by HTTP


def test_a_file_by_http_is_tried_again_and_named_alike(tmp_path: Path) -> None:
    assert is_url("https://host/x")
    assert not is_url(tmp_path)
    with serve({"/m/model.json": [(503, {}, b""), (200, {}, b"{}")], "/m/w.bin": [(200, {}, b"1")]}) as url:
        card = fetch(f"{url}/m/model.json?sig=secret", "model", 100)
        weights = fetch(f"{url}/m/w.bin", "model", 100)
    assert card.read_bytes() == b"{}"
    assert (card.name, weights.parent) == ("model.json", card.parent)
    assert "secret" not in str(card)


@pytest.mark.parametrize(
    ("answers", "kind", "word"),
    [
        ([(404, {}, b"")], InputError, r"region: http://\S+/r.geojson: not found \(HTTP 404\)"),
        ([(403, {}, b"")], InputError, "access refused"),
        ([(503, {}, b"")], TransientError, "HTTP 503"),
        ([(200, {}, b"x" * 101)], DataError, "more than 100 bytes"),
        ([(200, {"Content-Length": "90"}, b"x" * 50)], TransientError, "r.geojson"),
        ([(302, {"Location": "/r.geojson"}, b"")], DataError, "too many redirects"),
        ([(302, {"Location": "http://localhost:1/r.geojson"}, b"")], DataError, "private"),
        ([(302, {"Location": "file:///etc/passwd"}, b"")], DataError, "expected https"),
    ],
)
def test_a_file_by_http_that_does_not_come(
    answers: list[tuple[int, dict[str, str], bytes]], kind: type[GeomlError], word: str
) -> None:
    with serve({"/r.geojson": answers}) as url, pytest.raises(kind, match=word) as told:
        fetch(f"{url}/r.geojson?sig=secret", "region", 100)
    assert "secret" not in str(told.value)
    assert not [p for p in scratch().rglob("*") if p.is_file()]


def test_a_file_that_changed_is_fetched_again(tmp_path: Path) -> None:
    with serve({"/a.json": [(200, {}, b"old"), (200, {}, b"new")]}) as url:
        first = sha256(fetch(f"{url}/a.json", "model", 100))
        assert sha256(fetch(f"{url}/a.json", "model", 100)) != first
