"""Monitoring without Prefect: what is new or made again is done, nothing else is touched, and the table says so."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pyarrow.parquet as pq
import pystac
import pytest

from geoml import pipeline, testing
from geoml.errors import DataError, InputError, NothingFound, TransientError
from geoml.io.stac import search as stac
from tests.e2e.conftest import THRESHOLDS
from tests.schemas.stac import validate

FIRST = testing.Scene(
    id="first", data=testing.smooth((2, 300, 300), seed=5), bands=("red", "nir"), datetime="2024-06-01T12:00:00Z"
)
SECOND = replace(FIRST, id="second", data=testing.smooth((2, 300, 300), seed=6), datetime="2024-06-03T12:00:00Z")
LATE = replace(FIRST, id="late", data=testing.smooth((2, 300, 300), seed=7), datetime="2024-06-02T23:59:00Z")
AGAIN = replace(SECOND, data=testing.smooth((2, 300, 300), seed=8), properties={"updated": "2024-06-04T08:00:00Z"})
UNTIL = "2024-06-05"


class Place:
    """A catalog whose scenes change, and a monitor over it."""

    def __init__(self, folder: Path, model: str) -> None:
        self.folder, self.model, self.out = folder, model, folder / "out"

    def has(self, *scenes: testing.Scene) -> None:
        shutil.rmtree(self.folder / "made", ignore_errors=True)
        testing.write_catalog(self.folder / "made", scenes)

    def recipe(self, **more: Any) -> dict[str, Any]:
        query = {"catalog": str(self.folder / "made" / "catalog.json"), "datetime": [".."]}
        query["bbox"] = list(FIRST.bbox(inner=0.05))
        return {"model": self.model, "query": query, "block_size": 128, **more}

    def look(self, **more: Any) -> dict[str, tuple[str, int, int]]:
        """Run the monitor; by item what changed, and how many blocks use it and are done."""
        rows = pipeline.monitor(self.recipe(), str(self.out), **{"lookback": 10, "until": UNTIL, **more})
        return {r["item"]: (r["change"], r["blocks"], r["done"]) for r in rows}

    def tree(self) -> dict[str, int]:
        paths = (p for p in self.out.rglob("*") if p.is_file())
        return {str(p.relative_to(self.out)): p.stat().st_mtime_ns for p in paths if p.name != "lock.json"}

    def day(self, day: str) -> Path:
        return self.out / "days" / day


@pytest.fixture
def place(tmp_path: Path, threshold: str) -> Place:
    made = Place(tmp_path, threshold)
    made.has(FIRST, SECOND)
    return made


def test_only_what_is_new_or_made_again_is_done(place: Place) -> None:
    first = place.look()
    assert first.keys() == {"first", "second"}
    assert {change for change, _, _ in first.values()} == {"new"}
    assert all(blocks == done > 4 for _, blocks, done in first.values())
    before = place.tree()
    with pytest.raises(NothingFound, match=r"everything found is already done \(2 items\)"):
        place.look()
    assert place.tree() == before, "a look at a catalog that has nothing new writes nothing"

    place.has(FIRST, AGAIN, LATE)
    blocks = first["second"][1]
    assert place.look() == {"late": ("new", blocks, blocks), "second": ("reprocessed", blocks, blocks)}
    after = place.tree()
    untouched = [k for k in before if k.startswith("days/2024-06-01/")]
    assert untouched
    assert all(after[k] == before[k] for k in untouched), "the day that did not change was left alone"
    table = pq.read_table(place.out / "changes.parquet").to_pylist()
    assert [(r["day"], r["item"], r["change"]) for r in table] == [
        ("2024-06-01", "first", "new"),
        ("2024-06-02", "late", "new"),
        ("2024-06-03", "second", "new"),
        ("2024-06-03", "second", "reprocessed"),
    ]
    assert table[3]["before"] != table[3]["version"]
    assert "2024-06-04" in table[3]["version"]
    for scene in (FIRST, LATE, AGAIN):
        (found,) = testing.read_map(place.day(scene.datetime[:10])).values()
        truth = testing.levels(scene.data, THRESHOLDS)
        window = found.window
        rows, cols = window.slices(scene.window.union(window))
        inside = found.data[0] != 255
        whole = np.full(scene.window.union(window).shape, 255, np.uint8)
        whole[scene.window.slices(scene.window.union(window))] = truth
        assert inside.sum() > 50_000
        assert np.array_equal(found.data[0][inside], whole[rows, cols][inside])
    with pytest.raises(NothingFound):
        place.look()


@pytest.mark.slow
def test_the_series_is_one_collection_over_all_days(place: Place) -> None:
    place.look()
    place.has(FIRST, AGAIN, LATE)
    place.look()
    value = json.loads((place.out / "collection.json").read_text())
    validate(value)
    days = ["2024-06-01", "2024-06-02", "2024-06-03"]
    assert [k["href"] for k in value["links"] if k["rel"] == "child"] == ["./months/2024-06.json"]
    month = json.loads((place.out / "months" / "2024-06.json").read_text())
    validate(month)
    assert [k["title"] for k in month["links"] if k["rel"] == "child"] == days
    assert value["extent"]["temporal"]["interval"] == [["2024-06-01T12:00:00Z", "2024-06-03T12:00:00Z"]]
    linked = list(pystac.Collection.from_file(str(place.out / "collection.json")).get_items(recursive=True))
    on_disk = sorted(place.out.glob("days/*/items/*.json"))
    assert sorted(i.get_self_href() for i in linked) == [str(p) for p in on_disk]
    table = stac.read_items(place.out / "items.parquet")
    assert sorted((i.collection_id, i.id) for i in table) == sorted((i.collection_id, i.id) for i in linked)
    for item in table:
        for asset in item.assets.values():
            assert (place.out / asset.href).is_file()
        (source,) = [k for k in item.links if k.rel == "derived_from" and str(k.target).endswith("item.json")]
        assert (place.out / str(source.target)).is_file()
    assert {i.id for i in stac.read_items(place.out / "sources.parquet")} == {"first", "late", "second"}
    features = geopandas.read_parquet(place.out / "features.parquet")
    parts = [geopandas.read_parquet(place.day(day) / "features.parquet") for day in days]
    assert len(features) == sum(map(len, parts)) > 50
    assert list(features["id"]) == [i for part in parts for i in part["id"]]
    for day, part in zip(days, parts, strict=True):
        file = place.out / "features.parquet" / f"{day}.parquet"
        assert part.total_bounds.tolist() == pytest.approx(read_bbox(file))
    assert sorted({t.date().isoformat() for t in features["start_datetime"]}) == days


def read_bbox(path: Path) -> list[float]:
    geo = json.loads((pq.read_schema(path).metadata or {})[b"geo"])
    box: list[float] = geo["columns"]["geometry"]["bbox"]
    return box


def test_a_broken_item_fails_its_day_and_is_tried_again(place: Place) -> None:
    broken = place.folder / "made" / "second" / "image.tif"
    whole = broken.read_bytes()
    broken.write_text("<html>")
    for _ in range(2):
        with pytest.raises(DataError, match=r"1 day failed, the others are published: 2024-06-03: .* blocks failed"):
            place.look()
    assert {i.id for i in stac.read_items(place.out / "sources.parquet")} == {"first"}
    table = pq.read_table(place.out / "changes.parquet").to_pylist()
    assert [(r["item"], r["done"] == r["blocks"]) for r in table] == [("first", True), ("second", False)]
    broken.write_bytes(whole)
    (change, blocks, done) = place.look()["second"]
    assert (change, blocks) == ("new", done)
    table = pq.read_table(place.out / "changes.parquet").to_pylist()
    assert [(r["item"], r["done"] == r["blocks"]) for r in table] == [("first", True), ("second", True)]


@pytest.mark.slow
@pytest.mark.parametrize("where", ["before the day is put together", "before the days are put together"])
def test_what_died_on_the_way_is_put_together_by_the_next(
    place: Place, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.look()
    place.has(FIRST, AGAIN)
    with monkeypatch.context() as patch:

        def dies(*_: Any, **__: Any) -> Any:
            raise KeyboardInterrupt

        patch.setattr(*((pipeline, "collect") if "the day is" in where else (pipeline, "gather")), dies)
        with pytest.raises(KeyboardInterrupt):
            place.look()
    blocks = len(list((place.day("2024-06-03") / "items").glob("*.json")))
    assert place.look() == {"second": ("reprocessed", blocks, blocks)}
    features = geopandas.read_parquet(place.out / "features.parquet")
    ours = features[features["start_datetime"].dt.day == 3]
    level = {v: k for k, v in enumerate(sorted(set(ours["name"])))}
    area = {level[name]: a for name, a in ours.groupby("name")["area_m2"].sum().items()}
    (found,) = testing.read_map(place.day("2024-06-03")).values()
    for value in area:
        assert area[value] == pytest.approx(100 * (found.data[0] == value).sum(), rel=2e-3), "of the new pixels"


@pytest.mark.slow
def test_the_window_is_whole_days_before_until(place: Place) -> None:
    assert place.look(lookback=0, until="2024-06-03T01:00:00Z").keys() == {"second"}
    with pytest.raises(NothingFound, match="no items"):
        place.look(lookback=0, until="2024-06-02")
    assert place.look(lookback=2, until="2024-06-03").keys() == {"first"}
    with pytest.raises(InputError, match="lookback"):
        place.look(lookback=-1)


def test_two_at_once_do_no_harm(place: Place) -> None:
    with pipeline.locked(str(place.out)), pytest.raises(TransientError, match="pid"):
        place.look()
    assert place.look().keys() == {"first", "second"}


@pytest.mark.slow
def test_another_series_or_a_single_run_is_refused(
    place: Place, constant: str, predict: Callable[..., Path], tmp_path: Path
) -> None:
    place.look()
    before = place.tree()
    place.model = constant
    with pytest.raises(InputError, match="another folder"):
        place.look()
    assert place.tree() == before
    place.out = predict(constant, str(tmp_path / "made" / "catalog.json"), FIRST.bbox(inner=0.4), "single")
    with pytest.raises(InputError, match="single run"):
        place.look()


def test_one_search_for_the_window_and_none_for_each_day(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.look()
    asked: list[str] = []
    search = stac.search

    def counted(catalog: Any, query: Any, region: Any, when: str, *more: Any) -> Any:
        asked.append(when)
        return search(catalog, query, region, when, *more)

    monkeypatch.setattr(stac, "search", counted)
    with pytest.raises(NothingFound):
        place.look()
    assert asked == ["2024-05-26/2024-06-05"]
