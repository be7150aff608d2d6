"""STAC out: valid by the schemas, readable by pystac, true about grid, sources and files."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyproj
import pystac
import pytest
import shapely

from geoml.errors import DataError, NothingFound
from geoml.grid.plane import Block, Plane, blocks_touching
from geoml.io.cards.map_card import Band, ClassInfo, MapCard
from geoml.io.stac.item_summary import ItemSummary
from geoml.io.stac.items import (
    PARQUET,
    AssetInfo,
    BandInfo,
    block_footprint,
    block_item,
    collection,
    read_item,
    write_collection,
    write_item,
)
from geoml.outputs.classes import Output

CARD = MapCard(
    name="demo-model",
    version="3",
    architecture="unet",
    bands=(Band(name="red"),),
    gsd=10,
    chip_size=256,
    sha256="ab" * 32,
    classes=(ClassInfo(value=0, name="land", color="#0a0B0c"), ClassInfo(value=1, name="open water", color="#336699")),
)
FIRST, LAST = dt.datetime(2024, 5, 1, 8, tzinfo=dt.UTC), dt.datetime(2024, 5, 31, 12, tzinfo=dt.UTC)
BLOCK = Block(Plane("EPSG:32621", 10.0), 2048, -351, 35)
Validate = Callable[[dict[str, Any]], list[str]]


@pytest.fixture(scope="module")
def validate(stac_schemas: ModuleType) -> Validate:
    found: Validate = stac_schemas.validate
    return found


def source(name: str, href: str | None) -> pystac.Item:
    item = pystac.Item(name, None, None, FIRST, {}, collection="sentinel-2-l2a")
    if href:
        item.set_self_href(href)
    return item


def assets(out: Path, block: Block = BLOCK) -> dict[str, AssetInfo]:
    stats = {"minimum": 3.0, "maximum": 250.0, "mean": float("nan"), "stddev": None, "valid_percent": 98.5}
    sure = BandInfo("confidence", "uint8", 255, scale=1 / 250, unit="1", description="mean", statistics=stats)
    cog = {"size": 1234, "sha256": "0f" * 32}
    return {
        "class": AssetInfo(
            out / "items" / f"{block.id}_class.tif",
            "Classes",
            bands=(BandInfo("class", "uint8", 255),),
            fields=Output(CARD).layers[0].fields,
            **cog,  # type: ignore[arg-type]
        ),
        "confidence": AssetInfo(out / "items" / f"{block.id}_confidence.tif", "Confidence", bands=(sure,), **cog),  # type: ignore[arg-type]
        "thumbnail": AssetInfo(out / "items" / f"{block.id}.png", "Quicklook", ("thumbnail",), "image/png"),
    }


def make(out: Path, block: Block = BLOCK, last: dt.datetime = LAST, **more: Any) -> pystac.Item:
    options: dict[str, Any] = {
        "collection": "run",
        "footprint": None,
        "datetime_range": (FIRST, last),
        "assets": assets(out, block),
        "card": CARD,
        "sources": [source("S2A_1", "https://user:word@example.org/S2A_1.json?sig=secret"), source("S2A_2", None)],
        "recipe_hash": "c0ffee",
        "model_href": "https://example.org/models/demo.json",
        **more,
    }
    return block_item(block, **options)


def written(item: pystac.Item, out: Path) -> dict[str, Any]:
    path = out / "items" / f"{item.id}.json"
    write_item(item, path)
    value: dict[str, Any] = json.loads(path.read_text())
    return value


@pytest.mark.parametrize("crs", ["EPSG:32621", "EPSG:4326", "+proj=laea +lat_0=52 +lon_0=10 +ellps=WGS84"])
def test_items_are_valid(tmp_path: Path, validate: Validate, crs: str) -> None:
    block = Block(Plane(crs, 1e-4 if crs == "EPSG:4326" else 10.0), 512, -3, 4)
    used = validate(written(make(tmp_path, block), tmp_path))
    assert len(used) == 6  # core and five extensions


def test_an_instant_is_a_datetime(tmp_path: Path, validate: Validate) -> None:
    value = written(make(tmp_path, last=FIRST), tmp_path)
    validate(value)
    assert value["properties"]["datetime"] == "2024-05-01T08:00:00Z"


@pytest.mark.parametrize(
    ("path", "wrong"),
    [
        (("properties", "proj:transform"), [1, 2]),
        (("properties", "proj:typo"), 1),
        (("properties", "datetime"), 5),
        (("properties", "processing:software"), {"geoml": 1}),
        (("assets", "class", "file:checksum"), "not hexadecimal"),
        (("assets", "class", "classification:classes"), [{"value": 1, "name": "a b"}]),
        (("assets", "confidence", "bands"), [{"raster:scale": "1"}]),
    ],
)
def test_the_schemas_catch_errors(tmp_path: Path, validate: Validate, path: tuple[str, ...], wrong: object) -> None:
    value = written(make(tmp_path), tmp_path)
    holder = value
    for key in path[:-1]:
        holder = holder[key]
    holder[path[-1]] = wrong
    with pytest.raises(pystac.STACValidationError):
        validate(value)


def test_the_schemas_must_be_there(tmp_path: Path, validate: Validate) -> None:
    value = written(make(tmp_path), tmp_path)
    with pytest.raises(LookupError, match="no schema for"):
        validate({**value, "stac_extensions": ["https://example.org/schema.json"]})


def test_the_grid_is_that_of_the_block(tmp_path: Path) -> None:
    properties = make(tmp_path).properties
    assert properties["proj:code"] == "EPSG:32621"
    assert properties["proj:shape"] == [2048, 2048]
    assert properties["proj:transform"] == list(BLOCK.geobox.transform)[:6]
    assert properties["proj:bbox"] == list(BLOCK.geobox.boundingbox.bbox)


def test_files_carry_size_and_multihash(tmp_path: Path) -> None:
    asset = written(make(tmp_path), tmp_path)["assets"]["class"]
    assert asset["href"] == f"./{BLOCK.id}_class.tif"
    assert asset["file:size"] == 1234
    assert asset["file:checksum"] == "1220" + "0f" * 32
    assert asset["classification:classes"] == [
        {"value": 0, "name": "land", "title": "land", "color_hint": "0A0B0C"},
        {"value": 1, "name": "open-water", "title": "open water", "color_hint": "336699"},
        {"value": 255, "name": "nodata", "title": "no data", "nodata": True},
    ]


def test_bands_say_how_to_read_them(tmp_path: Path) -> None:
    (band,) = written(make(tmp_path), tmp_path)["assets"]["confidence"]["bands"]
    assert (band["nodata"], band["data_type"], band["raster:scale"], band["raster:offset"]) == (255, "uint8", 0.004, 0)
    assert band["statistics"] == {"minimum": 3, "maximum": 250, "valid_percent": 98.5}


def test_links_name_sources_and_model_and_no_secret(tmp_path: Path) -> None:
    value = written(make(tmp_path), tmp_path)
    derived = [link for link in value["links"] if link["rel"] == "derived_from"]
    assert [link["href"] for link in derived] == [
        "https://example.org/S2A_1.json",
        "https://example.org/models/demo.json",
    ]
    assert derived[1]["mlm:name"] == CARD.name
    assert value["properties"]["geoml:sources"] == ["sentinel-2-l2a/S2A_1", "sentinel-2-l2a/S2A_2"]
    assert "secret" not in json.dumps(value)
    assert str(tmp_path) not in json.dumps(value)


def test_local_sources_are_linked_relatively(tmp_path: Path) -> None:
    there = source("L8", str(tmp_path / "catalog" / "L8.json"))
    value = written(make(tmp_path / "run", sources=[there], model_href=None), tmp_path / "run")
    assert value["links"][-1]["href"] == "../../catalog/L8.json"


def test_the_same_run_writes_the_same_bytes(tmp_path: Path) -> None:
    path = tmp_path / "items" / f"{BLOCK.id}.json"
    write_item(make(tmp_path), path)
    first = path.read_bytes()
    write_item(make(tmp_path), path)
    assert path.read_bytes() == first


def test_items_come_back(tmp_path: Path) -> None:
    item = make(tmp_path)
    path = tmp_path / "items" / f"{item.id}.json"
    write_item(item, path)
    back = read_item(path)
    assert back.properties["geoml:recipe_hash"] == "c0ffee"
    assert back.common_metadata.start_datetime == FIRST
    path.write_text("{")
    with pytest.raises(DataError, match="not a readable STAC item"):
        read_item(path)


def test_the_footprint_follows_the_valid_pixels() -> None:
    valid = np.zeros((2048, 2048), bool)
    valid[100:200, 300:500] = True
    valid[150, 290] = True
    shape = block_footprint(BLOCK, valid)
    to = pyproj.Transformer.from_crs("EPSG:4326", BLOCK.plane.crs, always_xy=True)
    pixels = shapely.transform(shape, lambda c: np.column_stack(to.transform(c[:, 0], c[:, 1])))
    origin = BLOCK.plane.bounds(BLOCK.window)
    west, south, east, north = pixels.bounds
    corners = (west - origin[0]) / 10, (origin[3] - north) / 10, (east - origin[0]) / 10, (origin[3] - south) / 10
    assert corners == pytest.approx((290, 100, 500, 200), abs=1e-3)
    whole = block_footprint(BLOCK)
    assert whole.covers(shape.buffer(-1e-9))
    assert block_footprint(BLOCK, np.zeros_like(valid)).equals(whole)


def test_a_block_over_the_antimeridian_has_two_parts_and_a_turned_bbox(tmp_path: Path, validate: Validate) -> None:
    plane = Plane("EPSG:32660", 10.0)
    x, y = pyproj.Transformer.from_crs("EPSG:4326", plane.crs, always_xy=True).transform(180.0, 10.0)
    (block,) = blocks_touching(plane, 512, plane.window(x, y, x + 5, y + 5))
    value = written(make(tmp_path, block), tmp_path)
    validate(value)
    assert value["geometry"]["type"] == "MultiPolygon"
    west, _, east, _ = value["bbox"]
    assert 179 < west < 180
    assert -180 < east < -179


def summary(items: Iterable[pystac.Item]) -> ItemSummary:
    """As the end of a run takes them, in its order."""
    found = ItemSummary()
    for item in items:
        value = item.to_dict(include_self_link=False, transform_hrefs=False)
        value["properties"] |= {"geoml:asked_pixels": 5, "geoml:valid_pixels": 4}
        found.add({**value, "bbox": item.bbox})
    return found


def test_the_collection_is_valid_and_complete(tmp_path: Path, validate: Validate) -> None:
    blocks = [Block(BLOCK.plane, 2048, -351, 35 + k) for k in (2, 0, 1)]
    items = [make(tmp_path, b) for b in blocks]
    for item in items:
        write_item(item, tmp_path / "items" / f"{item.id}.json")
    table = AssetInfo(tmp_path / "features.parquet", "Features", media_type=PARQUET, size=9, sha256="0f" * 32)
    made = collection(
        summary(items), id="run", title="Run", description="A run.", card=CARD, assets={"features": table}
    )
    write_collection(made, tmp_path / "collection.json")
    value = json.loads((tmp_path / "collection.json").read_text())
    validate(value)
    west, south, east, north = value["extent"]["spatial"]["bbox"][0]
    boxes = np.array([i.bbox for i in items])
    assert (west, south) == tuple(boxes[:, :2].min(axis=0))
    assert (east, north) == tuple(boxes[:, 2:].max(axis=0))
    assert value["extent"]["temporal"]["interval"] == [["2024-05-01T08:00:00Z", "2024-05-31T12:00:00Z"]]
    assert value["assets"]["features"]["href"] == "./features.parquet"
    assert value["item_assets"].keys() == {"class", "confidence", "thumbnail"}
    assert "href" not in value["item_assets"]["class"]
    assert "statistics" not in value["item_assets"]["confidence"]["bands"][0]
    read = pystac.Collection.from_file(str(tmp_path / "collection.json"))
    assert [i.id for i in read.get_items()] == sorted(b.id for b in blocks)
    assert all(i.get_collection() is not None for i in read.get_items())


def test_a_run_across_the_antimeridian_spans_the_world() -> None:
    items = [
        pystac.Item(str(k), None, box, None, {}, start_datetime=FIRST, end_datetime=LAST)
        for k, box in enumerate(([179.0, 1.0, -179.0, 2.0], [170.0, 0.0, 171.0, 1.0]))
    ]
    made = collection(summary(items), id="run", title="Run", description="A run.", card=CARD)
    assert made.extent.spatial.bboxes == [[-180.0, 0.0, 180.0, 2.0]]


def test_a_collection_of_nothing_is_refused() -> None:
    with pytest.raises(NothingFound, match="no item"):
        collection(ItemSummary(), id="run", title="Run", description="A run.", card=CARD)
