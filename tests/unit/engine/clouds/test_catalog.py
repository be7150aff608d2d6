"""What the catalog of masks says of items from elsewhere, and what it keeps from them."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pystac
import pytest
import yaml
from affine import Affine
from odc.geo.geobox import GeoBox

from geoml.engine.clouds import catalog as written
from geoml.engine.clouds.mask import Mask
from geoml.engine.clouds.networks import network_of, package, stated_level
from geoml.engine.clouds.recipe import CloudMaskRecipe
from geoml.errors import InputError, MissingExtra
from geoml.io.cards.map_card import ClassInfo
from geoml.io.cog.write import CogInfo
from geoml.io.stac.catalog import Catalog, MaskMeta, Profile, open_catalog

HREFS = {
    "red": "https://data.example.org/red.tif",
    "open": "s3://not-mine/a b.tif",
    "mine": "s3://listed/mine.tif",
    "file": "/etc/passwd",
    "near": "http://127.0.0.1/secret.tif",
    "odd": "/vsicurl/https://data.example.org/x.tif",
}


def item(name: str = "one", collection: str = "sat", properties: dict[str, object] | None = None) -> pystac.Item:
    shape = {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 0]]]}
    when = dt.datetime(2024, 6, 1, tzinfo=dt.UTC)
    made = pystac.Item(name, shape, [0, 0, 1, 1], when, dict(properties or {}), collection=collection)
    made.set_self_href(f"https://stac.example.org/items/{name.replace('/', '-')}?sig=secret")
    for key, href in HREFS.items():
        made.add_asset(key, pystac.Asset(href, media_type="image/tiff", roles=["data"]))
    return made


def recipe(**more: object) -> CloudMaskRecipe:
    query = {"catalog": "far", "bbox": (0, 0, 1, 1), "datetime": "2024"}
    return CloudMaskRecipe.model_validate({"query": query, **more})


def bands(*names: str) -> pystac.Item:
    made = pystac.Item("made", None, None, dt.datetime(2024, 6, 1, tzinfo=dt.UTC), {"processing:level": "L2A"})
    for name in names:
        made.add_asset(name, pystac.Asset(f"https://data.example.org/{name}.tif", roles=["data"]))
    return made


REMOTE = Catalog(
    "far", "https://stac.example.org", "api", remote=True, signed_buckets=("s3://listed",), origin="far",
    profiles={"sat": Profile(gsd=30, anchor=0.5, mask=MaskMeta(asset="qa", kind="bits", bad=(1,)))},
)  # fmt: skip


def test_an_item_from_elsewhere_gets_no_rights_by_being_written_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    path = written.write([item()], {}, REMOTE, "sat", tmp_path)
    found = json.loads((tmp_path / "stac" / "items" / "one.json").read_text())
    hrefs = {key: asset["href"] for key, asset in found["assets"].items()}
    assert hrefs == {
        "red": HREFS["red"],
        "open": "https://not-mine.s3.amazonaws.com/a%20b.tif",
        "mine": HREFS["mine"],
    }
    (link,) = [k for k in found["links"] if k["rel"] == "derived_from"]
    assert link["href"] == "https://stac.example.org/items/one"
    catalog = open_catalog(str(path))
    assert catalog.signed_buckets == REMOTE.signed_buckets
    assert catalog.root == tmp_path.resolve(), "masks, and no other file"
    assert catalog.profiles == REMOTE.profiles
    assert yaml.safe_load(path.read_text())["default_collection"] == "sat"


def read(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "stac" / "items" / "one.json").read_text())
    return found


def test_no_signature_is_written(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made = item()
    other = {"alternate": {"s3": {"href": "https://data.example.org/red.tif?sig=SECRET", "title": "by S3"}}}
    made.add_asset("red", pystac.Asset("https://data.example.org/red.tif?sig=SECRET", extra_fields=other))
    made.add_link(pystac.Link("via", "https://user:SECRET@data.example.org/about?token=SECRET"))
    written.write([made], {}, REMOTE, "sat", tmp_path)
    assert not [p for p in tmp_path.rglob("*") if p.is_file() and "SECRET" in p.read_text()]
    red = read(tmp_path)["assets"]["red"]
    assert red["href"] == "https://data.example.org/red.tif"
    assert red["alternate"] == {"s3": {"href": "https://data.example.org/red.tif", "title": "by S3"}}
    assert [k["href"] for k in read(tmp_path)["links"] if k["rel"] == "via"] == ["https://data.example.org/about"]
    assert "the hrefs of item one are written without their queries" in caplog.text
    assert "SECRET" not in caplog.text


def local(folder: Path, sign: str | None = None) -> Catalog:
    profiles = {"sat": Profile(gsd=30, sign=sign)}
    return Catalog("near", str(folder / "catalog.json"), "static", remote=False, root=folder, profiles=profiles)


def test_a_file_outside_of_a_local_catalog_stays_out_of_reach(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made = item()
    made.set_self_href(str(tmp_path / "data" / "items" / "one.json"))
    made.assets = {}
    for key, href in {"inside": "../in.tif", "outside": "../../private/x.tif", "odd": "/vsicurl/x.tif"}.items():
        made.add_asset(key, pystac.Asset(href))
    out = tmp_path / "out"
    written.write([made], {}, local(tmp_path / "data"), "sat", out)
    assert {k: a["href"] for k, a in read(out)["assets"].items()} == {"inside": str(tmp_path / "data" / "in.tif")}
    assert "item one: without the assets odd, outside, whose hrefs are not allowed" in caplog.text


def test_no_tokens_are_asked_for_items_that_a_local_catalog_links_to(tmp_path: Path) -> None:
    near = item("near")
    near.set_self_href(str(tmp_path / "near.json"))
    near.assets = {"red": pystac.Asset("https://account.blob.core.windows.net/box/red.tif")}
    catalog = local(tmp_path, sign="https://sign.example.org/token")
    for items, sign in (([near], "https://sign.example.org/token"), ([near, item()], None)):
        path = written.write(items, {}, catalog, "sat", tmp_path / "out")
        assert open_catalog(str(path)).profile("sat").sign == sign


def test_the_mask_takes_the_place_of_an_earlier_one_and_of_no_other_asset(tmp_path: Path) -> None:
    geobox = GeoBox((4, 5), Affine(30, 0, 600_000, 0, -30, 7_000_000), "EPSG:32621")
    mask = Mask(CogInfo(tmp_path / "masks/one.tif", 10, "0" * 64, ()), geobox, (), 255, {})
    classes = tuple(ClassInfo(value=k, name=n, color="#ffffff") for k, n in enumerate(("clear", "cloud")))
    made = item()
    made.add_asset("clouds", pystac.Asset("https://data.example.org/percent.tif"))
    path = written.write([made], {"one": replace(mask, classes=classes)}, REMOTE, "sat", tmp_path)
    found = read(tmp_path)["assets"]
    assert found["clouds"]["href"] == "https://data.example.org/percent.tif"
    assert found["clouds_2"]["href"] == "../../masks/one.tif"
    rule = open_catalog(str(path)).profile("sat").mask
    assert rule is not None
    assert rule.asset == "clouds_2"

    again = replace(REMOTE, profiles={"sat": Profile(mask=MaskMeta(asset="clouds", kind="values", bad=(1,)))})
    written.write([made], {"one": replace(mask, classes=classes)}, again, "sat", tmp_path)
    assert read(tmp_path)["assets"]["clouds"]["href"] == "../../masks/one.tif"


@pytest.mark.parametrize("name", ["a/../../b", "..", "x" * 300, "a\nb", "näme 1.SAFE"])
def test_no_id_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    written.write([item(name)], {}, REMOTE, "sat", tmp_path / "out")
    files = list((tmp_path / "out" / "stac" / "items").iterdir())
    assert len(files) == 1
    assert json.loads(files[0].read_text())["id"] == name
    assert {p.name for p in tmp_path.iterdir()} == {"out"}
    assert written.mask_path(tmp_path, name).parent == tmp_path / "masks"


@pytest.mark.parametrize(
    ("properties", "collection", "level"),
    [
        ({"processing:level": "L1C"}, "sat", "L1C"),
        ({"processing:level": "L2"}, "sat", "L2A"),
        ({"landsat:correction": "L2SP"}, "sat", "L2A"),
        ({"landsat:correction": "L1TP"}, "landsat-c2-l2", "L1C"),
        ({}, "sentinel-2-l1c", "L1C"),
        ({}, "landsat-c2-l2", "L2A"),
        ({"processing:level": None}, "sat", None),
    ],
)
def test_the_level_is_what_an_item_states(properties: dict[str, object], collection: str, level: str | None) -> None:
    assert stated_level(item("one", collection, properties)) == level


def test_the_network_is_that_of_the_bands_and_the_level() -> None:
    def network(made: pystac.Item, **more: object) -> str:
        return network_of(made, recipe(**more), Profile(), REMOTE)

    four = ("blue", "green", "red", "nir")
    assert network(bands(*four)) == "4b-l2a"
    assert network(bands(*four, "swir16")) == "4b-l2a"
    assert network(bands(*four, "swir16", "swir22"), level="L1C") == "6b-l2a", "items say it better"
    with pytest.raises(InputError, match="item made has no band 'nir'"):
        network(bands(*four[:3]))
    silent = bands(*four)
    silent.properties.clear()
    with pytest.raises(InputError, match="level: item made states none; expected --level L1C"):
        network(silent)
    assert network(silent, level="L1C") == "4b-l1c"


def test_without_ukis_csmask_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("geoml.engine.importers.ukis_csmask.find_spec", lambda _: None)
    with pytest.raises(MissingExtra, match=r"pip install 'geoml\[clouds\]'"):
        package("6b-l2a", tmp_path)
    assert not list(tmp_path.iterdir())
