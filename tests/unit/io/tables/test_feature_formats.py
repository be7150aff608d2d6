"""Features in other formats, as pyogrio reads them back, against the GeoParquet that they were copied from."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import geopandas
import numpy as np
import pyarrow as pa
import pyogrio
import pytest
import shapely

from geoml.errors import DataError
from geoml.io.tables import feature_formats
from geoml.io.tables.feature_formats import Format, is_geoparquet, write_as
from geoml.io.tables.geoparquet import bbox_column, write_in_order

ROWS = 50


def table(path: Path, *, several: bool, degrees: float = 1.0) -> Path:
    shapes = np.array([shapely.box(k, 1, k + 0.5, 2) for k in range(ROWS)], object)
    shapes = shapely.transform(shapes, lambda at: at * degrees)
    if several:
        shapes[3] = shapely.MultiPolygon([shapely.box(-180, 0, -179, 1), shapely.box(179, 0, 180, 1)])
    when = pa.array([dt.datetime(2024, 6, 1, 12, tzinfo=dt.UTC), None] * (ROWS // 2), pa.timestamp("us", "UTC"))
    columns = {
        "id": [f"a{k}" for k in range(ROWS)],
        "class": pa.array([k % 3 for k in range(ROWS)], pa.uint8()),
        "confidence": pa.array([k / ROWS for k in range(ROWS)], pa.float32()),
        "datetime": when,
        "blocks": pa.array([["b1", "b2"]] * ROWS, pa.list_(pa.string())),
        "bbox": bbox_column(shapely.bounds(shapes)),
        "geometry": pa.array(shapely.to_wkb(shapes), pa.binary()),
    }
    write_in_order(pa.table(columns), path)
    return path


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("kind", ["gpkg", "fgb"])
def test_rows_are_those_of_the_geoparquet(
    tmp_path: Path, kind: Format, several: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feature_formats, "_BATCH", 7)
    path = table(tmp_path / "features.parquet", several=several)
    made = write_as(path, kind)
    info = pyogrio.read_info(made)
    assert (info["driver"], info["crs"]) == (feature_formats.DRIVERS[kind], "EPSG:4326")
    assert info["geometry_type"] == ("MultiPolygon" if several else "Polygon")
    found = geopandas.read_file(made).sort_values("id").reset_index(drop=True)
    truth = geopandas.read_parquet(path).sort_values("id").reset_index(drop=True)
    assert set(found.columns) == set(truth.columns) - {"bbox"}
    assert found.geometry.geom_equals(truth.geometry).all()
    for name in ("id", "class", "confidence"):
        assert found[name].tolist() == truth[name].tolist()
    assert set(found["blocks"]) == {"b1 b2"}
    assert found["datetime"].isna().tolist() == truth["datetime"].isna().tolist()
    assert found["datetime"].dropna().iloc[0].timestamp() == truth["datetime"].dropna().iloc[0].timestamp()


@pytest.mark.parametrize("kind", ["gpkg", "fgb"])
def test_equal_rows_give_equal_bytes_and_nothing_else_is_left(tmp_path: Path, kind: Format) -> None:
    path = table(tmp_path / "features.parquet", several=True)
    bodies = {write_as(path, kind).read_bytes() for _ in range(2)}
    assert len(bodies) == 1
    assert {p.name for p in tmp_path.iterdir()} == {"features.parquet", f"features.{kind}"}


def test_pmtiles_have_all_ids(tmp_path: Path) -> None:
    path = table(tmp_path / "features.parquet", several=False, degrees=0.01)  # larger ones fill tiles by the thousand
    made = write_as(path, "pmtiles")
    assert made.read_bytes()[:7] == b"PMTiles"
    assert set(pyogrio.read_dataframe(made)["id"]) == {f"a{k}" for k in range(ROWS)}


def test_what_cannot_be_read_or_written_is_said(tmp_path: Path) -> None:
    path = tmp_path / "features.parquet"
    path.write_bytes(b"no table")
    with pytest.raises(DataError, match="cannot be read"):
        is_geoparquet(path)
    good = table(tmp_path / "other.parquet", several=False)
    (tmp_path / "other.fgb").mkdir()
    (tmp_path / "other.fgb" / "file").touch()
    with pytest.raises(DataError, match=r"other\.fgb"):
        write_as(good, "fgb")
