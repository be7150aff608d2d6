"""One question gives one answer, whichever kind of catalog is asked; and what hostile or broken catalogs get."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pystac
import pytest
from shapely.geometry import MultiPolygon, Polygon, box, mapping

from geoml.errors import DataError, InputError, NothingFound, TransientError
from geoml.grid.region import from_bbox
from geoml.io.stac import http as stac_http
from geoml.io.stac.search import Catalog, open_catalog, parse_datetime, read_items, search, write_items
from geoml.recipe import Query
from geoml.settings import settings
from tests.serving import serving

Serve = Callable[[list[dict[str, Any]]], AbstractContextManager[Any]]


def make(name: str, x: float, y: float, when: str, cloud: float | None = 0, collection: str = "s2") -> dict[str, Any]:
    footprint = box(x, y, x + 1, y + 1)
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "stac_extensions": [],
        "id": name,
        "collection": collection,
        "geometry": mapping(footprint),
        "bbox": list(footprint.bounds),
        "properties": {"datetime": when, "platform": "a"} | ({} if cloud is None else {"eo:cloud_cover": cloud}),
        "links": [],
        "assets": {"red": {"href": f"https://data.example/{name}/B04.tif", "type": "image/tiff", "roles": ["data"]}},
    }


@pytest.fixture
def items() -> list[dict[str, Any]]:
    """Forty items on a 5° square, some years, two collections; a fixed draw."""
    draw = random.Random(3)
    made = []
    for n in range(40):
        when = f"20{draw.randint(18, 22)}-{draw.randint(1, 12):02}-{draw.randint(1, 28):02}T10:00:{n:02}Z"
        cloud = None if n % 7 == 0 else round(draw.uniform(0, 100), 1)
        x, y = draw.uniform(0, 5), draw.uniform(0, 5)
        made.append(make(f"item-{n:02}", x, y, when, cloud, "s2" if n % 5 else "other"))
    return made


@pytest.fixture
def everywhere(items: list[dict[str, Any]], tmp_path: Path, stac_server: Serve) -> Iterator[dict[str, Catalog]]:
    """The same items as an API, a static catalog and a stac-geoparquet file."""
    root = pystac.Catalog("root", "made")
    for name in ("s2", "other"):
        extent = pystac.Extent(pystac.SpatialExtent([[0, 0, 6, 6]]), pystac.TemporalExtent([[None, None]]))
        child = pystac.Collection(name, "made", extent)
        root.add_child(child)
        child.add_items([pystac.Item.from_dict(copy.deepcopy(i)) for i in items if i["collection"] == name])
    root.normalize_and_save(str(tmp_path / "static"), pystac.CatalogType.SELF_CONTAINED)
    write_items([pystac.Item.from_dict(copy.deepcopy(i)) for i in items], tmp_path / "items.parquet")
    with stac_server(items) as server:
        yield {
            "api": open_catalog(server.url),
            "static": open_catalog(str(tmp_path / "static" / "catalog.json")),
            "parquet": open_catalog(str(tmp_path / "items.parquet")),
        }


def query(**fields: Any) -> Query:
    return Query(
        **{"catalog": "any", "collection": "s2", "bbox": (0, 0, 1, 1), "datetime": ("2020",)} | fields  # type: ignore[arg-type]
    )


ASKED: list[tuple[Query, tuple[float, float, float, float], str]] = [
    (query(), (0, 0, 6, 6), "../2030"),
    (query(), (1.2, 2.1, 2.6, 3.3), "2019-01-01T00:00:00Z/2021-06-30T00:00:00Z"),
    (query(), (0, 0, 6, 6), "2020"),
    (query(filter="eo:cloud_cover < 40"), (0, 0, 6, 6), "2018/.."),
    (query(filter="eo:cloud_cover IS NULL OR platform = 'b'"), (0, 0, 6, 6), "2018/.."),
    (query(sortby="-eo:cloud_cover"), (0, 0, 4, 4), "2018/.."),
    (query(sortby="+eo:cloud_cover,id", filter="eo:cloud_cover >= 0"), (0, 0, 4, 4), "2018/2022"),
    (query(limit=5), (0, 0, 6, 6), "2018/.."),
    (query(limit=3, sortby="eo:cloud_cover", filter="eo:cloud_cover > 10"), (0, 0, 6, 6), "2018/.."),
    (query(collection="other"), (0, 0, 6, 6), "2018/.."),
]


@pytest.mark.parametrize(("asked", "bbox", "when"), ASKED, ids=range(len(ASKED)))
def test_the_same_answer_from_every_kind_of_catalog(
    everywhere: dict[str, Catalog],
    items: list[dict[str, Any]],
    asked: Query,
    bbox: tuple[float, float, float, float],
    when: str,
) -> None:
    answers = {kind: [i.id for i in search(c, asked, from_bbox(*bbox), when)] for kind, c in everywhere.items()}
    assert answers["api"] == answers["static"] == answers["parquet"]
    assert answers["api"]
    assert asked.limit is None or len(answers["api"]) == asked.limit
    if asked == query() and when == "../2030":
        newest_first = sorted((i for i in items if i["collection"] == "s2"), key=lambda i: i["properties"]["datetime"])
        assert answers["api"] == [i["id"] for i in reversed(newest_first)]


def test_items_come_with_absolute_hrefs_and_without_an_object_graph(everywhere: dict[str, Catalog]) -> None:
    for catalog in everywhere.values():
        for item in search(catalog, query(), from_bbox(0, 0, 6, 6), "2018/.."):
            assert item.assets["red"].href == f"https://data.example/{item.id}/B04.tif"
            assert item.collection_id == "s2"
            assert item.get_root() is None


def test_items_that_the_server_thinks_touch_but_do_not_are_dropped(stac_server: Serve) -> None:
    triangle = MultiPolygon([Polygon([(0, 0), (4, 0), (0, 4)])])
    made = [make("near", 0.5, 0.5, "2020-01-01T00:00:00Z"), make("far", 3.5, 3.5, "2020-01-01T00:00:00Z")]
    with stac_server(made) as server:
        assert [i.id for i in search(open_catalog(server.url), query(), triangle, "2020")] == ["near"]


def test_over_the_antimeridian_two_boxes_are_asked(stac_server: Serve, tmp_path: Path) -> None:
    made = [
        make("west", 178.5, 0, "2020-01-01T00:00:00Z"),
        make("past", 179.5, 0, "2020-01-01T00:00:00Z"),
        make("east", -180, 0, "2020-01-01T00:00:00Z"),
        make("greenwich", 0, 0, "2020-01-01T00:00:00Z"),
    ]
    region = from_bbox(179, 0, -179.5, 1)
    with stac_server(made) as server:
        items = search(open_catalog(server.url), query(), region, "2020")
        assert [tuple(s["bbox"]) for s in server.searches] == [(-180, 0, -179.5, 1), (179, 0, 180, 1)]
    assert [i.id for i in items] == ["east", "past", "west"]
    write_items([pystac.Item.from_dict(i) for i in made], tmp_path / "i.parquet")
    local = search(open_catalog(str(tmp_path / "i.parquet")), query(), region, "2020")
    assert [i.id for i in local] == ["east", "past", "west"]
    only_east = from_bbox(-179.9, 0, -179.6, 1)  # `past` is written 179.5 … 180.5
    local = search(open_catalog(str(tmp_path / "i.parquet")), query(), only_east, "2020")
    assert [i.id for i in local] == ["east", "past"]


def test_a_limit_ends_the_paging_early(stac_server: Serve) -> None:
    made = [make(f"i{n:03}", 0, 0, f"2020-01-{n + 1:02}T00:00:00Z") for n in range(28)]
    with stac_server(made) as server:
        items = search(open_catalog(server.url), query(limit=3), from_bbox(0, 0, 1, 1), "2020")
        assert [i.id for i in items] == ["i027", "i026", "i025"]
        assert len(server.searches) == 2


def test_a_server_without_post_is_asked_by_get(stac_server: Serve) -> None:
    made = [make(f"i{n}", 0, 0, f"2020-01-0{n + 1}T00:00:00Z", cloud=n) for n in range(5)]
    with stac_server(made) as server:
        server.post = False
        items = search(open_catalog(server.url), query(filter="eo:cloud_cover > 1"), from_bbox(0, 0, 1, 1), "2020")
    assert [i.id for i in items] == ["i4", "i3", "i2"]


# ---- faults


def test_busy_servers_are_asked_again(stac_server: Serve) -> None:
    with stac_server([make("a", 0, 0, "2020-01-01T00:00:00Z")]) as server:
        server.faults = [503, 429, 500]
        assert len(search(open_catalog(server.url), query(), from_bbox(0, 0, 1, 1), "2020")) == 1
        assert server.faults == []


def test_a_server_that_stays_busy_is_transient(stac_server: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEOML_RETRIES", "1")
    settings.cache_clear()
    with stac_server([make("a", 0, 0, "2020-01-01T00:00:00Z")]) as server:
        server.faults = [503] * 9
        with pytest.raises(TransientError, match=r"503.*2 tries"):
            search(open_catalog(server.url), query(), from_bbox(0, 0, 1, 1), "2020")
        url = server.url
    with pytest.raises(TransientError, match="no answer"):  # nobody listens there any more
        search(open_catalog(url), query(), from_bbox(0, 0, 1, 1), "2020")


def test_a_body_that_breaks_off_is_asked_for_again(stac_server: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEOML_RETRIES", "2")
    settings.cache_clear()
    with stac_server([make("a", 0, 0, "2020-01-01T00:00:00Z")]) as server:
        server.cuts = 2
        assert len(search(open_catalog(server.url), query(), from_bbox(0, 0, 1, 1), "2020")) == 1
        server.cuts = 9
        with pytest.raises(TransientError, match="no answer"):
            search(open_catalog(server.url), query(), from_bbox(0, 0, 1, 1), "2020")
        assert server.cuts == 6


def test_compressed_answers(stac_server: Serve) -> None:
    with stac_server([make("a", 0, 0, "2020-01-01T00:00:00Z")]) as server:
        server.trick = "gzip"
        assert len(search(open_catalog(server.url), query(), from_bbox(0, 0, 1, 1), "2020")) == 1


@pytest.mark.parametrize(
    ("faults", "kind", "message"),
    [
        ([400], InputError, "your word was wrong"),
        ([403, 403], DataError, "access refused"),  # by POST, then by GET
        ([404, 404], InputError, "not found"),
    ],
)
def test_refusals_are_not_repeated(stac_server: Serve, faults: list[int], kind: type[Exception], message: str) -> None:
    with stac_server([make("a", 0, 0, "2020-01-01T00:00:00Z")]) as server:
        server.faults = list(faults)
        with pytest.raises(kind, match=message):
            search(open_catalog(server.url), query(), from_bbox(0, 0, 1, 1), "2020")
        assert server.faults == []


def test_repeated_pages_end(stac_server: Serve) -> None:
    made = [make(f"i{n}", 0, 0, f"2020-01-0{n + 1}T00:00:00Z") for n in range(4)]
    with stac_server(made) as server:
        server.trick = "repeat"
        items = search(open_catalog(server.url), query(), from_bbox(0, 0, 1, 1), "2020")
        assert len(items) == 2
        assert len(server.searches) == 2
        server.matched = True
        with pytest.raises(DataError, match="repeats page 2: 2 of 4"):
            search(open_catalog(server.url), query(), from_bbox(0, 0, 1, 1), "2020")


def test_a_next_page_on_another_host_is_not_followed(stac_server: Serve) -> None:
    with stac_server([make(f"i{n}", 0, 0, "2020-01-01T00:00:00Z") for n in range(4)]) as server:
        server.trick = "elsewhere"
        with pytest.raises(DataError, match=r"another host: http://127\.0\.0\.2:9"):
            search(open_catalog(server.url), query(), from_bbox(0, 0, 1, 1), "2020")


def test_a_redirect_to_another_host_is_not_followed(stac_server: Serve) -> None:
    with stac_server([make("a", 0, 0, "2020-01-01T00:00:00Z")]) as server:
        server.headers = {"Location": "http://127.0.0.2:9/secret?token=S3CRET"}
        server.faults = [307]
        with pytest.raises(DataError, match="another host") as caught:
            search(open_catalog(server.url), query(), from_bbox(0, 0, 1, 1), "2020")
        assert "S3CRET" not in str(caught.value)
        server.headers = {"Location": "/search"}
        server.faults = [307, 307]
        assert len(search(open_catalog(server.url), query(), from_bbox(0, 0, 1, 1), "2020")) == 1
        server.faults = [307] * 20
        with pytest.raises(DataError, match="redirects"):
            search(open_catalog(server.url), query(), from_bbox(0, 0, 1, 1), "2020")


@pytest.mark.parametrize("trick", ["not json", "nan", "deep"])
def test_what_is_no_json_is_quoted(stac_server: Serve, trick: str) -> None:
    with stac_server([]) as server:
        server.trick = trick
        with pytest.raises(DataError, match="not JSON"):
            search(open_catalog(server.url), query(), from_bbox(0, 0, 1, 1), "2020")


def test_a_body_without_end_is_cut(stac_server: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stac_http, "MAX_BODY", 2**20)
    with stac_server([make("a", 0, 0, "2020-01-01T00:00:00Z")]) as server:
        server.items[0]["properties"]["long"] = "x" * 2**21
        with pytest.raises(DataError, match="more than 1 MiB"):
            search(open_catalog(server.url), query(), from_bbox(0, 0, 1, 1), "2020")


def test_the_same_item_twice_is_one_and_two_items_of_one_id_are_refused(stac_server: Serve) -> None:
    one, two = make("a", 0, 0, "2020-01-01T00:00:00Z"), make("b", 0, 0, "2020-01-01T00:00:00Z")
    with stac_server([one, two, copy.deepcopy(one)]) as server:
        server.page = 3
        assert [i.id for i in search(open_catalog(server.url), query(), from_bbox(0, 0, 1, 1), "2020")] == ["a", "b"]
        server.items[2]["assets"]["red"]["href"] = "https://data.example/other.tif"
        with pytest.raises(DataError, match="item a: appears twice"):
            search(open_catalog(server.url), query(), from_bbox(0, 0, 1, 1), "2020")


# ---- nothing found, and asked wrongly


def test_nothing_found_says_what_was_asked_and_what_there_is(everywhere: dict[str, Catalog]) -> None:
    for kind, catalog in everywhere.items():
        for bbox, when in [((50, 10, 51, 11), "2020"), ((0, 0, 6, 6), "1999")]:
            with pytest.raises(NothingFound) as caught:
                search(catalog, query(filter="platform = 'a'"), from_bbox(*bbox), when)
            said = str(caught.value)
            assert f"collection s2, bbox {' '.join(map(str, bbox))}, datetime {when}, filter platform = 'a'" in said
            assert "holds" in said
            assert ("bbox -60 -30 60 30" if kind == "api" else "items in bbox 0.") in said


def test_one_item_is_no_items(items: list[dict[str, Any]], tmp_path: Path) -> None:
    one = next(i for i in items if i["collection"] == "s2")
    write_items([pystac.Item.from_dict(copy.deepcopy(one))], tmp_path / "one.parquet")
    with pytest.raises(NothingFound, match=r"holds 1 item in bbox"):
        search(open_catalog(str(tmp_path / "one.parquet")), query(), from_bbox(50, 10, 51, 11), "2020")


def test_a_misspelt_collection_gets_the_nearest_name(everywhere: dict[str, Catalog]) -> None:
    for catalog in everywhere.values():
        with pytest.raises(InputError, match="collection: 'othr' is not known; did you mean 'other'"):
            search(catalog, query(collection="othr"), from_bbox(0, 0, 6, 6), "2020")


def test_a_collection_must_be_named_where_there_are_several(everywhere: dict[str, Catalog]) -> None:
    for catalog in everywhere.values():
        with pytest.raises(InputError, match=r"collection: not given.*other, s2"):
            search(catalog, query(collection=None), from_bbox(0, 0, 6, 6), "2018/..")


def test_the_only_collection_needs_no_name(stac_server: Serve, tmp_path: Path) -> None:
    made = [make("a", 0, 0, "2020-01-01T00:00:00Z")]
    with stac_server(made) as server:
        assert len(search(open_catalog(server.url), query(collection=None), from_bbox(0, 0, 1, 1), "2020")) == 1
    write_items([pystac.Item.from_dict(made[0])], tmp_path / "i.parquet")
    local = open_catalog(str(tmp_path / "i.parquet"))
    assert len(search(local, query(collection=None), from_bbox(0, 0, 1, 1), "2020")) == 1


@pytest.mark.parametrize("text", ["eo:cloud_cover <", "((", "a = 'b' AND"])
def test_a_filter_that_is_no_cql2(everywhere: dict[str, Catalog], text: str) -> None:
    with pytest.raises(InputError, match=r"filter: .* is not CQL2 text"):
        search(everywhere["static"], query(filter=text), from_bbox(0, 0, 6, 6), "2020")


def test_something_that_is_no_stac_api(stac_server: Serve) -> None:
    with stac_server([]) as server:
        server.root = lambda: {"hello": "world"}  # type: ignore[method-assign]
        with pytest.raises(InputError, match="not a STAC API"):
            search(open_catalog(server.url), query(), from_bbox(0, 0, 1, 1), "2020")


# ---- local catalogs


def write(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")


def test_a_static_catalog_with_relative_assets(tmp_path: Path) -> None:
    item = make("a", 0, 0, "2020-01-01T00:00:00Z")
    del item["collection"]
    item["assets"] = {
        "red": {"href": "./data/a.tif"},
        "up": {"href": "../shared/b.tif"},
        "bad": {"href": "/vsizip/x.zip"},
        "url": {"href": "https://data.example/c.tif"},
    }
    item["links"] = [{"rel": "self", "href": "https://published.example/items/a/a.json"}]
    write(tmp_path / "items" / "a" / "a.json", item)
    links = [{"rel": "item", "href": "./items/a/a.json"}, {"rel": "item", "href": "./items/a/a.json"}]
    links += [{"rel": "child", "href": "./collection.json"}, {"rel": "root", "href": "./collection.json"}]
    write(tmp_path / "collection.json", {"type": "Collection", "id": "mine", "links": links})
    catalog = open_catalog(str(tmp_path))
    assert (catalog.kind, catalog.remote, catalog.root) == ("static", False, tmp_path)
    (found,) = search(catalog, query(collection="mine"), from_bbox(0, 0, 1, 1), "2020")
    hrefs = {k: a.get_absolute_href() for k, a in found.assets.items()}
    assert Path(str(hrefs["red"])) == tmp_path / "items" / "a" / "data" / "a.tif"
    assert Path(str(hrefs["up"])).resolve() == tmp_path / "items" / "shared" / "b.tif"
    assert (hrefs["bad"], hrefs["url"]) == ("/vsizip/x.zip", "https://data.example/c.tif")


def test_a_static_catalog_on_a_web_server(tmp_path: Path) -> None:
    item = make("a", 0, 0, "2020-01-01T00:00:00Z") | {"assets": {"red": {"href": "./a.tif"}, "x": {"href": "/etc/x"}}}
    write(tmp_path / "i" / "a.json", item)
    links = [{"rel": "item", "href": "i/a.json"}]
    write(tmp_path / "catalog.json", {"type": "Catalog", "id": "c", "links": links})
    write(tmp_path / "astray.json", {"type": "Catalog", "links": [{"rel": "child", "href": "file:///etc/passwd"}]})
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with serving(ThreadingHTTPServer(("127.0.0.1", 0), handler)) as server:
        url = f"http://127.0.0.1:{server.server_port}"
        catalog = open_catalog(f"{url}/catalog.json")
        assert (catalog.kind, catalog.remote, catalog.root) == ("static", True, None)
        (found,) = search(catalog, query(), from_bbox(0, 0, 1, 1), "2020")
        assert {k: a.href for k, a in found.assets.items()} == {"red": f"{url}/i/a.tif", "x": f"{url}/etc/x"}
        with pytest.raises(DataError, match="expected https"):
            search(open_catalog(f"{url}/astray.json"), query(), from_bbox(0, 0, 1, 1), "2020")
        with pytest.raises(InputError, match="not found"):
            search(open_catalog(f"{url}/missing.json"), query(), from_bbox(0, 0, 1, 1), "2020")


def test_one_item_or_a_feature_collection_is_a_catalog_too(tmp_path: Path) -> None:
    made = [make(n, 0, 0, "2020-01-01T00:00:00Z") for n in "ab"]
    write(tmp_path / "one.json", made[0])
    write(tmp_path / "two.json", {"type": "FeatureCollection", "features": made})
    for name, expected in [("one.json", ["a"]), ("two.json", ["a", "b"])]:
        items = search(open_catalog(str(tmp_path / name)), query(), from_bbox(0, 0, 1, 1), "2020")
        assert [i.id for i in items] == expected


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ('{"type": "Feature", "id":', "not JSON"),
        ("[]", "expected a JSON object"),
        ({"type": "Table"}, "no STAC object"),
        ({"geometry": None, "bbox": None}, "item a: no geometry"),
        ({"geometry": {"type": "Polygon", "coordinates": "x"}}, "item a: geometry"),
        (
            {"geometry": {"type": "Polygon", "coordinates": [[[5e5, 7e6], [6e5, 7e6], [6e5, 8e6], [5e5, 7e6]]]}},
            "item a",
        ),
        ({"properties": {"datetime": "yesterday"}}, "item a: datetime 'yesterday'"),
        ({"properties": {"datetime": None}}, "item a: datetime"),
        ({"assets": {"red": {}}}, "item 'a': not a STAC item"),
    ],
)
def test_broken_items_are_named(tmp_path: Path, item: Any, message: str) -> None:
    broken = make("a", 0, 0, "2020-01-01T00:00:00Z") | item if isinstance(item, dict) else item
    write(tmp_path / "a.json", broken)
    write(tmp_path / "catalog.json", {"type": "Catalog", "id": "c", "links": [{"rel": "item", "href": "a.json"}]})
    with pytest.raises(DataError, match=message):
        search(open_catalog(str(tmp_path / "catalog.json")), query(), from_bbox(0, 0, 1, 1), "2020")


def test_links_that_lead_astray(tmp_path: Path, stac_server: Serve) -> None:
    def asked(href: str) -> None:
        write(tmp_path / "c" / "catalog.json", {"type": "Catalog", "links": [{"rel": "child", "href": href}]})
        search(open_catalog(str(tmp_path / "c" / "catalog.json")), query(), from_bbox(0, 0, 1, 1), "2020")

    write(tmp_path / "secret.json", make("a", 0, 0, "2020-01-01T00:00:00Z"))
    with pytest.raises(InputError, match="outside"):
        asked("../secret.json")
    with pytest.raises(DataError, match="cannot be read"):
        asked("missing.json")
    with pytest.raises(DataError, match="private host"), stac_server([]) as server:
        asked(f"{server.url}/collections/s2")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("earth-serch", "did you mean 'earth-search'"),
        ("missing/catalog.json", "not a file"),
        ("missing.parquet", "not a file"),
        ("ftp://data.example/catalog.json", "expected a name"),
        ("https:///catalog.json", "expected a name"),
    ],
)
def test_unknown_catalogs(text: str, message: str) -> None:
    with pytest.raises(InputError, match=f"catalog: .*{message}"):
        open_catalog(text)


def test_files_that_are_no_catalog(tmp_path: Path) -> None:
    write(tmp_path / "a.tif", "x")
    write(tmp_path / "a.parquet", "x")
    with pytest.raises(InputError, match=r"expected catalog\.json"):
        open_catalog(str(tmp_path / "a.tif"))
    with pytest.raises(InputError, match="not a parquet file"):
        open_catalog(str(tmp_path / "a.parquet"))


def test_a_known_url_gets_the_rules_of_its_yaml() -> None:
    by_url = open_catalog("https://earth-search.aws.element84.com/v1/")
    assert by_url == open_catalog("earth-search")
    assert by_url.profile("sentinel-2-l2a").mask is not None
    assert by_url.profile("something else").bands == {}
    other = open_catalog("https://stac.example/catalog.json?token=S3CRET")
    assert (other.kind, other.remote, other.profiles) == ("static", True, {})
    assert "S3CRET" not in other.name


def test_a_yaml_with_a_mistake_names_the_field(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEOML_CATALOGS", str(tmp_path))
    settings.cache_clear()
    write(tmp_path / "mine.yaml", "url: https://stac.example\nkind: api\ncollections: {c: {anchor: 0.3, bnds: {}}}\n")
    with pytest.raises(InputError, match=r"collections\.c\.anchor.*collections\.c\.bnds"):
        open_catalog("mine")
    write(tmp_path / "mine.yaml", "url: data/collection.json\nkind: static\n")
    opened = open_catalog("mine")
    assert (opened.url, opened.root, opened.remote) == (
        str(tmp_path / "data" / "collection.json"),
        tmp_path / "data",
        False,
    )


# ---- stac-geoparquet


def test_items_survive_the_table(tmp_path: Path, items: list[dict[str, Any]]) -> None:
    items[0]["assets"]["red"]["raster:bands"] = [{"nodata": "nan", "scale": 0.1}]
    items[1]["assets"]["red"]["raster:bands"] = [{"nodata": 0, "scale": 1}]
    items[2]["assets"]["green"] = {"href": "https://data.example/g.tif?sig=S3CRET"}
    items[3]["properties"] |= {"mixed": {"a": 1}, "empty": {}, "flag": True}
    items[4]["properties"] |= {"mixed": "text", "proj:shape": [1, 2]}
    items[5]["links"] = [{"rel": "derived_from", "href": "https://me:S3CRET@data.example/x.json?sig=S3CRET"}]
    given = [pystac.Item.from_dict(copy.deepcopy(i)) for i in items]
    write_items(given, tmp_path / "a" / "items.parquet")
    assert b"S3CRET" not in (tmp_path / "a" / "items.parquet").read_bytes()
    found = read_items(tmp_path / "a" / "items.parquet")
    assert [i.id for i in found] == [i["id"] for i in items]
    for item, before in zip(found, items, strict=True):
        assert item.geometry == json.loads(json.dumps(before["geometry"]))
        assert item.datetime == datetime.fromisoformat(before["properties"]["datetime"])
        assert set(item.assets) == set(before["assets"])
        assert item.properties.get("eo:cloud_cover") == before["properties"].get("eo:cloud_cover")
    assert found[0].assets["red"].extra_fields["raster:bands"] == [{"nodata": "nan", "scale": 0.1}]
    assert found[1].assets["red"].extra_fields["raster:bands"] == [{"nodata": 0, "scale": 1}]
    assert found[2].assets["green"].href == "https://data.example/g.tif"
    assert (found[3].properties["mixed"], found[4].properties["mixed"]) == ({"a": 1}, "text")
    assert given[2].assets["green"].href.endswith("S3CRET")  # the caller's items are as they were
    first = (tmp_path / "a" / "items.parquet").read_bytes()
    write_items(given, tmp_path / "a" / "items.parquet")
    assert (tmp_path / "a" / "items.parquet").read_bytes() == first


def test_no_items_are_a_table_too(tmp_path: Path) -> None:
    write_items([], tmp_path / "none.parquet")
    assert read_items(tmp_path / "none.parquet") == []
    with pytest.raises(NothingFound, match="is empty"):
        search(open_catalog(str(tmp_path / "none.parquet")), query(), from_bbox(0, 0, 1, 1), "2020")


def test_a_table_remembers_the_catalog_and_can_be_searched_again(tmp_path: Path) -> None:
    origin = open_catalog("earth-search")
    item = pystac.Item.from_dict(make("a", 0, 0, "2020-01-01T00:00:00Z", collection="sentinel-2-l2a"))
    write_items([item], tmp_path / "sources.parquet", catalog=origin)
    again = open_catalog(str(tmp_path / "sources.parquet"))
    assert again.profile("sentinel-2-l2a") == origin.profile("sentinel-2-l2a")
    assert (again.remote, again.root, again.origin) == (False, tmp_path, "earth-search")
    write_items([item], tmp_path / "copy.parquet", catalog=again)
    assert open_catalog(str(tmp_path / "copy.parquet")).profiles == origin.profiles
    items = search(again, query(collection=None), from_bbox(0, 0, 1, 1), "2020")
    assert [i.to_dict()["assets"] for i in items] == [item.to_dict()["assets"]]


def test_tables_that_are_none(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", "PAR1 no")
    with pytest.raises(DataError, match="not a stac-geoparquet file"):
        read_items(tmp_path / "a.parquet")
    with pytest.raises(DataError, match="not a stac-geoparquet file"):
        read_items(tmp_path / "missing.parquet")


# ---- datetime


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[misc, arg-type]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2020", (utc(2020, 1, 1), utc(2020, 12, 31, 23, 59, 59, 999999))),
        ("2020-02", (utc(2020, 2, 1), utc(2020, 2, 29, 23, 59, 59, 999999))),
        ("2020-05-18", (utc(2020, 5, 18), utc(2020, 5, 18, 23, 59, 59, 999999))),
        ("2020-05-18T13:30:00Z", (utc(2020, 5, 18, 13, 30), utc(2020, 5, 18, 13, 30))),
        ("2020-05-18t13:30:00.5z", (utc(2020, 5, 18, 13, 30, 0, 500000), utc(2020, 5, 18, 13, 30, 0, 500000))),
        ("2020-05-18T13:30:00-03:00", (utc(2020, 5, 18, 16, 30), utc(2020, 5, 18, 16, 30))),
        ("2020-05/2020-06", (utc(2020, 5, 1), utc(2020, 6, 30, 23, 59, 59, 999999))),
        ("../2020-05-18T00:00:00Z", (None, utc(2020, 5, 18))),
        ("2020-05-18T00:00:00Z/..", (utc(2020, 5, 18), None)),
        ("2020/", (utc(2020, 1, 1), None)),
        ("../..", (None, None)),
    ],
)
def test_datetimes(text: str, expected: tuple[datetime | None, datetime | None]) -> None:
    assert parse_datetime(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/",
        "..",
        "yesterday",
        "2020-13",
        "2020-02-30",
        "20",
        "0000",
        "2020-05-18T13:30:00",
        "2020-05-18 13:30:00Z",
        "2020-05-18T25:00:00Z",
        "2020-05-18T13:30Z",
        "2021/2020",
        "2020/2021/2022",
        "2020-W05",
        "2020-05-18T13:30:00Z/2020-05-17",
    ],
)
def test_no_datetimes(text: str) -> None:
    with pytest.raises(InputError, match="datetime"):
        parse_datetime(text)
