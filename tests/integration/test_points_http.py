"""Clouds over HTTP: few requests, no byte too many, and a named error for whatever a server does wrong."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import laspy.copc
import numpy as np
import pystac
import pytest

from geoml.errors import DataError, GeomlError, InputError, TransientError
from geoml.io.points import copc
from geoml.io.points.bins import binned
from geoml.io.points.files import PointPlace
from geoml.io.points.georeference import Stated
from geoml.io.points.items import item_source
from geoml.io.points.kept import kept_nodes
from geoml.io.points.read import read_window
from geoml.io.points.source import open_place, open_source
from geoml.io.stac.catalog import Catalog
from geoml.io.stores import hrefs, ranges
from tests.integration import fault_server
from tests.made_clouds import las_bytes, made_points
from tests.made_octrees import write_copc, write_ept
from tests.unit.io.points.test_read_window import ALL, same

pytestmark = pytest.mark.integration

WINDOW = (500_042.0, 5_000_041.0, 500_047.0, 5_000_046.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``a.laz`` and ``a.copc.laz`` of 20,000 points."""
    folder = tmp_path_factory.mktemp("clouds")
    (folder / "a.laz").write_bytes(las_bytes(made_points(20_000), crs="EPSG:32632"))
    write_copc(folder / "a.copc.laz", folder / "a.laz", per_node=500, levels=4, pages=True)
    return folder


@pytest.fixture
def server(machine: Callable[..., None], folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    machine(private_hosts=True, retries=2, timeout=5)
    monkeypatch.setattr("geoml.io.stores.ranges.back_off", lambda *_: None)
    hrefs._private.cache_clear()
    files = {f"/{name}": (folder / name).read_bytes() for name in ("a.laz", "a.copc.laz")}
    with fault_server.serve(files=files) as running:
        yield running


def cost(server: Any, name: str) -> tuple[int, int]:
    """Requests and bytes so far."""
    size = len(server.files[f"/{name}"])
    return len(server.seen), sum(min(stop, size) - start for start, stop in server.ranges())


def serve_folder(server: Any, folder: Path) -> None:
    """The files of an EPT below ``/tiles``."""
    for path in folder.rglob("*"):
        if path.is_file():
            server.files[f"/tiles/{path.relative_to(folder).as_posix()}"] = path.read_bytes()


def laspy_cost(server: Any, windows: list[tuple[float, ...]]) -> tuple[int, int, int]:
    """Points, requests and bytes of laspy, which keeps its reader."""
    server.seen.clear()
    points = 0
    with laspy.copc.CopcReader.open(f"{server.url}/a.copc.laz") as reader:
        for left, bottom, right, top in windows:
            points += len(reader.query(laspy.copc.Bounds(np.array([left, bottom]), np.array([right, top]))))
    return points, *cost(server, "a.copc.laz")


def test_windows_cost_less_than_by_laspy(server: Any, folder: Path) -> None:
    left, bottom, right, top = WINDOW
    windows = [(left + x, bottom + y, right + x, top + y) for x in (0, 5, 10) for y in (0, 5, 10)]
    for asked in (windows[:1], windows):
        points, requests, size = laspy_cost(server, asked)
        assert points > 20
        server.seen.clear()
        ranges.forget(f"{server.url}/a.copc.laz")
        for kept in (copc.kept_files, kept_nodes):
            kept.clear()
        source = open_source(f"{server.url}/a.copc.laz", "EPSG:32632")
        for window in asked:
            assert same(read_window([source], window), read_window([open_source(str(folder / "a.laz"))], window))
        ours, our_size = cost(server, "a.copc.laz")
        assert our_size <= size
        assert ours <= (0.6 if len(asked) > 1 else 0.8) * requests


def test_a_plain_file_is_read_once_in_a_run(server: Any, folder: Path, tmp_path: Path) -> None:
    (source,) = binned([open_source(f"{server.url}/a.laz")], tmp_path)
    before = cost(server, "a.laz")
    assert before[1] <= len(server.files["/a.laz"]) + 2**13
    assert same(read_window([source], ALL), read_window([open_source(str(folder / "a.laz"))], ALL))
    assert cost(server, "a.laz") == before


def test_an_ept_is_read_over_http(server: Any, tmp_path: Path) -> None:
    document = write_ept(tmp_path / "tiles", made_points(2000), per_node=300)
    serve_folder(server, document.parent)
    source = open_source(f"{server.url}/tiles/ept.json")
    assert same(read_window([source], ALL), read_window([open_source(str(document))], ALL))
    assert len({s.path for s in server.seen}) == len(server.seen)  # each file in one request


@pytest.mark.parametrize(
    ("fate", "kind", "message"),
    [
        ("503", TransientError, "HTTP 503"),
        ("truncate", TransientError, "no answer|bytes as"),
        ("short", TransientError, "bytes as"),
        ("reset", TransientError, "no answer"),
        ("shifted", DataError, r"a\."),
        ("wrong", TransientError, "bytes as"),
        ("whole", TransientError, "the whole file"),
        ("html", TransientError, "the whole file"),
        ("404", DataError, "HTTP 404"),
        ("403", DataError, "HTTP 403"),
        ("changed", TransientError, "changed while it was read"),
        ("to http://[::1]:9/a.copc.laz", GeomlError, "no answer|a.copc.laz"),
    ],
)
@pytest.mark.parametrize("name", ["a.copc.laz", "a.laz"])
def test_what_a_server_does_wrong_is_an_error_and_never_a_hole(
    server: Any, name: str, fate: str, kind: type[GeomlError], message: str
) -> None:
    source = open_source(f"{server.url}/{name}")
    if name == "a.laz":
        server.skip = 1  # its head is fine
    server.last = fate
    with pytest.raises(kind, match=message) as raised:
        read_window([source], WINDOW)
    assert name in str(raised.value)


def test_a_server_that_recovers_gives_all_points(server: Any, folder: Path, machine: Callable[..., None]) -> None:
    source = open_source(f"{server.url}/a.copc.laz")
    machine(private_hosts=True, retries=5, timeout=5)
    server.script = ["503", "short", "ok", "reset"]
    assert same(read_window([source], WINDOW), read_window([open_source(str(folder / "a.laz"))], WINDOW))


@pytest.mark.parametrize("fate", ["503", "404", "short", "html"])
@pytest.mark.parametrize("kind", ["copc", "ept"])
def test_a_page_of_a_hierarchy_that_failed_is_no_hole_afterwards(
    server: Any, folder: Path, tmp_path: Path, kind: str, fate: str
) -> None:
    if kind == "copc":
        url, whole = f"{server.url}/a.copc.laz", open_source(str(folder / "a.laz"))
        source = open_source(url)
        server.only = "a.copc.laz"
    else:
        document = write_ept(tmp_path / "tiles", made_points(2000), per_node=100)
        serve_folder(server, document.parent)
        source, whole = open_source(f"{server.url}/tiles/ept.json"), open_source(str(document))
        server.only = "ept-hierarchy/1-"
    server.last = fate
    with pytest.raises(GeomlError):
        read_window([source], ALL)
    server.last = "ok"
    assert same(read_window([source], ALL), read_window([whole], ALL))


def test_a_signature_that_ends_between_pages_leaves_no_hole(server: Any, folder: Path) -> None:
    asked: list[str] = []

    def token(*_: object) -> tuple[int, bytes]:
        asked.append("")
        said = {"token": f"sig={len(asked)}", "msft:expiry": "2100-01-01T00:00:00+00:00"}
        return 200, json.dumps(said).encode()

    server.files["/late/a.copc.laz"] = server.files["/a.copc.laz"]
    server.pages["/sign/127.0.0.1/late"] = token
    place = PointPlace(f"{server.url}/late/a.copc.laz", sign=f"{server.url}/sign", remote=True)
    source = open_place(place, Stated(), "EPSG:32632")
    server.allow = lambda seen: not seen.path.startswith("/late") or seen.query == "sig=2"  # the first one has ended
    assert same(read_window([source], ALL), read_window([open_source(str(folder / "a.laz"))], ALL))
    assert len(asked) == 2


def test_a_signature_that_is_refused_is_renewed_once(server: Any) -> None:
    asked: list[str] = []

    def token(*_: object) -> tuple[int, bytes]:
        asked.append("")
        said = {"token": f"sig={len(asked)}", "msft:expiry": "2100-01-01T00:00:00+00:00"}
        return 200, json.dumps(said).encode()

    server.files["/data/a.laz"] = server.files["/a.laz"]
    server.pages["/sign/127.0.0.1/data"] = token
    server.allow = lambda seen: not seen.path.startswith("/data") or seen.query == "sig=2"
    place = PointPlace(f"{server.url}/data/a.laz", sign=f"{server.url}/sign", remote=True)
    assert open_place(place, Stated()).count == 20_000
    assert len(asked) == 2
    server.allow = lambda seen: not seen.path.startswith("/data")
    ranges.forget(place.href)
    with pytest.raises(DataError, match="HTTP 403"):
        open_place(place, Stated())


def test_a_signed_href_of_an_item_is_asked_for_bare_and_says_what_to_do(server: Any, tmp_path: Path) -> None:
    catalog = Catalog("here", str(tmp_path / "catalog.json"), "static", remote=False, root=tmp_path)
    item = pystac.Item("tile", {"type": "Point", "coordinates": [9, 45]}, None, dt.datetime(2024, 1, 1), {})
    item.add_asset("cloud", pystac.Asset(f"{server.url}/a.laz?sig=S3CRET"))
    source = item_source(item, catalog, "EPSG:32632")
    assert "S3CRET" not in json.dumps(source.as_plain())
    ranges.forget(source.href)
    server.allow = lambda seen: seen.query == "sig=S3CRET"
    with pytest.raises(DataError, match=r"item tile: .*HTTP 403 .*sign: in the catalog's YAML") as caught:
        item_source(item, catalog, "EPSG:32632")
    assert "S3CRET" not in str(caught.value)


def test_blanks_in_a_url_are_no_end_of_it(server: Any, tmp_path: Path) -> None:
    server.files["/a%20b.laz"] = server.files["/a.laz"]
    url = f"{server.url}/a b.laz?sig=S3CRET"
    assert open_source(url, "EPSG:32632").href == f"{server.url}/a%20b.laz"
    catalog = Catalog("here", str(tmp_path / "catalog.json"), "static", remote=False, root=tmp_path)
    item = pystac.Item("tile", {"type": "Point", "coordinates": [9, 45]}, None, dt.datetime(2024, 1, 1), {})
    item.add_asset("cloud", pystac.Asset(url))
    assert item_source(item, catalog, "EPSG:32632").count == 20_000


def test_a_login_page_and_a_private_host_are_named(server: Any, machine: Callable[..., None]) -> None:
    server.last = "html"
    with pytest.raises(DataError, match="not a LAS file, it starts with b'<!DOCTYPE"):
        open_source(f"{server.url}/a.laz")
    with pytest.raises(DataError, match="not a JSON document"):
        open_source(f"{server.url}/ept.json")
    machine(private_hosts=False)
    hrefs._private.cache_clear()
    with pytest.raises(InputError, match="private host"):
        open_source(f"{server.url}/a.laz")


def test_gaps_are_read_within_their_bytes() -> None:
    spans = [(0, 100), (110, 200), (260, 300), (1000, 1100)]
    for spare, expected in ((0, 4), (9, 4), (10, 3), (69, 3), (70, 2), (769, 2), (770, 1)):
        assert len(ranges.merged(spans, ranges.widest(spans, spare))) == expected
