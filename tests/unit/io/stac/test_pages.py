"""Habits of STAC servers: small pages, no POST, no sorting, lists that end too early, links of every kind."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from shapely.geometry import box, mapping

from geoml.errors import DataError, GeomlError, InputError, TransientError
from geoml.grid.region import from_bbox
from geoml.io.stac.search import open_catalog, search
from geoml.recipe import Query
from geoml.settings import settings
from tests.serving import serving

N = 250


def item(k: int) -> dict[str, Any]:
    """Items k minutes after midnight; every fifth has few clouds."""
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": f"i{k:03d}",
        "collection": "c",
        "geometry": mapping(box(0, 0, 1, 1)),
        "bbox": [0, 0, 1, 1],
        "properties": {
            "datetime": f"2024-06-01T{k // 60:02d}:{k % 60:02d}:00Z",
            "eo:cloud_cover": 5 if k % 5 == 0 else 80,
        },
        "links": [],
        "assets": {"red": {"href": f"https://data.example/{k}.tif"}},
    }


ITEMS = [item(k) for k in range(N)]


@dataclass
class Habits:
    """``fits``: the largest page that does not fail with ``status``; ``most``: pages are cut to it in silence."""

    fits: int = 10_000
    status: int = 502
    message: str = "Internal server error"
    most: int = 10_000
    next: str = "post"
    ends: int = N
    matched: str = "numberMatched"
    total: int | None = N
    post: int = 200
    conforms: tuple[str, ...] = ("core", "item-search")
    refuses: tuple[str, ...] = ()
    filters: bool = False
    empty: tuple[int, ...] = ()
    asked: list[dict[str, Any]] = field(default_factory=list)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Habits, str]]:
    monkeypatch.setenv("GEOML_RETRIES", "1")
    monkeypatch.setattr("geoml.io.stores.web.time.sleep", lambda _: None)
    settings.cache_clear()
    habits = Habits()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def answer(self, status: int, value: Any) -> None:
            body = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            url = urlsplit(self.path)
            if url.path == "/search":
                self.search({k: v[0] for k, v in parse_qs(url.query).items()}, "GET")
            elif url.path.strip("/"):
                self.answer(404, {})
            else:
                links = [{"rel": "search", "href": f"{home}/search", "method": m} for m in ("GET", "POST")]
                conforms = [f"https://api.stacspec.org/v1.0.0/{c}" for c in habits.conforms]
                about = {"type": "Catalog", "stac_version": "1.0.0", "id": "x", "description": "d", "links": links}
                self.answer(200, {**about, "conformsTo": conforms})

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if habits.post != 200:
                habits.asked.append({"method": "POST", **asked})
                self.answer(habits.post, {"message": "no"})
            else:
                self.search(asked, "POST")

        def search(self, asked: dict[str, Any], method: str) -> None:
            habits.asked.append({"method": method, **asked})
            limit, start = int(asked.get("limit", 10)), int(asked.get("token", 0))
            if limit > habits.fits:
                self.answer(habits.status, {"message": habits.message})
                return
            if word := next((w for w in habits.refuses if w in asked), None):
                self.answer(400, {"message": f"{word} is not known here"})
                return
            found = ITEMS
            if asked.get("sortby") and habits.conforms[-1].endswith("#sort"):
                found = sorted(ITEMS, key=lambda v: v["properties"]["datetime"], reverse=True)
            end = min(start + min(limit, habits.most), habits.ends)
            page = [] if start in habits.empty else found[start:end]
            if habits.filters and asked.get("filter"):
                page = [v for v in page if v["properties"]["eo:cloud_cover"] < 20]
            count = {habits.matched: habits.total}
            if "." in habits.matched:
                outer, _, inner = habits.matched.partition(".")
                count = {outer: {inner: habits.total}}
            links = [self.next_link({**asked, "token": str(end)})] if end < habits.ends else []
            self.answer(200, {"type": "FeatureCollection", "features": page, **count, "links": links})

        def next_link(self, body: dict[str, Any]) -> dict[str, Any]:
            link = {"rel": "next", "href": f"{home}/search"}
            flat = {k: ",".join(map(str, v)) if isinstance(v, list) else v for k, v in body.items()}
            return {
                "post": {**link, "method": "POST", "body": body},
                "merge": {**link, "method": "post", "merge": True, "body": {"token": body["token"]}},
                "no method": {**link, "body": body},
                "get": {**link, "href": f"{home}/search?{urlencode(flat)}"},
                "relative": {"rel": "next", "href": f"search?{urlencode(flat)}", "method": "GET"},
                "null": {"rel": "next", "href": None},
                "circle": {**link, "method": "POST", "body": {**body, "token": "0"}},
            }[habits.next]

    monkeypatch.setenv("GEOML_PRIVATE_HOSTS", "true")
    with serving(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as httpd:
        home = f"http://127.0.0.1:{httpd.server_port}"
        yield habits, home


def find(url: str, **more: Any) -> list[str]:
    query = Query(catalog=url, collection="c", bbox=(0, 0, 1, 1), datetime=("2024",), **more)
    return [i.id for i in search(open_catalog(url), query, from_bbox(0, 0, 1, 1), "2024")]


NEWEST = [v["id"] for v in reversed(ITEMS)]


@pytest.mark.parametrize("status", [413, 500, 502, 504])
@pytest.mark.parametrize(
    ("fits", "sizes"), [(100, {200, 100}), (24, {200, 100, 50, 25, 12}), (10, {200, 100, 50, 25, 12, 10})]
)
def test_a_page_that_is_too_large_is_halved(server: Any, status: int, fits: int, sizes: set[int]) -> None:
    habits, url = server
    habits.fits, habits.status = fits, status
    assert find(url) == NEWEST
    assert {int(a["limit"]) for a in habits.asked} == sizes


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (400, "limit must be less than or equal to 100"),
        (422, "Input should be at most: limit"),
        (400, "page size exceeds"),
    ],
)
def test_a_limit_that_is_refused_is_halved(server: Any, status: int, message: str) -> None:
    habits, url = server
    habits.fits, habits.status, habits.message = 100, status, message
    assert find(url) == NEWEST
    assert len({int(a["limit"]) for a in habits.asked}) == 2


def test_ten_items_are_the_smallest_page(server: Any) -> None:
    habits, url = server
    habits.fits = 9
    with pytest.raises(TransientError, match="502"):
        find(url)
    assert min(int(a["limit"]) for a in habits.asked) == 10
    habits.status, habits.message = 400, "your bbox is wrong"
    habits.asked.clear()
    with pytest.raises(InputError, match="your bbox is wrong"):
        find(url)
    assert len(habits.asked) == 1, "what is not about the limit is not tried again"


def test_the_same_error_three_times_is_taken_for_the_answer(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """With many retries a page that is too large costs seconds, not a minute for each half."""
    monkeypatch.setenv("GEOML_RETRIES", "8")
    settings.cache_clear()
    habits, url = server
    habits.fits = 100
    assert find(url) == NEWEST
    assert [int(a["limit"]) for a in habits.asked].count(200) == 3


@pytest.mark.parametrize("kind", ["post", "merge", "no method", "get", "relative"])
def test_next_pages_by_every_kind_of_link(server: Any, kind: str) -> None:
    habits, url = server
    habits.next, habits.most = kind, 60
    assert find(url) == NEWEST
    assert len(habits.asked) == 5


@pytest.mark.parametrize("matched", ["numberMatched", "context.matched", "search:metadata.matched"])
@pytest.mark.parametrize(
    ("ends", "most", "kind"), [(100, 100, "post"), (120, 60, "post"), (250, 100, "null"), (250, 100, "circle")]
)
def test_a_list_that_ends_before_its_end_is_an_error(
    server: Any, matched: str, ends: int, most: int, kind: str
) -> None:
    habits, url = server
    habits.ends, habits.most, habits.matched, habits.next = ends, most, matched, kind
    came = min(ends, most) if kind != "post" else ends
    with pytest.raises(DataError, match=f"{came} of 250 items came"):
        find(url)
    habits.conforms = ("core", "item-search", "item-search#sort")
    assert len(find(url, limit=40)) == 40, "who asked for no more than came, in order, is content"


def test_a_count_that_is_missing_or_right_is_no_error(server: Any) -> None:
    habits, url = server
    habits.ends = 120
    for total in (None, 120, 7):
        habits.total = total
        assert len(find(url)) == 120


def test_a_count_that_knows_no_filter_is_no_error(server: Any) -> None:
    """Pages are cut first and filtered then: they differ in length, and the count is of all."""
    habits, url = server
    habits.filters, habits.most = True, 99
    habits.conforms = ("core", "item-search", "item-search#filter")
    assert len(find(url, filter="eo:cloud_cover < 20")) == 50


def test_pages_without_an_item_do_not_end_the_list(server: Any) -> None:
    habits, url = server
    habits.most, habits.empty, habits.total = 50, (50, 100), 150
    assert len(find(url)) == 150


@pytest.mark.parametrize("status", [403, 404, 405, 501])
def test_a_server_without_post_is_asked_by_get(server: Any, status: int) -> None:
    habits, url = server
    habits.post, habits.next, habits.most = status, "get", 100
    assert find(url) == NEWEST
    assert [a["method"] for a in habits.asked if a["method"] == "POST"] == ["POST"]


def test_sorted_where_the_server_says_that_it_can_else_here(server: Any) -> None:
    habits, url = server
    habits.most = 50
    assert find(url, limit=3) == NEWEST[:3]
    assert not any("sortby" in a for a in habits.asked)
    assert len(habits.asked) > 3, "the newest may be on the last page"
    habits.asked.clear()
    habits.conforms = ("core", "item-search", "item-search#sort")
    assert find(url, limit=3) == NEWEST[:3]
    assert len(habits.asked) == 1
    habits.asked.clear()
    habits.refuses = ("sortby",)  # it says so, and cannot
    assert find(url, limit=3) == NEWEST[:3]


def test_filtered_here_where_the_server_does_not_filter(server: Any) -> None:
    habits, url = server
    clear = [v["id"] for v in reversed(ITEMS) if v["properties"]["eo:cloud_cover"] < 20]
    assert find(url, filter="eo:cloud_cover < 20") == clear
    habits.refuses = ("filter",)
    assert find(url, filter="eo:cloud_cover < 20") == clear


def test_only_errors_of_the_table(server: Any) -> None:
    habits, url = server
    for status in (300, 401, 402, 409, 418, 451, 505, 599):
        habits.fits, habits.status = 0, status
        with pytest.raises(GeomlError):
            find(url)
