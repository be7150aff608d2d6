"""The digest of the base image, from a registry on this machine that speaks the distribution API and wants a token."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
import shutil
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.serving import serving

DOCKER = Path(__file__).parents[3] / "docker"
INDEX = "application/vnd.oci.image.index.v1+json"


@pytest.fixture(scope="module")
def pin_base() -> ModuleType:
    spec = importlib.util.spec_from_file_location("geoml_pin_base", DOCKER / "pin_base.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Registry(ThreadingHTTPServer):
    """Manifests by path and tag, for who comes with the token of its own token service."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.manifests: dict[str, bytes] = {}
        self.says: str | None = None
        self.kind = INDEX
        self.asked: list[str] = []


class Answer(BaseHTTPRequestHandler):
    server: Registry

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        where = urlsplit(self.path)
        query = {k: v[0] for k, v in parse_qs(where.query).items()}
        if where.path == "/token":
            assert query["service"] == "a registry"
            return self.say(200, json.dumps({"token": f"may read {query['scope']}"}).encode(), "application/json")
        found = re.fullmatch(r"/v2/(.+)/manifests/([^/]+)", where.path)
        assert found, where.path
        scope = f"repository:{found[1]}:pull"
        if self.headers.get("Authorization") != f"Bearer may read {scope}":
            ask = f'Bearer realm="{self.server.url}/token",service="a registry",scope="{scope}"'
            return self.say(401, b"{}", "application/json", {"WWW-Authenticate": ask})
        body = self.server.manifests.get(f"{found[1]}:{found[2]}")
        if body is None:
            return self.say(404, b'{"errors": []}', "application/json")
        assert INDEX in self.headers["Accept"]
        digest = self.server.says or f"sha256:{hashlib.sha256(body).hexdigest()}"
        return self.say(200, body, self.server.kind, {"Docker-Content-Digest": digest})

    def say(self, code: int, body: bytes, kind: str, more: dict[str, str] | None = None) -> None:
        self.send_response(code)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **(more or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def registry() -> Iterator[Registry]:
    with serving(Registry()) as server:
        yield server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for path in DOCKER.glob("*Dockerfile"):
        shutil.copy(path, tmp_path)
    return tmp_path


def bases(folder: Path) -> set[str]:
    lines = (line for p in folder.glob("*Dockerfile") for line in p.read_text().splitlines())
    return {line.removeprefix("ARG BASE=") for line in lines if line.startswith("ARG BASE=")}


def test_the_digest_of_the_registry_stands_in_every_dockerfile(
    pin_base: ModuleType, registry: Registry, folder: Path
) -> None:
    (plain,) = bases(DOCKER)
    name = plain.partition("@")[0]
    before = {p.name: p.read_text() for p in folder.glob("*Dockerfile")}
    for body in (b'{"manifests": []}', b'{"manifests": ["newer"]}'):  # a second time takes what is newer
        registry.manifests = {f"library/{name}": body}
        pinned = pin_base.pin(folder, None, registry.url)
        assert len(pinned) == len(before) == 3
        assert bases(folder) == {f"{name}@sha256:{hashlib.sha256(body).hexdigest()}"} == set(pinned.values())
    for path in pinned:
        assert path.read_text().replace(pinned[path], plain) == before[path.name], "nothing else has changed"
    assert len(registry.asked) == 6, "one question, one token, one answer, each time for all files"


def test_another_image_takes_its_own_registry(pin_base: ModuleType, registry: Registry, folder: Path) -> None:
    registry.manifests = {"team/python-slim:3.13": b"{}"}
    host = registry.url.removeprefix("http://")
    pin_base.pin(folder, f"{host}/team/python-slim:3.13", registry.url)
    (base,) = bases(folder)
    assert base == f"{host}/team/python-slim:3.13@sha256:{hashlib.sha256(b'{}').hexdigest()}"


@pytest.mark.parametrize(
    ("image", "known"),
    [
        ("python:3.11-slim", ("", "library/python", "3.11-slim")),
        ("team/python", ("", "team/python", "latest")),
        ("registry.example/python:3", ("registry.example", "python", "3")),
        ("127.0.0.1:5000/a/b:c", ("127.0.0.1:5000", "a/b", "c")),
        ("localhost/a", ("localhost", "a", "latest")),
    ],
)
def test_names_of_images(pin_base: ModuleType, image: str, known: tuple[str, str, str]) -> None:
    assert pin_base.parts(image) == known


@pytest.mark.parametrize("wrong", ["absent", "another digest", "a page"])
def test_an_answer_that_is_not_the_image_changes_nothing(
    pin_base: ModuleType, registry: Registry, folder: Path, wrong: str
) -> None:
    if wrong != "absent":
        registry.manifests = {"library/python:3.11-slim": b"{}"}
    if wrong == "another digest":
        registry.says = f"sha256:{'0' * 64}"
    if wrong == "a page":
        registry.kind = "text/html"
    before = bases(folder)
    with pytest.raises(pin_base.PinError, match=r"manifests/3\.11-slim"):
        pin_base.pin(folder, "python:3.11-slim", registry.url)
    assert bases(folder) == before
    assert [p.name for p in folder.iterdir() if p.name.startswith(".")] == []


def test_without_a_registry_or_an_engine_it_says_what_to_give(
    pin_base: ModuleType, folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(pin_base.PinError, match="give --registry"):
        pin_base.pin(folder, "python:3.11-slim")
