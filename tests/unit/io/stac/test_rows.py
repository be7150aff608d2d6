"""The table of sources takes items whatever they say, and gives them back as they were."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pystac
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from geoml.grid.region import from_bbox
from geoml.io.stac.rows import WHOLE_ITEM
from geoml.io.stac.search import LeftOut, open_catalog, read_items, search, write_items
from geoml.io.stac.times import instant
from geoml.recipe import Query

PLACE = {"type": "Polygon", "coordinates": [[[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 0.0]]]}


def item(name: str, properties: dict[str, Any] | None = None, /, **top: Any) -> dict[str, Any]:
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "stac_extensions": [],
        "id": name,
        "collection": "c",
        "geometry": PLACE,
        "bbox": [0.0, 0.0, 1.0, 1.0],
        "properties": {"datetime": "2024-06-01T12:00:00Z", **(properties or {})},
        "links": [],
        "assets": {"red": {"href": "https://data.example/a.tif", "roles": ["data"]}},
        **top,
    }


def deep(levels: int) -> Any:
    return 1 if levels == 0 else {"a": [deep(levels - 1)]}


ODD: list[dict[str, Any]] = [
    item("no-bbox", bbox=None),
    item("3d-bbox", bbox=[0, 0, 0, 1, 1, 9]),
    item("text-bbox", bbox=["0", 0, 1, 1]),
    item("z", geometry={"type": "Polygon", "coordinates": [[[0, 0, 5], [1, 0, 5], [1, 1, 5], [0, 0, 5]]]}),
    item("nowhere", geometry=None, bbox=None),
    item("parts", geometry={"type": "GeometryCollection", "geometries": [PLACE]}),
    item("line", geometry={"type": "LineString", "coordinates": [[0, 0], [1, 1]]}),
    item("year-1", {"datetime": "0001-01-01T00:00:00Z"}),
    item("names", {"id": 1, "type": "t", "bbox": [], "properties": {}, "assets": "x", "links": None, "": 0}),
    item("huge", {"n": 10**30, "m": -(10**400), "list": [2**63]}),
    item("float", {"n": 1.5}),
    item("text", {"n": "1", "created": "some day", "updated": 5, "expires": "2024-06-01 00:00"}),
    item("empty", {"n": None, "e": {}, "l": [], "ll": [[]], "le": [{}]}),
    item("mixed", {"l": [1, "a", None, {}, []], "e": 5, "flag": True}),
    item("deep", {"d": deep(60)}),
    item("place", {"proj:geometry": PLACE}),
    item("no-place", {"proj:geometry": "here"}),
    item("mine", {WHOLE_ITEM: json.dumps(item("other"))}),
    item("extra", foo={"bar": 1}),
    item("assets", assets={}),
    item("odd-assets", assets={"red": {"href": "b", "type": 5, "roles": "data", "bands": {}, "proj:geometry": 1}}),
]


def there_and_back(values: list[dict[str, Any]], folder: Path) -> None:
    given = [pystac.Item.from_dict(json.loads(json.dumps(v))) for v in values]
    write_items(given, folder / "items.parquet")
    items = read_items(folder / "items.parquet")

    for one, before in zip(items, given, strict=True):
        assert said(one) == said(before)


def said(one: pystac.Item) -> dict[str, Any]:
    """What an item says; a null says nothing, and an instant may be spelt in another way."""
    value = one.to_dict(include_self_link=False, transform_hrefs=False)
    properties = {k: v for k, v in value["properties"].items() if v is not None}
    for name in ("datetime", "start_datetime", "end_datetime"):
        properties[name] = instant(properties[name]) if name in properties else None
    assets = {k: {name: v for name, v in asset.items() if v is not None} for k, asset in value["assets"].items()}
    place = json.loads(json.dumps(value["geometry"]))
    return {"id": one.id, "geometry": place, "properties": properties, "assets": assets}


@pytest.mark.parametrize("value", ODD, ids=lambda v: v["id"])
def test_an_odd_item_alone_and_beside_a_good_one(value: dict[str, Any], tmp_path: Path) -> None:
    there_and_back([value], tmp_path)
    there_and_back([item("good"), value], tmp_path)
    rows = pq.read_table(tmp_path / "items.parquet").to_pylist()
    if value["id"] != "odd-assets":  # there the roles are a text beside a list, so neither fits the column
        assert rows[0].get(WHOLE_ITEM) is None, "the good one has its columns and nothing else"
    assert rows[0]["bbox"] == {"xmin": 0.0, "ymin": 0.0, "xmax": 1.0, "ymax": 1.0}


def test_all_of_them_in_one_table(tmp_path: Path) -> None:
    there_and_back(ODD, tmp_path)
    assert pq.read_table(tmp_path / "items.parquet").num_rows == len(ODD)


def test_good_items_have_no_further_column(tmp_path: Path) -> None:
    there_and_back([item("a", {"n": 1}), item("b", {"n": 2.5})], tmp_path)
    assert WHOLE_ITEM not in pq.read_schema(tmp_path / "items.parquet").names


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
NAMES = st.sampled_from(["a", "b", "gsd", "type", "created", "proj:geometry", "proj:epsg", WHOLE_ITEM])


def test_a_table_of_others_with_an_item_without_a_geometry(tmp_path: Path) -> None:
    """It takes its bbox; another without one is left out, and the search goes on."""
    write_items([pystac.Item.from_dict(item(n, {"proj:geometry": PLACE})) for n in "abc"], tmp_path / "x.parquet")
    table = pq.read_table(tmp_path / "x.parquet")
    changed = {"geometry": [True, False, False], "bbox": [True, True, False], "proj:geometry": [True, False, True]}
    for name, kept in changed.items():
        column = pc.if_else(pa.array(kept), table[name], pa.scalar(None, table[name].type))
        table = table.set_column(table.schema.get_field_index(name), table.schema.field(name), column)
    pq.write_table(table, tmp_path / "theirs.parquet")
    query, left = Query(catalog="x", bbox=(0, 0, 1, 1), datetime=("2024",)), LeftOut()
    items = search(open_catalog(str(tmp_path / "theirs.parquet")), query, from_bbox(0, 0, 1, 1), "2024", left)
    assert [i.id for i in items] == ["a", "b"]
    assert items[1].geometry is not None
    assert list(left.items) == ["c"]


VALUE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc:_.", max_size=3), inner, max_size=3),
    max_leaves=6,
)
PROPERTIES = st.dictionaries(NAMES, VALUE)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(PROPERTIES, PROPERTIES), min_size=1, max_size=4))
def test_whatever_properties_and_assets_say(given: list[tuple[dict[str, Any], dict[str, Any]]]) -> None:
    values = []
    for n, (properties, asset) in enumerate(given):
        value = item(f"i{n}", properties)
        value["assets"]["red"] |= {k: v for k, v in asset.items() if k != "type" and v is not None}
        values.append(value)
    with TemporaryDirectory() as folder:
        there_and_back(values, Path(folder))
