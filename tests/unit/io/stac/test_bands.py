"""Bands of items made in code, in the dialects of STAC 1.0 and 1.1 and of the catalogs that we ship."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pystac
import pytest

from geoml.errors import DataError, InputError, TransientError
from geoml.io.stac import bands
from geoml.io.stac.bands import BandSpec, band_specs, mask_spec, select
from geoml.io.stac.catalog import BandMeta, Catalog, MaskMeta, OffsetRule, Profile, catalog_names, open_catalog
from geoml.io.stores import sign
from geoml.settings import settings
from tests.serving import serving

PLACE = {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]]]}
SOMEWHERE = Catalog("somewhere", "https://stac.example", "api", remote=True)


def make_item(assets: dict[str, dict[str, Any]], **properties: Any) -> pystac.Item:
    value = {
        "type": "Feature",
        "stac_version": "1.1.0",
        "id": "item-1",
        "geometry": PLACE,
        "bbox": [0, 0, 1, 1],
        "properties": {"datetime": "2023-01-01T00:00:00Z", **properties},
        "links": [],
        "assets": {k: {"href": f"https://data.example/{k}.tif", "type": "image/tiff", **v} for k, v in assets.items()},
    }
    return pystac.Item.from_dict(value)


@pytest.fixture
def earth_search() -> Catalog:
    return open_catalog("earth-search")


def test_stac_10_and_11_say_the_same() -> None:
    old = make_item(
        {
            "B04": {
                "gsd": 10,
                "eo:bands": [{"name": "B04", "common_name": "red"}],
                "raster:bands": [{"nodata": 0, "data_type": "uint16", "scale": 0.5, "offset": -3}],
            }
        }
    )
    new = make_item(
        {
            "B04": {
                "data_type": "uint16",
                "nodata": 0,
                "gsd": 10,
                "bands": [{"name": "B04", "eo:common_name": "red", "raster:scale": 0.5, "raster:offset": -3}],
            }
        }
    )
    expected = BandSpec(
        "item-1", "B04", "https://data.example/B04.tif", "red", 1, "uint16", 0.0, scale=0.5, offset=-3.0, gsd=10.0
    )
    assert band_specs(old, Profile(), SOMEWHERE) == {"red": expected}
    assert band_specs(new, Profile(), SOMEWHERE) == {"red": expected}


def test_bands_of_one_asset_are_numbered_and_keep_their_own_numbers() -> None:
    item = make_item(
        {
            "image": {
                "nodata": 7,
                "bands": [
                    {"name": "1", "eo:common_name": "red"},
                    {"name": "2", "eo:common_name": "green", "nodata": 9, "raster:scale": 2},
                    {"name": "thermal", "data_type": "float32", "nodata": "nan"},
                ],
            }
        }
    )
    specs = band_specs(item, Profile(), SOMEWHERE)
    assert [(b.name, b.index) for b in specs.values()] == [("red", 1), ("green", 2), ("thermal", 3)]
    assert (specs["red"].nodata, specs["green"].nodata, specs["green"].scale) == (7.0, 9.0, 2.0)
    assert specs["thermal"].nodata is not None
    assert math.isnan(specs["thermal"].nodata)


def test_the_yaml_speaks_where_the_item_is_silent_and_names_always() -> None:
    profile = Profile(
        gsd=60, bands={"B05": (BandMeta(name="rededge071", scale=0.0001, offset=-5, nodata=0, gsd=20, dtype="uint16"),)}
    )
    silent = make_item({"B05": {"eo:bands": [{"name": "B05", "common_name": "rededge"}]}}, gsd=10)
    band = band_specs(silent, profile, SOMEWHERE)["rededge071"]
    assert (band.scale, band.offset, band.nodata, band.gsd, band.dtype) == (0.0001, -5.0, 0.0, 20.0, "uint16")
    speaking = make_item(
        {"B05": {"raster:bands": [{"scale": 0.1, "offset": 0, "nodata": 1, "spatial_resolution": 5}]}}, gsd=10
    )
    band = band_specs(speaking, profile, SOMEWHERE)["rededge071"]
    assert (band.scale, band.offset, band.nodata, band.gsd, band.dtype) == (0.1, 0.0, 1.0, 5.0, "uint16")
    assert band_specs(make_item({"vv": {}}, gsd=10), profile, SOMEWHERE)["vv"].gsd == 10
    assert band_specs(make_item({"vv": {}}), profile, SOMEWHERE)["vv"].gsd == 60
    assert band_specs(make_item({"vv": {}}), Profile(), SOMEWHERE)["vv"].gsd is None


def test_repeated_common_names_do_not_hide_a_band() -> None:
    item = make_item({k: {"eo:bands": [{"name": k, "common_name": "rededge"}]} for k in ("B05", "B06", "B07")})
    specs = band_specs(item, Profile(), SOMEWHERE)
    assert {n: b.asset for n, b in specs.items()} == {"rededge": "B05", "B06": "B06", "B07": "B07"}


def test_pictures_documents_and_second_formats_do_not_take_a_name() -> None:
    red = {"eo:bands": [{"name": "red", "common_name": "red"}]}
    item = make_item(
        {
            "visual": {"roles": ["visual"], "eo:bands": [{"name": n, "common_name": n} for n in ("red", "green")]},
            "red-jp2": {"type": "image/jp2", "href": "s3://b/B04.jp2", **red},
            "red": {"type": "image/tiff; application=geotiff; profile=cloud-optimized", "roles": ["data"], **red},
            "thumbnail": {"type": "image/tiff", "roles": ["thumbnail"]},
            "metadata": {"type": "application/xml", "href": "https://data.example/MTD.xml"},
            "preview": {"type": "image/png"},
        }
    )
    specs = band_specs(item, Profile(), SOMEWHERE)
    assert {name: band.asset for name, band in specs.items()} == {"red": "red", "red-jp2": "red-jp2"}
    picture = make_item({"visual": {"roles": ["visual"], "eo:bands": [{"name": n} for n in ("red", "green", "blue")]}})
    assert list(band_specs(picture, Profile(), SOMEWHERE)) == ["red", "green", "blue"]


def test_an_asset_without_any_metadata_is_one_band_of_its_name() -> None:
    item = make_item({"vv": {"type": None}, "notes": {"type": None, "href": "https://data.example/notes.txt?x=.tif"}})
    assert band_specs(item, Profile(), SOMEWHERE) == {
        "vv": BandSpec("item-1", "vv", "https://data.example/vv.tif", "vv")
    }


@pytest.mark.parametrize(
    ("properties", "expected"),
    [
        ({"s2:processing_baseline": "03.01"}, 0.0),
        ({"s2:processing_baseline": "04.00"}, -0.1),
        ({"s2:processing_baseline": "05.09"}, -0.1),
        ({"s2:processing_baseline": "05.09", "earthsearch:boa_offset_applied": False}, -0.1),
        ({"s2:processing_baseline": "05.09", "earthsearch:boa_offset_applied": True}, 0.0),
        ({"processing:version": "05.11"}, -0.1),
        ({}, -0.1),  # what raster:bands declares
    ],
)
def test_the_offset_follows_the_baseline_of_the_item(
    properties: dict[str, Any], expected: float, earth_search: Catalog
) -> None:
    declared = {"raster:bands": [{"nodata": 0, "data_type": "uint16", "scale": 0.0001, "offset": -0.1}]}
    assets = {"red": declared, "swir16": declared, "scl": {"raster:bands": [{"nodata": 0, "data_type": "uint8"}]}}
    item = make_item(assets, **properties)
    specs = band_specs(item, earth_search.profile("sentinel-2-l2a"), earth_search)
    assert [specs[n].offset for n in ("red", "swir16")] == [expected, expected]
    assert (specs["scl"].scale, specs["scl"].offset) == (1.0, 0.0)
    mask = mask_spec(item, earth_search.profile("sentinel-2-l2a"), earth_search)
    assert mask is not None
    assert (mask.band.scale, mask.band.offset, mask.kind) == (1.0, 0.0, "values")
    assert set(mask.bad_values) == {0, 1, 3, 8, 9, 10}


def test_items_with_and_without_the_offset_give_one_reflectance(earth_search: Catalog) -> None:
    """The same ground at 0.25 as three archives keep it."""
    kept = [
        ({"s2:processing_baseline": "02.14"}, 2500),
        ({"s2:processing_baseline": "05.10", "earthsearch:boa_offset_applied": False}, 3500),
        ({"s2:processing_baseline": "05.10", "earthsearch:boa_offset_applied": True}, 2500),
    ]
    for properties, number in kept:
        item = make_item({"nir": {"raster:bands": [{"scale": 0.0001, "offset": -0.1}]}}, **properties)
        (band,) = select(item, ["nir"], earth_search.profile("sentinel-2-l2a"), earth_search)
        assert number * band.scale + band.offset == pytest.approx(0.25)


def test_a_mask_never_gets_scale_or_offset_and_bits_are_bits() -> None:
    profile = Profile(
        mask=MaskMeta(asset="qa", kind="bits", bad=(0, 3), nodata=1),
        offset_rule=OffsetRule(baseline=("v",), since=4, offset=-0.1, bands=("qa", "red")),
    )
    item = make_item({"qa": {"raster:bands": [{"scale": 0.1, "offset": -1, "data_type": "uint16"}]}}, v="5")
    mask = mask_spec(item, profile, SOMEWHERE)
    assert mask is not None
    assert (mask.kind, mask.bad_bits, mask.bad_values) == ("bits", (0, 3), ())
    assert (mask.band.scale, mask.band.offset, mask.band.nodata, mask.band.dtype) == (1.0, 0.0, 1.0, "uint16")
    assert mask_spec(item, Profile(), SOMEWHERE) is None
    with pytest.raises(DataError, match=r"item-1.*'qa'.*it has red"):
        mask_spec(make_item({"red": {}}), profile, SOMEWHERE)


def test_select_keeps_the_order_and_says_what_is_missing() -> None:
    item = make_item({n: {"eo:bands": [{"common_name": n}]} for n in ("red", "green", "nir08")})
    assert [b.name for b in select(item, ["nir08", "red"], Profile(), SOMEWHERE)] == ["nir08", "red"]
    with pytest.raises(InputError, match=r"bands: item item-1 has no band 'nir'; did you mean 'nir08'\? it has green"):
        select(item, ["red", "nir"], Profile(), SOMEWHERE)


@pytest.mark.parametrize(
    ("band", "properties", "message"),
    [
        ({"scale": "many"}, {}, "scale is 'many'"),
        ({"scale": 0}, {}, "scale 0"),
        ({"offset": "inf"}, {}, "offset inf"),
        ({"nodata": [1]}, {}, "nodata is"),
        ({"nodata": True}, {}, "nodata is True"),
        ({}, {"s2:processing_baseline": "new"}, "baseline 'new'"),
    ],
)
def test_metadata_that_are_no_numbers_name_item_and_asset(
    band: dict[str, Any], properties: dict[str, Any], message: str, earth_search: Catalog
) -> None:
    item = make_item({"red": {"raster:bands": [band]}}, **properties)
    with pytest.raises(DataError, match=re.escape(message)) as caught:
        band_specs(item, earth_search.profile("sentinel-2-l2a"), earth_search)
    assert "item-1" in str(caught.value)


def test_where_a_band_comes_from_travels_with_it(tmp_path: Path) -> None:
    local = Catalog("here", str(tmp_path / "catalog.json"), "static", remote=False, root=tmp_path)
    item = make_item({"red": {"href": "./a/red.tif"}})
    item.set_self_href(str(tmp_path / "items" / "item-1.json"))
    band = band_specs(item, Profile(sign="https://sas.example"), local)["red"]
    assert (band.remote, band.root, band.sign) == (False, str(tmp_path), "https://sas.example")
    assert Path(band.href) == tmp_path / "items" / "a" / "red.tif"


def test_every_shipped_catalog_opens_and_its_rules_name_its_own_bands() -> None:
    assert {"earth-search", "planetary-computer"} <= set(catalog_names())
    for name in catalog_names():
        catalog = open_catalog(name)
        assert catalog.default_collection in catalog.profiles
        for collection, profile in catalog.profiles.items():
            names = {band.name for metas in profile.bands.values() for band in metas}
            assert profile.offset_rule is None or set(profile.offset_rule.bands) <= names, (name, collection)
            assert profile.mask is None or profile.mask.asset in profile.bands, (name, collection)


def test_a_planetary_computer_landsat_item(tmp_path: Path) -> None:
    catalog = open_catalog("planetary-computer")
    href = "https://landsateuwest.blob.core.windows.net/landsat-c2/x.TIF"
    item = make_item(
        {
            "red": {"href": href, "raster:bands": [{"scale": 2.75e-05, "offset": -0.2, "nodata": 0}]},
            "nir08": {"href": href},
            "qa_pixel": {"href": href},
        }
    )
    profile = catalog.profile("landsat-c2-l2")
    red, nir = select(item, ["red", "nir"], profile, catalog)
    assert (red.scale, red.offset) == (nir.scale, nir.offset) == (2.75e-05, -0.2)
    assert red.sign == profile.sign
    mask = mask_spec(item, profile, catalog)
    assert mask is not None
    clear, cloud = 21824, 22280  # as in the USGS guide: clear land; high-confidence cloud
    assert [any(value >> bit & 1 for bit in mask.bad_bits) for value in (clear, cloud)] == [False, True]


def test_no_sensor_in_the_code() -> None:
    source = Path(bands.__file__).read_text(encoding="utf-8").lower()
    assert not re.findall(r"sentinel|landsat|\bs2\b|s2:|naip|hls|modis|earthsearch|planetary", source)


# ---- signing


class _Service(BaseHTTPRequestHandler):
    asked: list[str]
    fate: list[int]
    lifetime: timedelta

    def do_GET(self) -> None:
        self.asked.append(self.path)
        status = self.fate.pop(0) if self.fate else 200
        until = (datetime.now(UTC) + self.lifetime).strftime("%Y-%m-%dT%H:%M:%SZ")
        body = json.dumps({"msft:expiry": until, "token": f"sig=secret{len(self.asked)}"}).encode()
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body if status != 206 else b"no token here")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, type[_Service]]]:
    kind = type("Service", (_Service,), {"asked": [], "fate": [], "lifetime": timedelta(hours=1)})
    monkeypatch.setattr(sign, "_tokens", {})
    monkeypatch.setattr(sign.time, "sleep", lambda _: None)
    settings.cache_clear()
    with serving(ThreadingHTTPServer(("127.0.0.1", 0), kind)) as server:
        yield f"http://127.0.0.1:{server.server_port}/token", kind


BLOB = "https://account.blob.core.windows.net/container/a/x.tif"


def test_one_token_serves_many_reads_until_it_is_about_to_expire(service: tuple[str, type[_Service]]) -> None:
    endpoint, kind = service
    spec = BandSpec("i", "a", BLOB, "red", sign=endpoint)
    assert bands.sign(spec) == f"{BLOB}?sig=secret1"
    assert bands.sign(spec) == f"{BLOB}?sig=secret1"
    assert kind.asked == ["/token/account/container"]
    assert bands.sign(spec, fresh=True) == f"{BLOB}?sig=secret2"
    assert bands.sign(BandSpec("i", "a", BLOB + "?sig=old", "red", sign=endpoint)) == f"{BLOB}?sig=secret2"
    kind.lifetime = timedelta(seconds=sign.MARGIN / 2)
    bands.sign(spec, fresh=True)
    assert bands.sign(spec) == f"{BLOB}?sig=secret4"


def test_tokens_go_to_no_other_host(service: tuple[str, type[_Service]]) -> None:
    endpoint, kind = service
    for href in (
        "https://evil.example/container/x.tif",
        "https://account.blob.core.windows.net.evil.example/container/x.tif",
        "http://account.blob.core.windows.net/container/x.tif",
        "s3://bucket/x.tif",
    ):
        assert bands.sign(BandSpec("i", "a", href, "red", sign=endpoint)) == href
    assert bands.sign(BandSpec("i", "a", BLOB, "red")) == BLOB
    assert kind.asked == []


def test_signing_retries_and_then_says_who_failed(
    service: tuple[str, type[_Service]], monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint, kind = service
    spec = BandSpec("i", "a", BLOB, "red", sign=endpoint)
    kind.fate[:] = [503, 429]
    assert bands.sign(spec) == f"{BLOB}?sig=secret3"
    monkeypatch.setenv("GEOML_RETRIES", "1")
    settings.cache_clear()
    kind.fate[:] = [503, 503]
    with pytest.raises(TransientError, match="HTTP 503"):
        bands.sign(spec, fresh=True)
    kind.fate[:] = [403]
    with pytest.raises(DataError, match="HTTP 403"):
        bands.sign(spec, fresh=True)
    kind.fate[:] = [206]
    with pytest.raises(DataError, match="without a token"):
        bands.sign(spec, fresh=True)
    settings.cache_clear()


def test_a_mask_beside_the_only_raster_leaves_wavelengths_to_its_file() -> None:
    item = make_item({"cube": {}, "clouds": {"bands": [{"name": "clouds", "data_type": "uint8"}]}})
    profile = Profile(mask=MaskMeta(asset="clouds", kind="values", bad=(1,)))
    (spec,) = select(item, ["660nm"], profile, SOMEWHERE)
    assert (spec.asset, spec.spectral is not None) == ("cube", True)
    with pytest.raises(InputError, match="not one band of 2 rasters says its wavelength"):
        select(item, ["660nm"], Profile(), SOMEWHERE)
    item = make_item({"cube": {}})
    same = Profile(mask=MaskMeta(asset="cube", index=9, kind="values", bad=(1,)))
    assert select(item, ["660nm"], same, SOMEWHERE)[0].asset == "cube", "a mask in the file itself"
