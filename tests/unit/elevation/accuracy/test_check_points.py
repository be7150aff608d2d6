"""Check points in any form give the same places and heights, and errors are what they were made to be."""

from __future__ import annotations

import json
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pyogrio
import pyproj
import pytest
import shapely

from geoml.elevation.accuracy.assessed import assessed
from geoml.elevation.accuracy.check_points import CheckPoints, read_check_points
from geoml.elevation.accuracy.height_errors import nmad, squares, summary
from geoml.errors import DataError, InputError, NothingFound

CRS, VERTICAL = "EPSG:28992", "EPSG:5709"
X, Y, Z = np.array([85000.5, 85010.25, 85020.0]), np.array([447500.0, 447510.0, 447520.5]), np.array([1.5, -0.25, 3.0])


def frame(crs: str | None, three: bool) -> gpd.GeoDataFrame:
    shapes = shapely.points(X, Y, Z) if three else shapely.points(X, Y)
    return gpd.GeoDataFrame({} if three else {"Z": Z}, geometry=shapes, crs=crs)


@pytest.mark.parametrize("name", ["points.gpkg", "points.parquet", "points.csv"])
def test_files_of_any_kind_say_the_same(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name.endswith("csv"):
        path.write_text(
            "id,X,y,Z\n" + "".join(f"{k},{a},{b},{c}\n" for k, (a, b, c) in enumerate(zip(X, Y, Z, strict=True)))
        )
    elif name.endswith("parquet"):
        frame(CRS, three=True).to_parquet(path)
    else:
        frame(CRS, three=False).to_file(path)
    found = read_check_points(path, CRS, VERTICAL, "EPSG:7415")
    assert np.allclose(found.x, X)
    assert np.allclose(found.y, Y)
    assert np.allclose(found.z, Z)
    assert found.notes == ()


def test_places_of_another_system_are_converted(tmp_path: Path) -> None:
    lon, lat = pyproj.Transformer.from_crs(CRS, "EPSG:4326", always_xy=True).transform(X, Y)
    path = tmp_path / "points.csv"
    path.write_text("x,y,z\n" + "".join(f"{a:.12f},{b:.12f},{c}\n" for a, b, c in zip(lon, lat, Z, strict=True)))
    found = read_check_points(path, CRS, VERTICAL, "EPSG:4326")
    assert np.allclose(found.x, X, atol=0.01)
    assert np.allclose(found.z, Z)
    assert "datum is not known" in found.notes[0]


def test_feet_are_feet(tmp_path: Path) -> None:
    path = tmp_path / "points.csv"
    path.write_text("x,y,z\n1640416.67,500000,100\n")
    found = read_check_points(path, "EPSG:2257", None, "EPSG:2257+6360")  # New Mexico East, NAVD88 in US survey feet
    assert found.z == pytest.approx([30.48006096])


@pytest.mark.parametrize("feet", ["EPSG:32613+6360", "EPSG:2257+6360"])
def test_feet_above_the_datum_of_the_run_are_converted_once(tmp_path: Path, feet: str) -> None:
    path = tmp_path / "points.csv"
    x, y = pyproj.Transformer.from_crs("EPSG:32613", feet.split("+")[0], always_xy=True).transform(500_000, 3_900_000)
    path.write_text(f"x,y,z\n{x},{y},{100 * 3937 / 1200}\n")
    found = read_check_points(path, "EPSG:32613", "EPSG:5703", feet)
    assert found.z == pytest.approx([100.0], abs=1e-6)
    assert (found.x[0], found.y[0]) == pytest.approx((500_000, 3_900_000), abs=0.01)


def test_heights_of_a_projected_crs_of_three_axes_are_above_its_ellipsoid(tmp_path: Path) -> None:
    path = tmp_path / "points.csv"
    path.write_text("x,y,z\n500000,3900000,100\n")
    found = read_check_points(path, "EPSG:32613", "EPSG:4979", pyproj.CRS("EPSG:32613").to_3d().to_wkt())
    assert found.z == pytest.approx([100.0])
    assert found.notes == ()


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    path = tmp_path / "points.csv"
    path.write_text("x,y,z\n1,2,3\n")
    with pytest.raises(InputError, match="check_crs"):
        read_check_points(path, CRS, VERTICAL)
    with pytest.raises(InputError, match="check_crs: 'RD' is none"):
        read_check_points(path, CRS, VERTICAL, "RD")
    with pytest.raises(DataError, match="missing"):
        read_check_points(tmp_path / "missing.csv", CRS, VERTICAL, CRS)
    path.write_text("x,y,height\n1,2,3\n")
    with pytest.raises(InputError, match="no column z"):
        read_check_points(path, CRS, VERTICAL, CRS)
    path.write_text("x,y,z\n1,2,none\n")
    with pytest.raises(NothingFound, match="no point"):
        read_check_points(path, CRS, VERTICAL, CRS)
    flat = gpd.GeoDataFrame(geometry=shapely.points(X, Y), crs=CRS)
    flat.to_file(tmp_path / "flat.gpkg")
    with pytest.raises(InputError, match="no heights"):
        read_check_points(tmp_path / "flat.gpkg", CRS, VERTICAL)
    gpd.GeoDataFrame(geometry=[shapely.box(0, 0, 1, 1)], crs=CRS).to_file(tmp_path / "box.gpkg")
    with pytest.raises(InputError, match="Polygon"):
        read_check_points(tmp_path / "box.gpkg", CRS, VERTICAL)


@pytest.mark.parametrize(
    ("numbers", "check_crs", "says"),
    [
        ("85000,447500,1", "EPSG:4979", "check_crs: by WGS 84 1 of 1 points of points.csv lie nowhere"),
        ("85000,447500,1", "EPSG:5703", "check_crs: NAVD88 height does not describe places"),
        ("85000,447500,1", "EPSG:4978", "check_crs: WGS 84 does not describe places"),
        ("1e30,1e30,1", "EPSG:32631", "check_crs: by WGS 84 / UTM zone 31N 1 of 1 points"),
        ("85000,447500,1", "IAU_2015:49900", "check_crs: PROJ knows no way from Mars"),
        ("4.4,52.0,1", "EPSG:4979", "Bessel"),
    ],
)
def test_points_that_lie_nowhere_are_refused(tmp_path: Path, numbers: str, check_crs: str, says: str) -> None:
    path = tmp_path / "points.csv"
    path.write_text(f"x,y,z\n{numbers}\n")
    with pytest.raises(InputError, match=says):
        read_check_points(path, CRS, VERTICAL, check_crs)


def test_a_check_crs_that_is_none_is_refused_beside_one_of_the_file(tmp_path: Path) -> None:
    frame(CRS, three=True).to_parquet(tmp_path / "points.parquet")
    with pytest.raises(InputError, match="check_crs: 'RD' is none"):
        read_check_points(tmp_path / "points.parquet", CRS, VERTICAL, "RD")


def test_heights_of_a_file_of_places_are_above_what_is_said(tmp_path: Path) -> None:
    shapes = gpd.points_from_xy([500_000.0], [3_900_000.0])
    gpd.GeoDataFrame({"z": [100 * 3937 / 1200]}, geometry=shapes, crs="EPSG:32613").to_file(tmp_path / "p.gpkg")
    for said in ("EPSG:6360", "EPSG:32613+6360"):
        found = read_check_points(tmp_path / "p.gpkg", "EPSG:32613", "EPSG:5703", said)
        assert found.z == pytest.approx([100.0])
        assert found.notes == ()
    found = read_check_points(tmp_path / "p.gpkg", "EPSG:32613", "EPSG:4979", "EPSG:4979")
    assert found.z == pytest.approx([100 * 3937 / 1200])
    assert found.notes == ()


def test_files_without_points_are_refused(tmp_path: Path) -> None:
    table = tmp_path / "table.gpkg"
    pyogrio.write_dataframe(pd.DataFrame({"x": [1.0], "y": [2.0], "z": [3.0]}), table)
    with pytest.raises(InputError, match=r"check_points: .* has no layer with geometries"):
        read_check_points(table, CRS, VERTICAL, "EPSG:7415")
    with pytest.raises(InputError, match="elsewhere") as caught:
        read_check_points("https://host.example/points.gpkg?sig=S3CRET", CRS, VERTICAL)
    assert "S3CRET" not in str(caught.value)


def test_rows_without_a_number_are_left_out_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "points.csv"
    path.write_text("x,y,z\n1,2,3\n1,,3\n1,2,nan\n")
    found = read_check_points(path, CRS, VERTICAL, "EPSG:7415")
    assert len(found.z) == 1
    assert found.notes[0].startswith("2 check points")


def test_numbers_are_those_of_normal_errors() -> None:
    rng = np.random.default_rng(0)
    errors = rng.normal(0.1, 0.5, 40_000)
    found = summary(errors, rng.integers(0, 100, len(errors)))
    assert found["mean"] == pytest.approx(0.1, abs=0.01)
    assert found["rmse"] == pytest.approx(np.hypot(0.1, 0.5), rel=0.01)
    assert found["nmad"] == pytest.approx(0.5, rel=0.02)
    assert found["le68"] < found["le90"] < found["le95"]
    low, high = found["intervals"]["rmse"]
    assert low < found["rmse"] < high
    assert high - low < 0.05


def test_a_wild_error_moves_the_rmse_and_not_the_nmad() -> None:
    errors = np.r_[np.linspace(-0.1, 0.1, 101), 50.0]
    assert summary(errors, np.zeros(102, int))["rmse"] > 4
    assert nmad(errors) == pytest.approx(nmad(errors[:-1]), rel=0.05)
    assert "intervals" not in summary(errors, np.zeros(102, int))  # one square


def test_intervals_hold_what_whole_squares_do() -> None:
    """Where a square errs as one, drawing points would give an interval several times too narrow."""
    rng = np.random.default_rng(1)
    square = np.repeat(np.arange(40), 100)
    together, apart = rng.normal(0, 1, 40)[square], rng.normal(0, 1, 4000)
    widths = [np.ptp(summary(e, square)["intervals"]["rmse"]) for e in (together, apart)]
    assert widths[0] > 4 * widths[1]


def test_squares_lie_on_the_lattice() -> None:
    found = squares(np.array([0.0, 49.9, 50.0, 120.0]), np.array([0.0, 0.0, 0.0, -1.0]))
    assert found[0] == found[1]
    assert len(set(found.tolist())) == 3


def test_assessed_by_class_with_what_is_not_covered() -> None:
    n = 400
    rng = np.random.default_rng(2)
    x, y = rng.random((2, n)) * 500
    truth = rng.random(n)
    slope, distance = np.where(x < 250, 2.0, 20.0), np.where(y < 250, 0.1, 7.0)
    dtm = truth + np.where(slope > 5, 0.5, 0.1)
    dtm[:100] = np.nan
    found = assessed(CheckPoints(x, y, truth, ("said",)), {"dtm": dtm, "slope": slope, "distance": distance})
    assert found["all"]["complete"] == 0.75
    assert found["slope"]["0 to 5 °"]["rmse"] == pytest.approx(0.1)
    assert found["slope"]["15 to 30 °"]["median"] == pytest.approx(0.5)
    assert set(found["distance"]) == {"0 to 0.5 m", "5 to 10 m"}
    assert sum(v["n"] for v in found["distance"].values()) == found["all"]["n"] == 300
    assert found["notes"] == ["said"]
    assert len({len(row) for row in found["table"]}) == 1
    json.dumps(found, allow_nan=False)


def test_no_point_that_is_covered() -> None:
    nothing = np.full(3, np.nan)
    found = assessed(CheckPoints(X, Y, Z, ()), {"dtm": nothing, "slope": nothing, "distance": nothing})
    assert found["all"] == {"n": 0, "complete": 0.0}
    json.dumps(found, allow_nan=False)
