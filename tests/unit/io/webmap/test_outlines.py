"""Features on the page: all of few, the largest of many, whole rings on the right side of the antimeridian."""

from __future__ import annotations

import datetime as dt
import json
import tracemalloc
from pathlib import Path

import geopandas
import numpy as np
import pytest
import shapely
from shapely.geometry import box

from geoml.errors import DataError
from geoml.io.webmap import outlines as module
from geoml.io.webmap.outlines import outlines_of, rings


def table(path: Path, shapes: list[shapely.Geometry], **columns: object) -> Path:
    frame = geopandas.GeoDataFrame({**columns, "bbox": [{"xmin": 0.0}] * len(shapes)}, geometry=shapes, crs="EPSG:4326")
    frame.to_parquet(path, row_group_size=7)
    return path


def test_few_are_all_there(tmp_path: Path) -> None:
    hole = box(0, 0, 1, 1) - box(0.4, 0.4, 0.6, 0.6)
    time = dt.datetime(2024, 6, 1, tzinfo=dt.UTC)
    path = table(tmp_path / "f.parquet", [hole, shapely.Point(3, 4)], id=["a", "b"], area_m2=[2.0, float("nan")],
                 datetime=[time, None])  # fmt: skip
    found = outlines_of(path, "things", 10.0, turned=False)
    assert found is not None
    assert (found.title, found.count, found.columns) == ("things", 2, ("id", "area_m2", "datetime"))
    (parts, said), (point, other) = found.rows
    assert said == ["a", 2.0, "2024-06-01T00:00:00+00:00"]
    assert other == ["b", None, None]
    assert [len(ring) for ring in parts[0]] == [5, 5]
    assert shapely.Polygon([(x, y) for y, x in parts[0][0]]).equals(box(0, 0, 1, 1))
    assert point == [[[[4.0, 3.0]]]]
    json.dumps(found.rows, allow_nan=False)


def test_of_many_the_largest_are_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 10)
    areas = np.random.default_rng(0).permutation(50).astype(float)
    shapes = [box(k, 0, k + 0.5, 1) for k in range(50)]
    path = table(tmp_path / "f.parquet", shapes, id=[str(k) for k in range(50)], area_m2=areas)
    found = outlines_of(path, "", 10.0, turned=False)
    assert found is not None
    assert found.count == 50
    assert sorted(row[1][1] for row in found.rows) == list(range(40, 50))
    assert [row[0][0][0][0][1] // 1 for row in found.rows] == sorted(int(k) for k in np.flatnonzero(areas >= 40))


def test_rings_have_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BYTES", 3000)
    shapes = [shapely.Point(k, 0).buffer(0.4) for k in range(40)]
    path = table(tmp_path / "f.parquet", shapes, id=[str(k) for k in range(40)])
    found = outlines_of(path, "", 10.0, turned=False)
    assert found is not None
    assert 0 < sum(len(json.dumps(row[0])) for row in found.rows) <= 3000
    assert found.count == 40


def test_a_giant_is_simplified_and_the_largest_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BYTES", 6000)
    holes = [box(x + 0.02, y + 0.02, x + 0.07, y + 0.07) for x in np.arange(0, 1, 0.1) for y in np.arange(0, 1, 0.1)]
    lake = box(2, 0.2, 3, 0.8)
    giant = box(0, 0, 4, 1) - shapely.union_all(holes) - lake
    small = [shapely.Point(k, 5).buffer(0.4, 2) for k in range(40)]
    areas = [1.0 + k for k in range(40)]
    first = table(tmp_path / "f.parquet", [giant, *small], id=[str(k) for k in range(41)], area_m2=[99.0, *areas])
    last = table(tmp_path / "l.parquet", [*small, giant], id=[str(k) for k in range(41)], area_m2=[*areas, 99.0])
    shown = [outlines_of(path, "", 10.0, turned=False) for path in (first, last)]
    for found in (f for f in shown if f is not None):
        assert found.count == 41
        assert sum(len(json.dumps(row[0])) for row in found.rows) <= 6000
        kept = sorted((row[1][1] for row in found.rows), reverse=True)
        assert 5 < len(kept) < 41
        assert kept == [99.0, *areas[::-1]][: len(kept)], "the largest"
        parts = next(row[0] for row in found.rows if row[1][1] == 99.0)
        outer, *inner = ([(x, y) for y, x in ring] for ring in parts[0])
        assert shapely.Polygon(outer).equals(box(0, 0, 4, 1))
        assert any(shapely.Polygon(ring).equals(lake) for ring in inner)
    assert all(shown)


def test_memory_is_that_of_one_giant_however_many_there_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BYTES", 100_000)
    at = np.arange(0.01, 0.99, 0.02)
    holes = [box(x, y, x + 0.01, y + 0.01).exterior for x in at for y in at]
    giants = [
        shapely.transform(shapely.Polygon(box(0, 0, 1, 1).exterior, holes), lambda c, k=k: c + k) for k in range(8)
    ]
    peaks = []
    for count in (1, 8):
        path = table(tmp_path / f"{count}.parquet", giants[:count], id=[str(k) for k in range(count)])
        tracemalloc.start()
        assert outlines_of(path, "", 10.0, turned=False)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 2 * peaks[0]


def test_what_no_page_can_hold_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BYTES", 2000)
    many = shapely.MultiPoint([(k / 100, 0) for k in range(500)])
    path = table(tmp_path / "f.parquet", [many, shapely.Point(3, 4)], id=["many", "one"])
    found = outlines_of(path, "", 10.0, turned=False)
    assert found is not None
    assert ([row[1] for row in found.rows], found.count) == ([["one"]], 2)


def test_longitudes_rise_over_the_antimeridian() -> None:
    shape = shapely.MultiPolygon([box(179, 0, 180, 1), box(-180, 0, -179, 1)])
    ((east, west),) = rings([shape], 10.0, turned=True)
    assert {x for _, x in east[0]} == {179, 180}
    assert {x for _, x in west[0]} == {180, 181}


def test_tables_that_are_none(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"a": [1]}), tmp_path / "summary.parquet")
    assert outlines_of(tmp_path / "summary.parquet", "", 10.0, turned=False) is None
    (tmp_path / "f.parquet").write_bytes(b"no table")
    with pytest.raises(DataError, match=r"f\.parquet"):
        outlines_of(tmp_path / "f.parquet", "", 10.0, turned=False)
