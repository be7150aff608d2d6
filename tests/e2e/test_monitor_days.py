"""The monitor over all days of its series: gaps between nights, items that are withdrawn or move, parts, old series."""

from __future__ import annotations

import datetime as dt
import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from typing import Any

import geopandas
import pyarrow.parquet as pq
import pystac
import pytest

from geoml import pipeline, testing
from geoml.errors import NothingFound, TransientError
from geoml.io.stac import search as stac
from tests.e2e.old_series import made_old

SCENE = testing.Scene(id="scene", data=testing.smooth((2, 120, 120), seed=5), bands=("red", "nir"))
DAY0 = dt.date(2025, 1, 30)
TABLES = ("changes.parquet", "features.parquet", "items.parquet", "sources.parquet")


def date(number: int) -> str:
    return str(DAY0 + dt.timedelta(days=number))


class Place:
    """A catalog of items that all show one image, and a monitor over it."""

    def __init__(self, folder: Path, model: str) -> None:
        self.made, self.out = folder / "made", folder / "out"
        testing.write_catalog(self.made, [SCENE])
        self.base = json.loads((self.made / "scene" / "item.json").read_text())
        self.top = json.loads((self.made / "collection.json").read_text())
        query = {"catalog": str(self.made / "catalog.json"), "datetime": [".."], "bbox": list(SCENE.bbox(inner=0.1))}
        self.recipe: dict[str, Any] = {"model": model, "query": query, "block_size": 256}

    def holds(self, _odd: tuple[str, ...] = (), /, **days: int) -> None:
        """Items by id with the number of their day; those of ``_odd`` have no time that can be read."""
        for key, number in days.items():
            item = deepcopy(self.base) | {"id": key}
            item["properties"]["datetime"] = "soon" if key in _odd else f"{date(number)}T12:00:00Z"
            for asset in item["assets"].values():
                asset["href"] = "./scene/image.tif"
            (self.made / f"{key}.json").write_text(json.dumps(item))
        links = [{"rel": "item", "href": f"./{key}.json"} for key in days]
        (self.made / "collection.json").write_text(json.dumps({**self.top, "links": links}))

    def night(self, number: int, lookback: int = 1, **more: Any) -> list[tuple[str, str, str | None]]:
        """Look at the days before ``number``: item, change and the day that it was under before."""
        rows = pipeline.monitor(self.recipe, self.out, lookback=lookback, until=date(number), **more)
        return sorted((r["item"], r["change"], r["moved_from"]) for r in rows)

    def series(self) -> dict[str, str]:
        """The items of the series with their days, after all its tables and documents were held against each other."""
        sources = stac.read_items(self.out / "sources.parquet")
        items = stac.read_items(self.out / "items.parquet")
        linked = list(pystac.Collection.from_file(str(self.out / "collection.json")).get_items(recursive=True))
        of_items, of_links = (sorted(i.properties["start_datetime"][:10] for i in some) for some in (items, linked))
        assert of_items == of_links
        days = {str(i.datetime)[:10] for i in sources}
        features = geopandas.read_parquet(self.out / "features.parquet")
        assert {str(t)[:10] for t in features["start_datetime"]} == days
        assert {p.name for p in (self.out / "days").iterdir()} == days
        assert len(sources) == len({i.id for i in sources})
        return {i.id: str(i.datetime)[:10] for i in sources}


@pytest.fixture
def place(tmp_path: Path, threshold: str) -> Place:
    return Place(tmp_path, threshold)


def test_days_that_no_night_looked_at_are_filled(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    place.holds(a=0, b=3, c=6)
    place.night(0)
    assert place.night(6) == [("b", "new", None), ("c", "new", None)]
    assert f"no night had looked at {date(1)}/{date(4)} (4 days), which were looked at now" in caplog.text
    assert place.series() == {"a": date(0), "b": date(3), "c": date(6)}
    caplog.clear()
    with pytest.raises(NothingFound, match=r"is already done \(\d items?\)$"):
        place.night(7)
    assert caplog.text == ""


def test_without_filling_each_night_says_which_days_are_missing(place: Place) -> None:
    place.holds(a=0, b=3, c=6)
    place.night(0)
    assert place.night(6, fill=False) == [("c", "new", None)]
    for number in (7, 8):  # of the last one the window is empty
        with pytest.raises(
            NothingFound, match=rf"no night had looked at {date(1)}/{date(4)} \(4 days\), which were not"
        ):
            place.night(number, lookback=number - 7, fill=False)
    assert place.night(8, lookback=5, fill=False) == [("b", "new", None)]
    with pytest.raises(
        NothingFound, match=rf"no night had looked at {date(1)}/{date(2)} \(2 days\), which were looked at"
    ):
        place.night(8, lookback=0)
    with pytest.raises(NothingFound, match="no items"):
        place.night(-300, lookback=3)  # who looks at days of long ago leaves no gap behind
    with pytest.raises(NothingFound) as ended:
        place.night(9, lookback=0)
    assert "no night" not in str(ended.value)


def test_what_came_late_while_no_night_came_is_found(place: Place) -> None:
    place.holds(a=0, b=4)
    place.night(4, lookback=3)
    place.holds(a=0, b=4, late=2, d=7)
    with pytest.raises(NothingFound):
        place.night(4, lookback=1, fill=False)
    assert place.night(7, lookback=3) == [("d", "new", None), ("late", "new", None)]


def test_a_day_whose_server_was_busy_is_no_day_that_was_looked_at(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.holds(a=0, b=1)

    def busy(out: Any, look: Any, day: str, run: Any) -> None:
        if day == date(1):
            look.failed[day] = TransientError("busy")
        else:
            whole(out, look, day, run)

    whole = pipeline.do_day
    monkeypatch.setattr(pipeline, "do_day", busy)
    with pytest.raises(TransientError):
        place.night(1)
    monkeypatch.setattr(pipeline, "do_day", whole)
    place.holds(a=0, b=1, c=9)
    assert place.night(9) == [("b", "new", None), ("c", "new", None)]


def test_the_only_item_of_a_day_is_withdrawn(place: Place) -> None:
    place.holds(a=0, b=3, c=6)
    place.night(6, lookback=10)
    place.holds(a=0, b=3)
    assert place.night(6) == [("c", "withdrawn", None)]
    assert place.series() == {"a": date(0), "b": date(3)}
    place.holds(a=0, b=3, c=6)
    assert place.night(6) == [("c", "new", None)]
    place.holds()
    assert place.night(6, lookback=10) == [(key, "withdrawn", None) for key in "abc"]
    assert place.series() == {}
    rows = pq.read_table(place.out / "changes.parquet").to_pylist()
    assert [r["item"] for r in rows if r["change"] == "withdrawn"] == ["a", "b", "c"], "what is seen again comes once"


def test_an_item_made_again_under_another_day_moves(place: Place) -> None:
    place.holds(a=0, b=3, d=3)
    place.night(6, lookback=10)
    place.holds(a=8, b=3, d=3)
    assert place.night(8, lookback=8) == [("a", "moved", date(0))]
    assert place.series() == {"a": date(8), "b": date(3), "d": date(3)}
    place.holds(a=8, b=9, d=3)  # day 3 is not in the window, and keeps another item
    assert place.night(9) == [("b", "moved", date(3))]
    assert place.series() == {"a": date(8), "b": date(9), "d": date(3)}
    (kept,) = (place.out / "days" / date(3) / "items").glob("*.json")
    assert [name.rpartition("/")[2] for name in json.loads(kept.read_text())["properties"]["geoml:sources"]] == ["d"]
    (row,) = [
        r for r in pq.read_table(place.out / "changes.parquet").to_pylist() if r["item"] == "b" and r["moved_from"]
    ]
    assert (row["day"], row["change"], row["blocks"]) == (date(9), "moved", row["done"])


def test_what_is_cut_off_or_cannot_be_read_is_not_withdrawn(place: Place) -> None:
    place.recipe["query"]["limit"] = 2
    place.holds(a=0, b=1)
    place.night(3, lookback=10)
    place.holds(a=0, b=1, c=2, d=3)
    assert place.night(3, lookback=10) == [("c", "new", None), ("d", "new", None)]
    assert place.series().keys() == set("abcd")
    place.holds(("d",), a=0, b=1, c=2, d=3)
    with pytest.raises(NothingFound, match="1 item left out: item d"):
        place.night(4)
    assert place.series().keys() == set("abcd")


class Killed(BaseException):
    """As a signal that ends the process between two files."""


def dying(patch: pytest.MonkeyPatch, at: int, then: Callable[[], None]) -> None:
    """``then`` runs after each file that appears under its name, and after the one of number ``at`` all ends."""
    replace, count = Path.replace, [0]

    def counted(self: Path, target: Any) -> Any:
        made = replace(self, target)
        then()
        count[0] += 1
        if count[0] == at:
            raise Killed
        return made

    patch.setattr(Path, "replace", counted)


def content(out: Path) -> dict[str, Any]:
    """All that a series says, without times of this moment."""
    tables = {name: pq.read_table(out / name) for name in TABLES}
    rows = {n: (t.drop_columns(["seen"]) if n == "changes.parquet" else t).to_pylist() for n, t in tables.items()}
    files = {str(p.relative_to(out)) for p in out.rglob("*") if p.is_file() and p.name != "lock.json"}
    return {
        **rows,
        "files": files,
        **{p.name: json.loads(p.read_text()) for p in out.glob("**/*.json") if p.parent.name == "months"},
    }


def readable(out: Path, rows: dict[str, int] | None = None) -> None:
    """Every table that is there opens as one and holds each row of a day once; with ``rows`` it is whole."""
    for name in ("features.parquet", "sources.parquet", "items.parquet"):
        if (out / name).exists():
            table = pq.read_table(out / name)
            when = "start_datetime" if "start_datetime" in table.column_names else "datetime"
            keys = list(zip(table["id"].to_pylist(), table[when].to_pylist(), strict=True))
            assert len(set(keys)) == len(keys), name
            assert rows is None or len(keys) == rows[name], name


@pytest.mark.slow
def test_a_night_that_dies_anywhere_is_made_good(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A day comes, one goes and one changes; the catalog says more of its items than it did."""
    place.holds(a=0, b=1, c=2)
    place.night(2, lookback=10)
    place.base["properties"]["updated"] = f"{date(3)}T00:00:00Z"
    place.base["properties"]["sun:angle"] = 0.5
    place.holds(a=5, b=1, d=4)
    recipe = pipeline.parse(pipeline.PredictRecipe, place.recipe, "test")
    with pipeline.locked(place.out):
        look = pipeline.scan(recipe, place.out, lookback=10, until=date(5))
        for day in look.todo:
            pipeline.do_day(place.out, look, day, pipeline.run_all)
    start = place.out.with_name("start")
    place.out.rename(start)

    def again(at: int) -> bool:
        shutil.rmtree(place.out, ignore_errors=True)
        shutil.copytree(start, place.out)
        with monkeypatch.context() as patch:
            dying(patch, at, lambda: readable(place.out))
            try:
                pipeline.gather(place.out, deepcopy(look))
                return False
            except Killed:
                pass
        with suppress(NothingFound):
            place.night(5, lookback=10)
        return True

    again(0)
    whole = content(place.out)
    assert [i.id for i in stac.read_items(place.out / "sources.parquet")] == ["b", "d", "a"]
    at = 1
    while again(at):
        found = content(place.out)
        assert {k for k in whole if found[k] != whole[k]} == set(), at
        at += 1
    assert at > 12, "so many files are written"


@pytest.mark.slow
def test_an_old_series_is_brought_over_whole_however_often_it_dies(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.holds(a=0, b=1, c=2)
    place.night(2, lookback=10)
    whole = content(place.out)
    rows = {name: len(whole[name]) for name in TABLES}
    made_old(place.out)
    assert (place.out / "features.parquet").is_file()
    start = place.out.with_name("start")
    place.out.rename(start)
    at = 1
    while True:
        shutil.rmtree(place.out, ignore_errors=True)
        shutil.copytree(start, place.out)
        with monkeypatch.context() as patch:
            dying(patch, at, lambda: readable(place.out, rows))
            ended = Killed
            try:
                place.night(2, lookback=10)
            except (Killed, NothingFound) as err:
                ended = type(err)  # type: ignore[assignment]
        with pytest.raises(NothingFound, match=r"is already done \(\d items?\)$"):
            place.night(2, lookback=10)
        found = content(place.out)
        assert {k for k in whole if k != "files" and found[k] != whole[k]} == set(), at
        assert found["files"] == whole["files"], at
        if ended is not Killed:
            break
        at += 2
    assert at > 15
    place.holds(a=0, b=1, c=2, d=4)
    assert place.night(4, lookback=1) == [("d", "new", None)]


def test_a_night_writes_no_part_of_another_day(place: Place) -> None:
    place.holds(a=0, b=1, c=2)
    place.night(2, lookback=10)
    before = {p: p.stat().st_mtime_ns for p in place.out.rglob("*") if p.is_file()}
    place.holds(a=0, b=1, c=2, d=3)
    place.night(3)
    written = {
        str(p.relative_to(place.out))
        for p in place.out.rglob("*")
        if p.is_file() and before.get(p) != p.stat().st_mtime_ns and not p.is_relative_to(place.out / "days")
    }
    parts = {f"{name}/{date(3)}.parquet" for name in TABLES}
    assert written - {".geoml/lock.json"} == parts | {
        f"months/{date(3)[:7]}.json",
        "collection.json",
        ".geoml/looked.json",
    }


def test_the_tables_open_in_duckdb_as_they_open_in_geopandas(place: Place) -> None:
    import duckdb

    place.holds(a=0, b=3)
    place.night(3, lookback=10)
    for name in TABLES:
        told = duckdb.sql(f"select count(*) from read_parquet('{place.out / name}')").fetchall()
        assert told == [(len(pq.read_table(place.out / name)),)]
    assert len(geopandas.read_parquet(place.out / "features.parquet")) > 2
