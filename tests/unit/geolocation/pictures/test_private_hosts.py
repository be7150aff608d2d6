"""Addresses that a list, an item or a redirect names are looked at when connected; what the user named is his."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from shapely.geometry import box, mapping

from geoml.errors import DataError, GeomlError, TransientError
from geoml.geolocation.pictures import lists as photo_lists
from geoml.geolocation.pictures.decode import UnreadablePhoto
from geoml.grid.region import from_bbox
from geoml.io.stac.catalog import open_catalog
from geoml.io.stac.search import search
from geoml.io.stores import hrefs, web
from geoml.io.stores.remote import fetch
from geoml.recipe import Query
from tests.integration import fault_server

PICTURE = b"GIF89a\x01\x00\x01\x00\x80\x01\x00\x00\x00\x00\xff\xff\xff!\xf9\x04\x01\x00\x00\x01\x00,"
PICTURE += b"\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02L\x01\x00;"
REGION = json.dumps(mapping(box(0, 0, 1, 1))).encode()


@pytest.fixture(autouse=True)
def _here(machine: Callable[..., None], tmp_path: Path) -> Iterator[None]:
    machine(retries=0, timeout=5, scratch=tmp_path / "scratch")
    hrefs._private.cache_clear()
    yield
    hrefs._private.cache_clear()


@pytest.fixture
def inside() -> Iterator[Any]:
    """A server of this machine, which is no public place."""
    with fault_server.serve(files={"/p.gif": PICTURE, "/r.geojson": REGION}) as server:
        yield server


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, list[str]], None]:
    """``names(host, addresses)``: what a name server says, one after the other, the last one for ever; "" fails."""
    known: dict[str, list[str]] = {}
    real = socket.getaddrinfo

    def lookup(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        if host not in known:
            return real(host, port, *args, **kwargs)
        address = known[host].pop(0) if len(known[host]) > 1 else known[host][0]
        if not address:
            raise socket.gaierror("no answer")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port or 0))]

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    return lambda host, addresses: known.update({host: list(addresses)})


def listed(folder: Path, href: str, kind: str) -> photo_lists.Reference:
    if kind == "csv":
        (folder / "list.csv").write_text(f"url\n{href}\n")
        return next(photo_lists.pictures([folder / "list.csv"]))
    assets = {"thumbnail": {"href": href, "type": "image/gif"}}
    (folder / "item.json").write_text(json.dumps({"type": "Feature", "id": "i", "properties": {}, "assets": assets}))
    return next(photo_lists.pictures([folder / "item.json"]))


@pytest.mark.parametrize("kind", ["csv", "item"])
@pytest.mark.parametrize("addresses", [["93.184.216.34", "127.0.0.1"], ["", "", "127.0.0.1"]])
def test_a_picture_of_a_list_is_looked_at_when_connected(
    inside: Any, names: Callable[[str, list[str]], None], tmp_path: Path, kind: str, addresses: list[str]
) -> None:
    """Its name was a public one, or none at all, when the list was read."""
    names("rebind.example", addresses)
    href = inside.url.replace("127.0.0.1", "rebind.example") + "/p.gif"
    reference = listed(tmp_path, href, kind)
    assert not reference.refused
    with pytest.raises(UnreadablePhoto, match=r"unreachable: .*rebind\.example leads to the private address"):
        photo_lists.load(reference)
    assert inside.seen == [], "not a word was said"


@pytest.mark.parametrize("kind", ["csv", "item"])
def test_a_picture_of_a_list_on_a_private_host_is_refused(inside: Any, tmp_path: Path, kind: str) -> None:
    for url in (inside.url, inside.url.upper(), inside.url.replace("127.0.0.1", "0x7f.1")):
        assert "private host" in listed(tmp_path, f"{url}/p.gif", kind).refused
    assert inside.seen == []


def test_a_picture_that_the_user_names_may_be_on_a_private_host(inside: Any) -> None:
    (reference,) = photo_lists.pictures([f"{inside.url}/p.gif"])
    assert photo_lists.load(reference).format == "GIF"
    (reference,) = photo_lists.pictures([f"{inside.url.replace('http', 'HTTP')}/p.gif"])
    assert photo_lists.load(reference).format == "GIF"


def test_what_the_user_names_covers_its_host_and_port_alone(inside: Any) -> None:
    with fault_server.serve(files={"/r.geojson": REGION}) as other:
        inside.files["/moved.geojson"] = b""
        inside.only, inside.last = "/moved", f"to {other.url}/r.geojson"
        with pytest.raises(DataError, match="private host"):
            fetch(f"{inside.url}/moved.geojson", "region", 10**4)
        assert other.seen == []
        inside.last = f"to {inside.url.replace('http', 'HTTP')}/r.geojson"
        assert fetch(f"{inside.url}/moved.geojson", "region", 10**4).read_bytes() == REGION


def test_a_catalog_on_a_private_host_covers_its_port_alone(inside: Any) -> None:
    with fault_server.serve() as other:
        links = [{"rel": "item", "href": f"{other.url}/i.json"}, {"rel": "item", "href": f"{inside.url}/i.json"}]
        value = {"type": "Catalog", "stac_version": "1.0.0", "id": "c", "description": "made", "links": links}
        inside.files["/catalog.json"] = json.dumps(value).encode()
        made = {"type": "Feature", "stac_version": "1.0.0", "id": "i", "links": [], "assets": {}}
        made |= {"geometry": mapping(box(0, 0, 1, 1)), "properties": {"datetime": "2024-01-01T00:00:00Z"}}
        inside.files["/i.json"] = other.files["/i.json"] = json.dumps(made).encode()
        there = open_catalog(f"{inside.url}/catalog.json")
        query = Query(catalog="any", bbox=(0, 0, 1, 1), datetime=("2024",))
        assert [i.id for i in search(there, query, from_bbox(0, 0, 1, 1), "2024")] == ["i"]
        assert other.seen == []


def test_a_connection_that_was_allowed_more_is_looked_at_again(inside: Any) -> None:
    """Connections are kept: one to a private host that the user named must not serve a list."""
    session = requests.Session()
    web.prepare_session(session)
    assert web.fetch("GET", f"{inside.url}/r.geojson", cap=10**4, guarded=False, session=session).body == REGION
    with pytest.raises(DataError, match="leads to the private address"):
        web.fetch("GET", f"{inside.url}/r.geojson", cap=10**4, session=session)
    assert len(inside.seen) == 1


@pytest.mark.parametrize("before", ["https://h.example/x", "HTTPS://h.example/x", "HttpS://H.example/x"])
@pytest.mark.parametrize(
    "to", ["http://h.example/y", "HTTP://h.example/y", "http://other.example/y", "ftp://h.example/y"]
)
def test_no_redirect_leads_down_from_https(before: str, to: str) -> None:
    answer = web.Answer(before, 302, {"Location": to}, b"", 0)
    with pytest.raises(DataError, match="geoml does not follow; expected https"):
        web.redirect_target(answer)
    assert web.redirect_target(web.Answer(before, 302, {"Location": "/y"}, b"", 0)) in (
        "https://h.example/y",
        "https://H.example/y",
    )
    assert web.redirect_target(web.Answer(before, 200, {"Location": to}, b"", 0)) is None


def test_http_on_the_same_host_means_https_to_a_catalog_alone() -> None:
    answer = web.Answer("HTTPS://h.example/x", 302, {"Location": "http://H.example/y"}, b"", 0)
    assert web.redirect_target(answer, upgraded=True) == "https://H.example/y"
    answer = web.Answer("https://h.example/x", 302, {"Location": "http://other.example/y"}, b"", 0)
    with pytest.raises(DataError, match="geoml does not follow"):
        web.redirect_target(answer, upgraded=True)
    with pytest.raises(DataError, match="what is not a URL"):
        web.redirect_target(web.Answer("https://h.example/x", 302, {"Location": "http://["}, b"", 0))


# ---- the environment: proxies yes, passwords of ~/.netrc no


@pytest.fixture
def netrc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".netrc").write_text("default login me password SECRET\nmachine 127.0.0.1 login me password SECRET\n")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("NETRC", raising=False)


def test_netrc_is_never_used(
    inside: Any, netrc: None, machine: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests.get(f"{inside.url}/r.geojson", timeout=5)
    assert inside.seen.pop().headers["authorization"].startswith("Basic"), "what a plain session does"
    root = {"type": "Catalog", "stac_version": "1.0.0", "id": "c", "description": "made"}
    root["conformsTo"] = [f"https://api.stacspec.org/v1.0.0/{c}" for c in ("core", "item-search")]
    root["links"] = [{"rel": "search", "href": f"{inside.url}/search", "method": "POST"}]
    inside.pages["/api"] = lambda *_: (200, json.dumps(root).encode())
    inside.files["/catalog.json"] = json.dumps({**root, "links": [{"rel": "item", "href": "i.json"}]}).encode()
    machine(private_hosts=True)
    query = Query(catalog="any", collection="c", bbox=(0, 0, 1, 1), datetime=("2024",))
    for url in (f"{inside.url}/api", f"{inside.url}/catalog.json"):
        with pytest.raises(GeomlError):
            search(open_catalog(url), query, from_bbox(0, 0, 1, 1), "2024")
    fetch(f"{inside.url}/r.geojson", "region", 10**4)
    photo_lists.load(listed(tmp_path, f"{inside.url}/p.gif", "csv"))
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    fetch(f"{inside.url}/r.geojson", "region", 10**4)
    assert {s.path for s in inside.seen} >= {"/api", "/api/search", "/catalog.json", "/i.json", "/r.geojson", "/p.gif"}
    assert [s.path for s in inside.seen if "authorization" in s.headers] == []


def test_published_weights_are_fetched_without_netrc(
    inside: Any, netrc: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The clients that segmentation-models-pytorch and timm fetch encoders with."""
    import huggingface_hub
    from torch import hub

    inside.files["/o/m/resolve/main/config.json"] = b"{}"
    monkeypatch.setenv("HF_TOKEN", "")
    with pytest.raises(Exception, match=r"(?s).*"):  # the server lacks headers of theirs
        huggingface_hub.hf_hub_download("o/m", "config.json", endpoint=inside.url, token=False)
    hub.download_url_to_file(f"{inside.url}/r.geojson", str(tmp_path / "w.pth"), progress=False)
    assert len(inside.seen) >= 2
    assert [s.path for s in inside.seen if "authorization" in s.headers] == []


def test_proxies_of_the_environment_work(inside: Any, netrc: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names need not resolve here; the proxy decides whom it lets its own people see."""
    monkeypatch.setenv("HTTP_PROXY", inside.url)
    monkeypatch.setenv("NO_PROXY", "none.example")
    assert fetch("http://data.example/r.geojson", "region", 10**4).read_bytes() == REGION
    assert fetch("http://data.example/p.gif", "picture", 10**4, guarded=True).read_bytes() == PICTURE
    assert [s.headers["host"] for s in inside.seen] == ["data.example"] * 2
    assert [s.path for s in inside.seen if "authorization" in s.headers] == []
    monkeypatch.delenv("HTTP_PROXY")
    with pytest.raises(TransientError, match="no answer"):
        fetch("http://data.example/r.geojson", "region", 10**4)
