"""Parts of a table, one a day: whatever the days hold, the folder reads as one table with all columns."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pystac
import pytest

from geoml.errors import DataError
from geoml.io.stac.search import read_items
from geoml.io.stac.series_tables import days_of, drop_parts, put_items, put_parts
from geoml.io.stores.remote import RunStore, run_store

PLACE = {"type": "Polygon", "coordinates": [[[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 0.0]]]}


def files(folder: Path, **days: list[dict[str, Any]]) -> dict[str, Path]:
    made = {}
    for day, rows in days.items():
        path = folder / f"made-{day}.parquet"
        pq.write_table(pa.Table.from_pylist(rows), path)
        made[day] = path
    return made


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return run_store(tmp_path / "out")


def test_a_column_that_is_new_is_null_in_the_days_before(store: RunStore, tmp_path: Path) -> None:
    put_parts(store, "t.parquet", files(tmp_path, b=[{"id": "1", "n": 1, "s": {"x": 1}}]))
    put_parts(store, "t.parquet", files(tmp_path, a=[{"id": "0", "n": None, "s": None}]))
    stat = (store.local / "t.parquet" / "b.parquet").stat()
    put_parts(store, "t.parquet", files(tmp_path, c=[{"id": "2", "n": 3}]))
    assert (store.local / "t.parquet" / "b.parquet").stat().st_mtime_ns == stat.st_mtime_ns, "others are left alone"
    put_parts(store, "t.parquet", files(tmp_path, d=[{"id": "3", "n": 0.5, "s": {"x": 2, "y": "q"}, "more": True}]))
    assert pq.read_table(store.local / "t.parquet").to_pylist() == [
        {"id": "0", "n": None, "s": None, "more": None},
        {"id": "1", "n": 1.0, "s": {"x": 1, "y": None}, "more": None},
        {"id": "2", "n": 3.0, "s": None, "more": None},
        {"id": "3", "n": 0.5, "s": {"x": 2, "y": "q"}, "more": True},
    ]
    assert len({pq.read_schema(p) for p in (store.local / "t.parquet").glob("*.parquet")}) == 1


def test_values_of_two_kinds_are_refused_and_nothing_is_lost(store: RunStore, tmp_path: Path) -> None:
    put_parts(store, "t.parquet", files(tmp_path, a=[{"id": "0", "n": 1}]))
    with pytest.raises(DataError, match="do not fit together"):
        put_parts(store, "t.parquet", files(tmp_path, b=[{"id": "1", "n": "one"}]))
    assert pq.read_table(store.local / "t.parquet").to_pylist() == [{"id": "0", "n": 1}]


def test_ids_take_the_place_of_those_in_the_file(store: RunStore, tmp_path: Path) -> None:
    put_parts(store, "t.parquet", files(tmp_path, a=[{"id": "0", "n": 1}, {"id": "1", "n": 2}]), {"a": ["x", "y"]})
    assert pq.read_table(store.local / "t.parquet")["id"].to_pylist() == ["x", "y"]


def test_a_table_without_a_day_keeps_its_columns(store: RunStore, tmp_path: Path) -> None:
    put_parts(store, "t.parquet", files(tmp_path, a=[{"id": "0"}], b=[{"id": "1"}]))
    drop_parts(store, "t.parquet", ["b", "none"])
    assert days_of(store, "t.parquet") == ["a"]
    drop_parts(store, "t.parquet", ["a"])
    assert pq.read_table(store.local / "t.parquet").schema.names == ["id"]
    assert days_of(store, "t.parquet") == []
    put_parts(store, "t.parquet", files(tmp_path, c=[{"id": "2", "n": 1}]))
    assert pq.read_table(store.local / "t.parquet").to_pylist() == [{"id": "2", "n": 1}]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_day_whose_items_are_not_done_yet_is_a_part_without_rows(store: RunStore, order: tuple[int, int]) -> None:
    made = pystac.Item("i", PLACE, [0.0, 0.0, 1.0, 1.0], dt.datetime(2024, 1, 1, tzinfo=dt.UTC), {"eo:cloud_cover": 5})
    made.stac_extensions = ["https://stac-extensions.github.io/eo/v1.1.0/schema.json"]
    made.add_link(pystac.Link("license", "https://data.example/license"))
    made.add_asset("red", pystac.Asset("https://data.example/a.tif", roles=["data"]))
    for number in order:
        put_items(store, "s.parquet", {f"2024-01-0{number + 1}": [made] if number else []})
        assert [i.id for i in read_items(store.local / "s.parquet")] == ["i"][: number or order[0]]
    (back,) = read_items(store.local / "s.parquet")
    assert (back.stac_extensions, list(back.assets), back.properties["eo:cloud_cover"]) == (
        made.stac_extensions,
        ["red"],
        5,
    )


def test_items_that_fit_no_column_of_the_others_come_back_as_they_were(store: RunStore) -> None:
    def item(name: str, odd: Any) -> pystac.Item:
        properties = {"odd": odd, "gsd": 10.0}
        made = pystac.Item(name, PLACE, [0.0, 0.0, 1.0, 1.0], dt.datetime(2024, 1, 1, tzinfo=dt.UTC), properties)
        made.add_asset(f"of-{name}", pystac.Asset("https://data.example/a.tif", roles=["data"]))
        return made

    kinds: list[Any] = [1, "one", {"of": [1]}, [1, 2], None]
    for number, value in enumerate(kinds):
        put_items(store, "s.parquet", {f"2024-01-0{number + 1}": [item(f"i{number}", value)]})
    back = read_items(store.local / "s.parquet")
    assert [i.properties.get("odd") for i in back] == kinds
    assert [list(i.assets) for i in back] == [[f"of-i{n}"] for n in range(len(kinds))]
    assert [i.id for i in back] == [f"i{n}" for n in range(len(kinds))]
    assert not (store.local / ".geoml" / "next").exists()
