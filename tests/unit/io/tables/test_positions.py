"""Positions and tracks are files that geopandas, DuckDB and MovingPandas open, whole or not there."""

from __future__ import annotations

import datetime as dt
import json
import warnings
from pathlib import Path
from typing import Any

import duckdb
import geopandas
import numpy as np
import pyarrow.parquet as pq
import pytest
import shapely

from geoml.errors import InputError
from geoml.io.tables import positions
from geoml.io.tables.positions import line, opened, tracks_path

with warnings.catch_warnings():  # it says at every import which optional packages it lacks
    warnings.simplefilter("ignore")
    import movingpandas

START = dt.datetime(2024, 5, 1, 10, tzinfo=dt.UTC)


def written(out: Path, degrees: bool = True, rows: int = 12) -> Path:
    with opened(out, degrees) as (points, lines):
        for k in range(rows):
            row: dict[str, Any] = {
                "id": k % 2 + 1, "frame": k // 2, "time": START + dt.timedelta(seconds=k // 2),
                "seconds": float(k // 2), "lon": 12 + k / 1e4,
                "lat": 45.0, "x": float(k), "y": 0.0, "speed_kmh": 3.0, "confidence": 0.5,
            }  # fmt: skip
            points.add(row, shapely.Point(12 + k / 1e4, 45))
        lines.add({"id": 1, "class": "car", "n": rows // 2, "length_m": 4.0}, line([(12, 45), (12.001, 45)]))
        points.finish({"crs": "EPSG:32633"})
        lines.finish({})
    return out


def test_they_open_where_they_should(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(positions, "GROUP", 5)
    out = written(tmp_path / "a.parquet")
    frame = geopandas.read_parquet(out)
    assert frame.crs.to_epsg() == 4326
    assert frame["id"].tolist() == [1, 2] * 6
    assert frame["time"].iloc[-1] == START + dt.timedelta(seconds=5)
    np.testing.assert_array_equal(frame.geometry.x, frame["lon"])
    assert len(geopandas.read_parquet(out, bbox=(12, 44, 12.00025, 46))) == 3
    lines = geopandas.read_parquet(tracks_path(out))
    assert lines.geometry.iloc[0].geom_type == "LineString"
    assert lines["length_m"].tolist() == [4.0]
    found = duckdb.sql(f"select id, count(*), max(bbox.xmax) from '{out}' group by id order by id").fetchall()
    assert found == [(1, 6, pytest.approx(12.001)), (2, 6, pytest.approx(12.0011))]
    naive = frame.assign(time=frame["time"].dt.tz_localize(None))
    with warnings.catch_warnings():  # it is older than the pandas here
        warnings.simplefilter("ignore")
        tracks = movingpandas.TrajectoryCollection(naive, traj_id_col="id", t="time")
    assert [len(t.df) for t in tracks.trajectories] == [6, 6]
    assert tracks.trajectories[0].get_length() == pytest.approx(0.001 * 78_850, rel=0.01)
    about = json.loads(pq.read_metadata(out).metadata[b"geoml"])
    assert about == {"crs": "EPSG:32633"}
    geo = json.loads(pq.read_metadata(out).metadata[b"geo"])["columns"]["geometry"]
    assert geo["bbox"] == pytest.approx([12, 45, 12.0011, 45])
    assert geo["geometry_types"] == ["Point"]


def test_without_a_place_on_earth_there_is_no_crs(tmp_path: Path) -> None:
    assert geopandas.read_parquet(written(tmp_path / "a.parquet", degrees=False)).crs is None


def test_after_an_error_neither_is_there(tmp_path: Path) -> None:
    def interrupted() -> None:
        with opened(tmp_path / "a.parquet", degrees=True) as (points, _):
            points.add({"id": 1}, shapely.Point(0, 0))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_names() -> None:
    assert tracks_path(Path("a/b.parquet")) == Path("a/b.tracks.parquet")
    with pytest.raises(InputError, match=r"\.parquet file"):
        tracks_path(Path("a.gpkg"))
    assert line([(1.0, 2.0)]).length == 0
