"""What the catalog of masks says of items from elsewhere, and what it keeps from them."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import pystac
import pytest
import yaml

from geoml.engine.clouds import catalog as written
from geoml.engine.clouds.networks import network_of, package, stated_level
from geoml.engine.clouds.recipe import CloudMaskRecipe
from geoml.errors import InputError, MissingExtra
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
