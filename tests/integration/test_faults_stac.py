"""A STAC API that fails, lies or never ends: the items, each once, or a typed error in time; requests are counted."""

from __future__ import annotations

import copy
import json
import resource
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from shapely.geometry import box, mapping

from geoml.errors import DataError, TransientError
from geoml.grid.region import from_bbox
from geoml.io.stac import http as stac_http
from geoml.io.stac import pages as stac_pages
from geoml.io.stac.search import open_catalog, search
from geoml.recipe import Query
from tests.integration import fault_server

pytestmark = pytest.mark.integration

Pages = list[Any]


def item(name: str, **changes: Any) -> dict[str, Any]:
    footprint = box(0, 0, 1, 1)
    made = {
        "type": "Feature",
        "stac_version": "1.0.0",
        "stac_extensions": [],
        "id": name,
        "collection": "s2",
        "geometry": mapping(footprint),
        "bbox": list(footprint.bounds),
        "properties": {"datetime": "2020-01-01T00:00:00Z"},
        "links": [],
        "assets": {"red": {"href": f"https://data.example/{name}.tif", "type": "image/tiff", "roles": ["data"]}},
    }
    return copy.deepcopy(made | changes)


class Api:
    """A STAC API of prepared pages: lists of items, or bytes as they are. ``next``: page → what its link names."""

    def __init__(self, server: Any, pages: Pages) -> None:
        self.server, self.pages, self.url = server, pages, server.url
        self.next: dict[int, Any] = {k: k + 1 for k in range(len(pages) - 1)}
        self.asked: list[int] = []
        server.pages["/"] = server.pages[""] = self.root
        server.pages["/search"] = self.search

    def root(self, *_: Any) -> tuple[int, bytes]:
        links = [{"rel": "search", "href": f"{self.url}/search", "method": "POST"}, {"rel": "self", "href": self.url}]
        conforms = ["core", "item-search"]
        value = {"type": "Catalog", "stac_version": "1.0.0", "id": "made", "description": "made", "links": links}
        return 200, json.dumps(
            value | {"conformsTo": [f"https://api.stacspec.org/v1.0.0/{c}" for c in conforms]}
        ).encode()

    def search(self, _: Any, sent: bytes) -> tuple[int, bytes]:
        number = int(json.loads(sent).get("token", 0))
        self.asked.append(number)
        page = self.pages[number]
        if isinstance(page, bytes):
            return 200, page
        answer: dict[str, Any] = {"type": "FeatureCollection", "features": page, "links": []}
        if number in self.next:
            link = self.next[number]
            href, token = (link, 0) if isinstance(link, str) else (f"{self.url}/search", link)
            body = {**json.loads(sent), "token": str(token)}
            answer["links"] = [{"rel": "next", "href": href, "method": "POST", "body": body}]
        return 200, json.dumps(answer).encode()

    def find(self) -> list[str]:
        asked = Query(catalog="any", collection="s2", bbox=(0, 0, 1, 1), datetime=("2020",))
        return [i.id for i in search(open_catalog(self.url), asked, from_bbox(0, 0, 1, 1), "2020")]


@pytest.fixture
def api(machine: Callable[..., None]) -> Iterator[Callable[[Pages], Api]]:
    """``api(pages)``; the server is ``.server``."""
    machine(retries=5, timeout=10)
    with fault_server.serve() as server:
        server.only = "/search"
        yield lambda pages: Api(server, pages)


@pytest.fixture
def no_pause(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    asked: list[float] = []
    mine, pause = threading.get_ident(), time.sleep

    def note(seconds: float) -> None:
        if threading.get_ident() == mine:
            asked.append(seconds)
        else:  # a thread that an earlier test has left behind
            pause(seconds)

    monkeypatch.setattr("geoml.io.stores.web.time.sleep", note)
    return asked


TWO: Pages = [[item("a"), item("b")], [item("c")]]


# ---- it fails


@pytest.mark.parametrize("fates", [["429"] * 10, ["503"] * 10, ["503", "429 3", "500", "502", "504"] * 2])
def test_ten_busy_answers(
    api: Callable[[Pages], Api], no_pause: list[float], machine: Callable[..., None], fates: list[str]
) -> None:
    """With as many tries as that they are waited for; with fewer the error says how often was asked."""
    machine(retries=10)
    made = api(TWO)
    made.server.script = list(fates)
    assert made.find() == ["a", "b", "c"]
    assert [s.fate for s in made.server.seen if s.path == "/search"] == [*fates, "ok", "ok"]
    assert len(no_pause) == 10
    assert all(seconds >= 3 for seconds, fate in zip(no_pause, fates, strict=True) if fate == "429 3")
    machine(retries=5)
    made.server.script = list(fates)
    with pytest.raises(TransientError, match=f"{fates[5][:3]}.* after 6 tries"):
        made.find()
    assert len(made.server.script) == 4


@pytest.mark.parametrize("fate", ["reset", "truncate"])
def test_answers_that_break_off(api: Callable[[Pages], Api], no_pause: list[float], fate: str) -> None:
    made = api(TWO)
    made.server.script = [fate, "ok", fate, fate]
    assert made.find() == ["a", "b", "c"]
    assert made.asked == [0, 0, 1, 1, 1]


@pytest.mark.parametrize("fate", ["stall", "drip", "drip-head"])
def test_answers_that_take_for_ever(api: Callable[[Pages], Api], machine: Callable[..., None], fate: str) -> None:
    machine(retries=1, timeout=0.5)
    made = api(TWO)
    made.server.last = fate
    started = time.monotonic()
    with pytest.raises(TransientError, match="no answer"):
        made.find()
    assert time.monotonic() - started < 6
    assert [s.fate for s in made.server.seen if s.path == "/search"] == [fate] * 2


# ---- its pages


def test_a_page_that_comes_twice_and_items_that_move_between_pages(api: Callable[[Pages], Api]) -> None:
    """While we page, an item comes in on top: what was last on page 1 is first on page 2."""
    made = api([[item("a"), item("b")], [item("a"), item("b")], [item("b"), item("c")], [item("d")]])
    assert made.find() == ["a", "b"], "a page that brings nothing new ends it"
    made = api([[item("a"), item("b")], [item("b"), item("c")], [item("d")]])
    assert made.find() == ["a", "b", "c", "d"]


@pytest.mark.parametrize(
    "changed",
    [
        {"properties": {"datetime": "2020-01-01T00:00:00Z", "eo:cloud_cover": 7}},
        {"assets": {"red": {"href": "https://data.example/other.tif"}}},
        {"geometry": mapping(box(0, 0, 2, 1))},
    ],
    ids=["properties", "assets", "geometry"],
)
def test_an_item_that_changes_between_pages_is_not_guessed(
    api: Callable[[Pages], Api], changed: dict[str, Any]
) -> None:
    made = api([[item("a"), item("b")], [item("b", **changed), item("c")]])
    with pytest.raises(DataError, match="item b: appears twice with different content"):
        made.find()


def test_an_item_that_is_only_signed_anew_is_the_same(api: Callable[[Pages], Api]) -> None:
    pages = [[item("a")], [item("a"), item("b")]]
    for number, page in enumerate(pages):
        page[0]["assets"]["red"]["href"] += f"?sig={number}"
    assert api(pages).find() == ["a", "b"]


def test_pages_in_a_circle(api: Callable[[Pages], Api]) -> None:
    made = api([[item("a")], [item("b")], [item("c")]])
    made.next[2] = 0
    assert made.find() == ["a", "b", "c"]
    assert made.asked == [0, 1, 2, 0]


def test_pages_without_end(api: Callable[[Pages], Api], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stac_pages, "MAX_PAGES", 20)
    made = api([[item(f"i{n}")] for n in range(99)])
    with pytest.raises(DataError, match="more than 20 pages"):
        made.find()
    assert len(made.asked) == 21


@pytest.mark.parametrize("href", ["http://127.0.0.2:9/search", "https://evil.example/search", "file:///etc/passwd"])
def test_a_next_page_elsewhere(api: Callable[[Pages], Api], href: str) -> None:
    made = api([[item("a")], [item("b")]])
    made.next[0] = href
    with pytest.raises(DataError, match=r"another host|expected https"):
        made.find()
    assert made.asked == [0]


# ---- what it says


def page(text: str) -> bytes:
    """A page with one feature, given as JSON."""
    return b'{"type": "FeatureCollection", "links": [], "features": [' + text.encode() + b"]}"


GOOD = json.dumps(item("a"))


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (page(GOOD)[:-90], "not JSON"),
        (page(GOOD.replace('"bbox": [0.0', '"bbox": [NaN')), "NaN is not allowed"),
        (page(GOOD.replace('"bbox": [0.0', '"bbox": [-Infinity')), "-Infinity is not allowed"),
        (page(GOOD.replace("[0.0, 0.0]", "[0.0, 1e999]")), "item a: geometry"),
        (page('{"a":' * 10_000 + "1" + "}" * 10_000), "not JSON"),
        (page("[" * 10_000 + "]" * 10_000), "not JSON"),
        (b"<html>please log in</html>", "not JSON"),
        (b"\xff\xfe{}", "not UTF-8"),
        (page(json.dumps(item("a", geometry=None, bbox=None))), "item a: no geometry"),
        (page(json.dumps(item("a", geometry={"type": "Polygon", "coordinates": [[[0, 0], [1, 1]]]}))), "item a"),
        (page(json.dumps(item("a", properties={}))), "item a: datetime"),
        (page(json.dumps(item("a", assets={"red": {}}))), "item 'a': not a STAC item"),
        (page(json.dumps(item("a", assets=[1]))), "item 'a': assets is list"),
        (page(json.dumps(item("a", properties=[1]))), "item 'a': properties is list"),
        (page(json.dumps(item("a", id=[5]))), "its id is not text"),
        (page(json.dumps(item("a", id=""))), "its id is not text"),
    ],
    ids=range(16),
)
def test_items_that_are_none(api: Callable[[Pages], Api], body: bytes, said: str) -> None:
    started = time.monotonic()
    with pytest.raises(DataError, match=said) as caught:
        api([body]).find()
    assert len(str(caught.value)) < 1000
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("depth", [200, 900])
def test_nested_less_deeply(api: Callable[[Pages], Api], depth: int) -> None:
    """What Python's parser lets through must not overturn what comes after it."""
    text = json.dumps(item("a", properties={"datetime": "2020-01-01T00:00:00Z", "deep": "HERE"}))
    made = api([page(text.replace('"HERE"', '{"a":' * depth + "1" + "}" * depth))])
    if depth == 200:
        assert made.find() == ["a"]
    else:
        with pytest.raises(DataError, match=r"item 'a': not a STAC item|not JSON"):
            made.find()


def test_an_item_without_bbox_or_assets_is_found(api: Callable[[Pages], Api]) -> None:
    """The geometry says where it is; that a band is missing is said by who asks for the band."""
    plain = item("a")
    del plain["bbox"]
    assert api([[plain, item("b", assets={})]]).find() == ["a", "b"]


def test_a_gigabyte_is_not_read(api: Callable[[Pages], Api], monkeypatch: pytest.MonkeyPatch) -> None:
    """It is cut while it comes."""
    made = api(TWO)
    monkeypatch.setattr(stac_http, "MAX_BODY", 8 * 2**20)
    sent = []

    def long(handler: Any, status: int, headers: dict[str, str], length: int) -> None:
        handler.send_response(status)
        handler.send_header("Content-Length", str(2**30))
        handler.end_headers()
        for _ in range(2**30 // 2**20):
            handler.wfile.write(b" " * 2**20)
            sent.append(2**20)

    monkeypatch.setattr(fault_server._Handler, "head", long)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DataError, match="more than 8 MiB"):
        made.find()
    assert sum(sent) < 64 * 2**20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 2**10
