"""Whose keys, files and tokens an item may ask for follows from where its document was read."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pystac
import pytest
from shapely.geometry import box, mapping

from geoml import testing
from geoml.errors import DataError, GeomlError, InputError, TransientError
from geoml.grid.region import from_bbox
from geoml.io.cog.source import using
from geoml.io.stac import bands
from geoml.io.stac.bands import BandSpec
from geoml.io.stac.catalog import Catalog, open_catalog
from geoml.io.stac.left_out import LeftOut
from geoml.io.stac.search import read_items, search, write_items
from geoml.io.stac.usable import checked
from geoml.io.stores import ranges
from geoml.io.stores.bucket import bucket_of, public_url
from geoml.recipe import Query
from tests.integration import fault_server
from tests.serving import serving

SCENE = testing.Scene(id="scene", data=testing.smooth((1, 128, 128), seed=5), bands=("red",))
KEYS = {"AWS_ACCESS_KEY_ID": "AKIAMADE", "AWS_SECRET_ACCESS_KEY": "made", "AWS_REGION": "us-east-1"}


class _Proxy(BaseHTTPRequestHandler):
    """Notes where https is to go, and takes nobody there."""

    asked: list[tuple[str, dict[str, str]]]

    def do_CONNECT(self) -> None:
        self.asked.append((self.path, {k.lower(): v for k, v in self.headers.items()}))
        self.send_response(403)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def asked_outside(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, dict[str, str]]]]:
    """Who was asked for on the open internet."""
    handler = type("Proxy", (_Proxy,), {"asked": []})
    with serving(ThreadingHTTPServer(("127.0.0.1", 0), handler)) as server:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        yield handler.asked


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, machine: Callable[..., None]) -> Iterator[Any]:
    """The user's own S3 endpoint: every bucket holds ``a.tif``."""
    machine(retries=0, timeout=5, catalogs=tmp_path, scratch=tmp_path / "scratch")
    testing.write_catalog(tmp_path / "made", [SCENE])
    content = (tmp_path / "made/scene/image.tif").read_bytes()
    with fault_server.serve(files={f"/{b}/a.tif": content for b in ("listed", "own", "other")}) as server:
        for name, value in {**KEYS, "AWS_ENDPOINT_URL": server.url, "AWS_ALLOW_HTTP": "true"}.items():
            monkeypatch.setenv(name, value)
        ranges._bucket.cache_clear()
        yield server
    ranges._bucket.cache_clear()


def item(name: str, *hrefs: str, **changes: Any) -> dict[str, Any]:
    assets = {f"band{k}": {"href": h, "type": "image/tiff", "roles": ["data"]} for k, h in enumerate(hrefs)}
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": name,
        "geometry": mapping(box(*SCENE.bbox())),
        "bbox": list(SCENE.bbox()),
        "properties": {"datetime": "2024-06-01T00:00:00Z"},
        "links": [],
        "assets": assets,
        **changes,
    }


def catalog(*links: tuple[str, str]) -> bytes:
    value = {"type": "Catalog", "stac_version": "1.0.0", "id": "c", "description": "made"}
    return json.dumps(value | {"links": [{"rel": rel, "href": href} for rel, href in links]}).encode()


def found(catalog: Catalog) -> list[Any]:
    query = Query(catalog="any", bbox=SCENE.bbox(), datetime=("2024",))
    return search(catalog, query, from_bbox(*SCENE.bbox()), "2024")


def specs(catalog: Catalog, items: list[Any] | None = None) -> dict[str, BandSpec]:
    made: dict[str, BandSpec] = {}
    for one in found(catalog) if items is None else items:
        made |= {f"{one.id} {k}": v for k, v in bands.band_specs(one, catalog.profile(None), catalog).items()}
    return made


def read(spec: BandSpec) -> tuple[int, int]:
    return using(spec, lambda dataset: dataset.shape)


def put(folder: Path, name: str, url: str, **more: Any) -> Catalog:
    """A catalog of the folder of YAMLs."""
    (folder / f"{name}.yaml").write_text(json.dumps({"url": url, "kind": "static", **more}))
    return open_catalog(name)


# ---- keys


def test_a_remote_catalog_spends_keys_on_its_listed_buckets_alone(
    store: Any, tmp_path: Path, asked_outside: list[tuple[str, dict[str, str]]]
) -> None:
    with fault_server.serve() as web:
        web.files["/catalog.json"] = web.files["/bare.json"] = catalog(("item", "./i.json"))
        value = item("i", "s3://listed/a.tif", "s3://other/a.tif", "gs://other/a b.tif")
        web.files["/i.json"] = json.dumps(value).encode()
        made = specs(put(tmp_path, "far", f"{web.url}/catalog.json", signed_buckets=["S3://listed/"]))
        listed, other, google = (made[f"i band{k}"] for k in range(3))
        assert [s.keys for s in (listed, other, google)] == [True, False, False]
        assert read(listed) == (128, 128)
        assert all("AKIAMADE" in seen.headers["authorization"] for seen in store.seen)
        known = len(store.seen)
        for spec, host in ((other, "other.s3.amazonaws.com:443"), (google, "storage.googleapis.com:443")):
            with pytest.raises(TransientError, match="no answer"):
                read(spec)
            assert asked_outside[-1][0] == host
            assert "authorization" not in asked_outside[-1][1]
        assert len(store.seen) == known, "the user's endpoint hears of no other bucket"
        assert not any(s.keys for s in specs(open_catalog(f"{web.url}/bare.json")).values()), "no YAML, no keys"


def test_what_was_read_with_keys_is_not_given_to_who_has_none(
    store: Any, asked_outside: list[tuple[str, dict[str, str]]]
) -> None:
    href = "s3://own/a.tif"
    assert read(BandSpec("i", "a", href, "red", keys=True)) == (128, 128)
    with pytest.raises(TransientError, match="no answer"):
        read(BandSpec("i", "a", href, "red", keys=False))
    assert len(asked_outside) == 1


def test_a_catalog_in_a_bucket_is_read_with_keys_and_so_are_objects_beside_it(store: Any) -> None:
    store.files["/own/c/catalog.json"] = catalog(("item", "i.json"), ("item", "s3://other/i.json"))
    value = item("i", "../a.tif", "s3://other/a.tif", links=[{"rel": "self", "href": "s3://other/i.json"}])
    store.files["/own/c/i.json"] = store.files["/other/i.json"] = json.dumps(value).encode()
    made = specs(open_catalog("s3://own/c/catalog.json"))
    assert {k: (s.href, s.keys) for k, s in made.items()} == {
        "i band0": ("s3://own/a.tif", True),
        "i band1": ("s3://other/a.tif", False),
    }, "an item in one bucket cannot say that it lies in another"
    assert "/other/i.json" not in [s.path for s in store.seen]


def test_a_local_catalog_spends_the_users_keys(store: Any, tmp_path: Path) -> None:
    (tmp_path / "c.json").write_bytes(catalog(("item", "i.json")))
    (tmp_path / "i.json").write_text(json.dumps(item("i", "s3://other/a.tif")))
    (spec,) = specs(open_catalog(str(tmp_path / "c.json"))).values()
    assert (spec.keys, spec.remote, read(spec)) == (True, False, (128, 128))


def test_items_of_a_run_stay_where_they_were_found(store: Any, tmp_path: Path) -> None:
    """The list of a run's sources is a local file; as a catalog it gives the items of a remote one no keys."""
    with fault_server.serve() as web:
        web.files["/catalog.json"] = catalog(("item", "./i.json"))
        web.files["/i.json"] = json.dumps(item("i", "s3://other/a.tif")).encode()
        there = open_catalog(f"{web.url}/catalog.json")
        write_items(found(there), tmp_path / "sources.parquet", catalog=there)
    again = open_catalog(str(tmp_path / "sources.parquet"))
    for made in (specs(there, read_items(tmp_path / "sources.parquet")), specs(again)):
        assert [(s.keys, s.remote) for s in made.values()] == [(False, True)]
    (tmp_path / "c.json").write_bytes(catalog(("item", "i.json")))
    (tmp_path / "i.json").write_text(json.dumps(item("i", "s3://other/a.tif")))
    here = open_catalog(str(tmp_path / "c.json"))
    write_items(found(here), tmp_path / "mine.parquet", catalog=here)
    assert [s.keys for s in specs(open_catalog(str(tmp_path / "mine.parquet"))).values()] == [True]


@pytest.mark.parametrize("bucket", ["b", "https://b", "s3://", "s3://b/key", "s3://b?x", "s3://u@b", "ftp://b", 7])
def test_signed_buckets_that_are_none(tmp_path: Path, machine: Callable[..., None], bucket: Any) -> None:
    machine(catalogs=tmp_path)
    with pytest.raises(InputError, match="signed_buckets"):
        put(tmp_path, "far", "https://h.example/catalog.json", signed_buckets=[bucket])


def test_public_places_of_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**KEYS, "AWS_ENDPOINT_URL": "http://10.0.0.1", "AWS_REGION": "eu-central-1"}.items():
        monkeypatch.setenv(name, value)
    assert public_url("s3://b-1/k/a b+c%20.tif") == "https://b-1.s3.amazonaws.com/k/a%20b%2Bc%2520.tif"
    assert public_url("S3://B.x/k") == "https://s3.eu-central-1.amazonaws.com/B.x/k"
    monkeypatch.setenv("AWS_REGION", "evil.example/")
    assert public_url("s3://b.x/k") == "https://s3.us-east-1.amazonaws.com/b.x/k"
    assert public_url("gs://b/ö") == "https://storage.googleapis.com/b/%C3%B6"
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT", raising=False)
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME", raising=False)
    with pytest.raises(InputError, match="names no account"):
        public_url("az://c/k")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "made1")
    assert public_url("az://c/k") == "https://made1.blob.core.windows.net/c/k"
    assert (bucket_of("S3://b/k"), bucket_of("https://b/k"), bucket_of("s3://")) == ("s3://b", "", "")


def test_an_object_without_a_public_place_leaves_its_item_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT", raising=False)
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME", raising=False)
    far = Catalog("far", "https://h.example/catalog.json", "static", remote=True)
    left = LeftOut()
    one = pystac.Item.from_dict(item("i", "az://c/a.tif"))
    assert checked([one], ["band0"], far.profile(None), far, left) == []
    assert "names no account" in left.items["i"]


# ---- documents elsewhere that a local catalog links to


@pytest.fixture
def linked(tmp_path: Path, machine: Callable[..., None]) -> Iterator[Callable[..., Catalog]]:
    """``linked(rel, path, {path: content}, **yaml)``: a local catalog that links to a document on a server."""
    machine(private_hosts=True, retries=0, timeout=5, catalogs=tmp_path)
    testing.write_catalog(tmp_path / "made", [SCENE])
    with fault_server.serve() as web:

        def run(rel: str, path: str, files: dict[str, bytes], **yaml: Any) -> Catalog:
            web.files |= files
            (tmp_path / "made/catalog.json").write_bytes(catalog((rel, f"{web.url}{path}")))
            return put(tmp_path, "near", "made/catalog.json", **yaml)

        run.server = web  # type: ignore[attr-defined]
        yield run


def test_an_item_elsewhere_names_no_file_no_key_and_no_token(linked: Callable[..., Catalog], tmp_path: Path) -> None:
    inside = tmp_path / "made/scene/image.tif"
    hrefs = ("a.tif", str(inside), inside.as_uri(), f"file:{inside}", "scene/image.tif", "C:/x.tif", "s3://other/a.tif")
    own = {"rel": "self", "href": (tmp_path / "made/i.json").as_uri()}
    value = json.dumps(item("i", *hrefs, links=[own])).encode()
    profile = {"sign": "https://sign.example/token"}
    home = linked("item", "/d/i.json", {"/d/i.json": value}, collections={"made": profile})
    items = found(home)
    for one in items:
        one.collection_id = "made"
    write_items(items, tmp_path / "sources.parquet", catalog=home)
    for kept in (items, read_items(tmp_path / "sources.parquet")):
        made = bands.band_specs(kept[0], home.profile("made"), home)
        assert {(s.remote, s.keys, s.sign) for k, s in made.items() if k != "band6"} == {(True, True, None)}
        assert not made["band6"].keys
        server = linked.server.url  # type: ignore[attr-defined]
        assert made["band0"].href == f"{server}/d/a.tif", "as seen from its own place"
        for spec in made.values():
            with pytest.raises(GeomlError):
                read(spec)


def test_a_file_of_the_catalog_itself_is_still_read(linked: Callable[..., Catalog], tmp_path: Path) -> None:
    home = linked("item", "/i.json", {"/i.json": json.dumps(item("far", "a.tif")).encode()})
    (tmp_path / "made/near.json").write_text(json.dumps(item("near", "scene/image.tif")))
    both = json.loads((tmp_path / "made/catalog.json").read_text())
    both["links"].append({"rel": "item", "href": "near.json"})
    (tmp_path / "made/catalog.json").write_text(json.dumps(both))
    made = specs(home)
    assert {k: s.remote for k, s in made.items()} == {"far band0": True, "near band0": False}
    assert read(made["near band0"]) == (128, 128)


@pytest.mark.parametrize(
    "href", ["FILE", "URI", "file:FILE", "C:x.json", "http://127.0.0.1:1/i.json", "s3://own/i.json", "HTTP://127.0.0.2/i.json",
             "http://["]
)  # fmt: skip
@pytest.mark.parametrize("rel", ["item", "child"])
def test_a_catalog_elsewhere_leads_to_its_own_place_alone(
    linked: Callable[..., Catalog], tmp_path: Path, rel: str, href: str
) -> None:
    path = tmp_path / "made/collection.json"
    href = href.replace("FILE", str(path)).replace("URI", path.as_uri())
    links = catalog((rel, href), ("item", "./good.json"))
    good = json.dumps(item("good", "a.tif")).encode()
    home = linked("child", "/c/catalog.json", {"/c/catalog.json": links, "/c/good.json": good})
    if rel == "item":
        assert [i.id for i in found(home)] == ["good"]
    else:
        with pytest.raises((DataError, InputError)):
            found(home)


def test_the_capitals_of_a_scheme_change_nothing(store: Any, tmp_path: Path) -> None:
    (tmp_path / "c.json").write_bytes(catalog(("item", "i.json")))
    (tmp_path / "i.json").write_text(json.dumps(item("i", "S3://other/a.tif")))
    (spec,) = specs(open_catalog(str(tmp_path / "c.json"))).values()
    assert read(spec) == (128, 128)
