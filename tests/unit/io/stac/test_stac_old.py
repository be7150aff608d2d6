"""Old, bare and Windows-made static catalogs, as pystac and STAC Browser read them."""

from __future__ import annotations

import copy
import json
import logging
from pathlib import Path
from typing import Any

import pystac
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geoml.errors import DataError, InputError
from geoml.grid.region import from_bbox
from geoml.io.stac.assets import DATA_TYPES, data_type, why_not_raster
from geoml.io.stac.bands import band_specs, select
from geoml.io.stac.catalog import BandMeta, Catalog, Profile, open_catalog
from geoml.io.stac.item_assets import fill
from geoml.io.stac.search import LeftOut, search
from geoml.io.stac.walk import kind_of, resolve_href
from geoml.io.tables.regions import load_region
from geoml.recipe import Query

PLACE = {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]]]}
BARE = {"id": "a", "geometry": PLACE, "properties": {"datetime": "2020-01-01T00:00:00Z"}}
BOM = b"\xef\xbb\xbf"


def write(path: Path, value: Any, head: bytes = b"") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(head + (value if isinstance(value, str) else json.dumps(value)).encode())


def find(path: Path, left: LeftOut | None = None, **more: Any) -> list[pystac.Item]:
    query = Query(catalog=str(path), bbox=(0, 0, 1, 1), datetime=("2020",), **more)
    return search(open_catalog(str(path)), query, from_bbox(0, 0, 1, 1), "2020", left)


def catalog(folder: Path, *hrefs: str, rel: str = "item", **more: Any) -> Path:
    links = [{"rel": rel, "href": h} for h in hrefs]
    write(
        folder / "catalog.json", {"id": "c", "description": "d", "stac_version": "0.9.0", "links": links, **more}, BOM
    )
    return folder / "catalog.json"


def test_a_catalog_of_before_there_were_types(tmp_path: Path) -> None:
    """Windows wrote it: byte order marks, backslashes; STAC 0.9 has no types for catalogs."""
    about = {"id": "old", "stac_version": "0.9.0", "description": "d", "license": "x", "extent": {}, "links": []}
    about["links"] = [{"rel": "item", "href": ".\\items\\a.json"}]  # type: ignore[assignment]
    write(tmp_path / "sub" / "collection.json", about, BOM)
    item = {**BARE, "type": "Feature", "stac_version": "0.9.0", "assets": {"red": {"href": "..\\data\\a.tif"}}}
    write(tmp_path / "sub" / "items" / "a.json", item, BOM)
    (found,) = find(catalog(tmp_path, ".\\sub\\collection.json", rel="child"))
    assert (found.id, found.collection_id) == ("a", "old")
    assert Path(found.assets["red"].href).resolve() == tmp_path / "sub" / "data" / "a.tif"


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ({"type": "Feature"}, "Feature"),
        ({"type": "feature"}, "Feature"),
        ({"type": "Catalog"}, "Catalog"),
        (BARE, "Feature"),
        ({"features": []}, "FeatureCollection"),
        ({"id": "c", "links": [], "extent": {}}, "Collection"),
        ({"id": "c", "links": []}, "Catalog"),
        ({"stac_version": "0.6.0", "links": []}, "Catalog"),
    ],
)
def test_what_a_document_is(value: dict[str, Any], kind: str) -> None:
    assert kind_of(value, "x") == kind


@pytest.mark.parametrize("value", [{}, {"type": "Table"}, {"type": 5, "links": []}, {"links": []}, {"id": "x"}])
def test_what_is_none(value: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="no STAC object"):
        kind_of(value, "x")


@pytest.mark.parametrize(
    ("home", "href", "there"),
    [
        ("/a/b/c.json", ".\\d\\e.json", "/a/b/d/e.json"),
        ("/a/b/c.json", "..\\e.json", "/a/b/../e.json"),
        ("https://h.example/a/c.json", ".\\d\\e.json", "https://h.example/a/d/e.json"),
        ("s3://bucket/a/c.json", "d\\e.tif", "s3://bucket/a/d/e.tif"),
        ("https://h.example/a/c.json", "\\\\evil.example\\x.tif", "https://h.example/a/\\\\evil.example\\x.tif"),
        ("/a/b/c.json", "C:\\x.tif", "C:\\x.tif"),
        ("https://h.example/a/c.json", "http://[", "http://["),
    ],
)
def test_backslashes_in_relative_links(home: str, href: str, there: str) -> None:
    assert resolve_href(home, href) == there


def test_an_item_that_cannot_be_read_is_left_out_and_a_catalog_that_cannot_is_an_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path / "a.json", BARE)
    write(tmp_path / "b.json", '{"type": "Feature", "id":')
    write(tmp_path / "c.json", [])
    write(tmp_path / "d.json", {"type": "Table"})
    left = LeftOut()
    path = catalog(tmp_path, "a.json", "b.json", "c.json", "d.json", "missing.json", "../out.json")
    with caplog.at_level(logging.WARNING, "geoml"):
        assert [i.id for i in find(path, left)] == ["a"]
    assert list(left.items) == ["b.json", "c.json", "d.json", "missing.json", "out.json"]
    assert "5 items left out" in caplog.text
    with pytest.raises(DataError, match="not JSON"):
        find(path, strict=True)
    for wrong, kind in (("missing.json", DataError), ("../out.json", InputError), ("b.json", DataError)):
        with pytest.raises(kind):
            find(catalog(tmp_path, wrong, rel="child"))


def test_regions_with_a_byte_order_mark(tmp_path: Path) -> None:
    write(tmp_path / "r.geojson", PLACE, BOM)
    assert load_region(str(tmp_path / "r.geojson")).area == 1


# ---- which assets are rasters


@pytest.mark.parametrize(
    ("asset", "why"),
    [
        ({"href": "a.tif"}, None),
        ({"href": "a.TIFF?sig=x"}, None),
        ({"href": "my%20file.tif"}, None),
        ({"href": "a.tif", "type": "application/octet-stream"}, None),
        ({"href": "a.tif", "type": "binary/octet-stream; charset=utf-8"}, None),
        ({"href": "a.tif", "type": "Image/TIFF; application=geotiff"}, None),
        ({"href": "a.tif", "type": "image/vnd.stac.geotiff; cloud-optimized=true"}, None),
        ({"href": "a.jp2", "type": "image/jp2"}, None),
        ({"href": "a.tif", "type": 5}, None),
        ({"href": "a.tif", "roles": ["overview", "data"]}, None),
        ({"href": "a.tif", "roles": ["Data", "metadata"]}, None),
        ({"href": "a.tif", "roles": "data"}, None),
        ({"href": "a.tif", "roles": [["data"], 5]}, None),
        ({"href": "https://h.example/get/17", "roles": ["data"], "bands": [{"name": "red"}]}, None),
        ({"href": "https://h.example/get/17"}, "no type"),
        ({"href": "a.tif", "roles": ["thumbnail"]}, "role thumbnail"),
        ({"href": "a.tif", "roles": "overview"}, "role overview"),
        ({"href": "a.jpg", "type": "image/jpeg"}, "type image/jpeg"),
        ({"href": "a.xml", "type": "application/octet-stream"}, "type application/octet-stream, no name"),
        ({"href": "http://[", "roles": ["data"]}, "no type"),
    ],
    ids=str,
)
def test_which_assets_are_rasters(asset: dict[str, Any], why: str | None) -> None:
    why_not = why_not_raster(pystac.Asset.from_dict(asset))
    assert why_not is None if why is None else why_not is not None and why_not.startswith(why)


def make(assets: dict[str, Any], **properties: Any) -> pystac.Item:
    value = {**BARE, "type": "Feature", "stac_version": "1.0.0", "bbox": [0, 0, 1, 1], "links": [], "assets": assets}
    value["properties"] = {**BARE["properties"], **properties}  # type: ignore[dict-item]
    return pystac.Item.from_dict(copy.deepcopy(value))


HERE = Catalog("here", "/c/catalog.json", "static", remote=False)


def test_what_an_item_has_names_what_was_passed_over() -> None:
    item = make({"red": {"href": "a.html", "type": "text/html"}, "B04": {"href": "b.tif", "roles": ["metadata"]}})
    said = r"it has none; passed over: red \(type text/html\), B04 \(role metadata\)"
    with pytest.raises(InputError, match=said):
        select(item, ["red"], Profile(), HERE)


def test_the_plainest_data_come_first() -> None:
    band = [{"name": "red"}]
    item = make(
        {
            "look": {"href": "a.tif", "roles": ["data", "overview"], "bands": band},
            "tci": {"href": "b.tif", "roles": ["visual", "data"], "bands": band},
            "jp2": {"href": "c.jp2", "roles": ["data"], "bands": band},
            "cog": {"href": "d.tif", "roles": ["data"], "bands": band},
        }
    )
    assert select(item, ["red"], Profile(), HERE)[0].asset == "cog"


@given(
    st.one_of(st.text(), st.sampled_from(["other", "cint16", "uint15", "Byte", "UInt16", "string", "float8", "object"]))
)
def test_data_types_of_stac_and_nothing_else(word: str) -> None:
    assert data_type(word) == (word if word in DATA_TYPES else None)
    item = make({"red": {"href": "a.tif", "raster:bands": [{"data_type": word}]}})
    assert band_specs(item, Profile(), HERE)["red"].dtype == data_type(word)


@pytest.mark.parametrize("word", [5, None, ["uint8"], {"a": 1}, True, 10**30])
def test_data_types_that_are_no_words(word: Any) -> None:
    assert data_type(word) is None
    item = make({"red": {"href": "a.tif", "raster:bands": [{"data_type": word, "spatial_resolution": word}]}})
    spec = band_specs(item, Profile(bands={"red": (BandMeta(name="red", dtype="uint8"),)}), HERE)["red"]
    assert spec.dtype == "uint8", "the YAML says it where the item says nothing"


@pytest.mark.parametrize(
    ("gsd", "metres"), [("ten", None), ("10", 10.0), (0, None), (-3, None), (True, None), ([1], None)]
)
def test_lengths_that_are_none_are_not_known(gsd: Any, metres: float | None) -> None:
    assert band_specs(make({"red": {"href": "a.tif", "gsd": gsd}}), Profile(), HERE)["red"].gsd == metres


# ---- what items leave out


def test_a_collection_fills_what_its_items_leave_out(tmp_path: Path) -> None:
    bands = [{"name": "B04", "eo:common_name": "red", "raster:scale": 0.1, "raster:offset": -3, "nodata": 0}]
    said = {
        "B04": {"type": "image/tiff", "roles": ["data"], "bands": bands, "title": "red"},
        "gone": {"roles": ["data"]},
    }
    about = {"type": "Collection", "id": "c", "item_assets": said, "links": [{"rel": "item", "href": "a.json"}]}
    write(tmp_path / "collection.json", about)
    write(tmp_path / "a.json", {**BARE, "type": "Feature", "assets": {"B04": {"href": "get"}, "x": {"href": "x.tif"}}})
    (item,) = find(tmp_path / "collection.json")
    assert set(item.assets) == {"B04", "x"}
    assert item.assets["B04"].title is None, "only what says how to read it"
    (spec,) = select(item, ["red"], Profile(), HERE)
    assert (spec.asset, spec.scale, spec.offset, spec.nodata) == ("B04", 0.1, -3.0, 0.0)


@pytest.mark.parametrize("name", ["item_assets", "item-assets"])
def test_what_the_item_or_the_yaml_says_wins(name: str) -> None:
    own = {"href": "a.tif", "bands": [{"name": "b2", "nodata": 7}, {"name": "b1"}], "gsd": 20}
    said = {"gsd": 10, "bands": [{"name": n, "nodata": 0, "raster:scale": s} for n, s in (("b1", 0.1), ("b2", 0.2))]}
    item = {**BARE, "assets": {"a": copy.deepcopy(own), "odd": 5}}
    fill(item, {name: {"a": said, "odd": said}}, Profile())
    filled = item["assets"]["a"]  # type: ignore[index]
    assert filled["gsd"] == 20
    assert filled["bands"] == [
        {"name": "b2", "nodata": 7, "raster:scale": 0.2},
        {"name": "b1", "nodata": 0, "raster:scale": 0.1},
    ]
    item = {**BARE, "assets": {"a": copy.deepcopy(own)}}
    fill(item, {name: {"a": said}}, Profile(bands={"a": (BandMeta(name="red", scale=3, nodata=9),)}))
    filled = item["assets"]["a"]  # type: ignore[index]
    assert filled["bands"] == [{"name": "b2", "nodata": 7}, {"name": "b1", "nodata": 0}], "of nodata all count"


@pytest.mark.parametrize(
    ("own", "properties"),
    [
        ({"raster:bands": [{"scale": 0.1, "offset": 1}]}, {}),
        ({"bands": [{"name": "red"}], "raster:scale": 0.1, "raster:offset": 1}, {}),
        ({"bands": [{"name": "red", "raster:scale": 0.1, "raster:offset": 1}]}, {}),
        ({"eo:bands": [{"name": "red"}], "raster:bands": [{"scale": 0.1, "offset": 1}]}, {}),
    ],
    ids=["old band", "asset", "band", "two lists"],
)
@pytest.mark.parametrize(
    "said",
    [
        {"bands": [{"name": "red", "raster:scale": 0.4, "raster:offset": 4, "nodata": 9}]},
        {"raster:bands": [{"scale": 0.4, "offset": 4, "nodata": 9}]},
        {"raster:scale": 0.4, "raster:offset": 4, "nodata": 9},
    ],
    ids=["bands", "old bands", "asset"],
)
def test_what_an_item_says_in_another_place_or_by_another_name_wins(
    own: dict[str, Any], properties: dict[str, Any], said: dict[str, Any]
) -> None:
    item = {"properties": dict(properties), "assets": {"red": {"href": "a.tif", **copy.deepcopy(own)}}}
    fill(item, {"item_assets": {"red": said}}, Profile())
    (spec,) = select(make(item["assets"]), ["red"], Profile(), HERE)
    assert (spec.scale, spec.offset, spec.nodata) == (0.1, 1.0, 9.0)


def test_properties_of_old_collections_are_those_of_their_items() -> None:
    item: dict[str, Any] = {**BARE, "properties": {}, "assets": {}}
    fill(item, {"properties": {"gsd": 30, "platform": "x"}, "item_assets": "none"}, Profile())
    assert item["properties"] == {"gsd": 30}
