"""Cubes as catalogs of COGs: found by a search, read by a block, written once, and replaced when data are corrected."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyproj
import pystac
import pytest
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox

from geoml import pipeline
from geoml.cube.load import load
from geoml.errors import DataError, InputError
from geoml.io.cubes.catalog import item_id, write_catalog
from geoml.io.cubes.cube import open_cube
from geoml.io.stac.catalog import open_catalog
from tests import made_cubes as made
from tests.made_cubes import frames, spec


def items_of(catalog: Path) -> list[pystac.Item]:
    found = pystac.Catalog.from_file(str(catalog)).get_items(recursive=True)
    return sorted(found, key=lambda item: item.id)


def stamps(folder: Path) -> dict[str, int]:
    return {p.name: p.stat().st_mtime_ns for p in folder.rglob("*") if p.suffix in (".tif", ".json") and "-" in p.name}


def world(tmp_path: Path) -> Path:
    """Longitudes of 0 to 360 on a sphere, rows from the south."""
    data = frames(2, (6, 12))
    return made.netcdf(tmp_path / "a.nc", data, range(2), x=[30 * k for k in range(12)], y=[50 + k for k in range(6)])


def test_items_are_valid_and_their_files_hold_the_values(tmp_path: Path, stac_schemas: ModuleType) -> None:
    data = frames()
    when = {"source": "name", "pattern": "%Y%m%d%H%M.tif", "label": "end"}
    cube = open_cube(made.tiffs(tmp_path / "a", data), spec("GeoTIFF", time=when, missing=[1]))
    catalog = write_catalog(cube, [0, 2, 3], tmp_path / "out")
    found = items_of(catalog)
    assert [i.id for i in found] == [f"rainfall_rate-20240101T0{k}0000Z" for k in (0, 2, 3)]
    for item, step in zip(found, (0, 2, 3), strict=True):
        stac_schemas.validate(json.loads(Path(item.get_self_href() or "").read_text()))
        assert item.properties["datetime"] == item.properties["end_datetime"] == f"2024-01-01T0{step}:00:00Z"
        start = np.datetime64("2023-12-31T23", "s") + step * np.timedelta64(3600, "s")
        assert item.properties["start_datetime"] == f"{start}Z"
        assert item.properties["proj:code"] == "EPSG:32632"
        asset = item.assets["rainfall_rate"]
        assert asset.extra_fields["bands"][0] | {"statistics": 0} == {
            "name": "rainfall_rate", "data_type": "float32", "nodata": "nan", "unit": "mm/h", "statistics": 0,
        }  # fmt: skip
        with rasterio.open(asset.get_absolute_href()) as file:
            assert (file.driver, file.dtypes, file.block_shapes) == ("GTiff", ("float32",), [(512, 512)])
            assert math.isnan(file.nodata)
            assert tuple(file.transform) == tuple(made.UTM)
            np.testing.assert_array_equal(file.read(1), cube.read(step))
    stac_schemas.validate(json.loads((tmp_path / "out" / "collection.json").read_text()))
    assert np.isnan(cube.read(0)[0, 0])


def test_a_search_finds_them_and_a_block_reads_a_window(tmp_path: Path) -> None:
    data = frames()
    cube = open_cube(made.tiffs(tmp_path / "a", data), spec("GeoTIFF"))
    path = write_catalog(cube, range(4), tmp_path / "out")
    query: dict[str, Any] = {"catalog": str(path), "collection": "rainfall_rate", "bbox": (10.4, 53.1, 10.7, 53.3)}
    found = pipeline.search({**query, "datetime": "2024-01-01T01:00:00Z/2024-01-01T02:00:00Z"})
    assert sorted(i.id for i in found) == [item_id(cube, 1), item_id(cube, 2)]
    box = GeoBox((3, 5), cube.transform @ Affine.translation(2, 1), cube.crs)
    catalog = open_catalog(str(path))
    one = [i for i in found if i.id == item_id(cube, 2)]
    read = load(one, ["rainfall_rate"], box, profile=catalog.profile("rainfall_rate"), catalog=catalog).compute()
    np.testing.assert_array_equal(read["data"].values[0], data[2, 1:4, 2:7])
    assert (read["valid_count"].values == 1).all()


@pytest.mark.parametrize("kind", ["a sphere", "kilometres"])
def test_a_crs_without_a_code_survives(tmp_path: Path, kind: str, stac_schemas: ModuleType) -> None:
    if kind == "a sphere":
        cube = open_cube(world(tmp_path), spec("netCDF"))
    else:
        made.hdf5(tmp_path / "202401010000.h5", frames(1, (64, 80))[0])
        place = {
            "crs": "geographic_map_projection_projection_proj4_params",
            "pixel": ["geographic_geo_pixel_size_x", "geographic_geo_pixel_size_y"],
            "offset": ["geographic_geo_column_offset", "geographic_geo_row_offset"],
            "unit": "km",
        }
        when = {"source": "name", "pattern": "%Y%m%d%H%M.h5"}
        cube = open_cube(tmp_path, spec("HDF5", time=when, position=place, plausible=[0, 9999]))
    path = write_catalog(cube, [0], tmp_path / "out")
    item = items_of(path)[0]
    stac_schemas.validate(json.loads(Path(item.get_self_href() or "").read_text()))
    about = item.properties
    assert about["proj:code"] is None
    crs = pyproj.CRS.from_json_dict(about["proj:projjson"])
    assert crs == pyproj.CRS.from_wkt(about["proj:wkt2"]) == pyproj.CRS.from_user_input(cube.crs)
    catalog = open_catalog(str(path))
    box = GeoBox((4, 5), cube.transform @ Affine.translation(3, 1), cube.crs)
    read = load([item], [cube.variable], box, profile=catalog.profile(cube.variable), catalog=catalog).compute()
    np.testing.assert_array_equal(read["data"].values[0], cube.read(0, slice(1, 5), slice(3, 8)))


def test_the_world_is_the_whole_world_and_north_is_up(tmp_path: Path) -> None:
    cube = open_cube(world(tmp_path), spec("netCDF"))
    item = items_of(write_catalog(cube, [0, 1], tmp_path / "out"))[1]
    assert item.bbox == [-180, 49.5, 180, 55.5]
    with rasterio.open(item.assets["rainfall_rate"].get_absolute_href()) as file:
        assert file.transform.e < 0
        np.testing.assert_array_equal(file.read(1), np.roll(frames(2, (6, 12))[1, ::-1], 6, axis=1))


def test_what_is_there_is_not_written_again_and_what_differs_is(tmp_path: Path) -> None:
    data = frames()
    folder, out = made.tiffs(tmp_path / "a", data), tmp_path / "out"
    wanted = spec("GeoTIFF")
    write_catalog(open_cube(folder, wanted), [0, 1, 2], out)
    before = stamps(out)
    write_catalog(open_cube(folder, wanted), [1, 2, 3], out)
    after = stamps(out)
    assert {k: v for k, v in after.items() if k in before} == before
    assert len(after) == len(before) + 2
    assert json.loads((out / "collection.json").read_text())["extent"]["temporal"]["interval"] == [
        ["2024-01-01T00:00:00Z", "2024-01-01T03:00:00Z"]
    ]
    data[1, 0, 0] += 1  # corrected later
    made.tiffs(folder, data)
    write_catalog(open_cube(folder, wanted), range(4), out)
    last = stamps(out)
    assert len(last) == len(after)
    assert len(set(last) - set(after)) == 1, "one COG more, and the one that it replaces is gone"
    with rasterio.open(items_of(out / "catalog.json")[1].assets["rainfall_rate"].get_absolute_href()) as file:
        assert file.read(1)[0, 0] == data[1, 0, 0]


@pytest.mark.parametrize("harm", ["cut", "gone", "item"])
def test_what_is_damaged_is_written_again(tmp_path: Path, harm: str) -> None:
    cube, out = open_cube(made.tiffs(tmp_path / "a", frames(1)), spec("GeoTIFF")), tmp_path / "out"
    write_catalog(cube, [0], out)
    cog = next((out / "cogs").glob("*.tif"))
    whole = cog.read_bytes()
    if harm == "cut":
        cog.write_bytes(whole[:-10])
    elif harm == "gone":
        cog.unlink()
    else:
        next((out / "items").glob("*.json")).write_text("{")
    write_catalog(cube, [0], out)
    assert cog.read_bytes() == whole
    assert len(items_of(out / "catalog.json")) == 1


def test_an_error_leaves_the_steps_before_it_and_no_part(tmp_path: Path) -> None:
    data = frames(3)
    folder, out = made.tiffs(tmp_path / "a", data), tmp_path / "out"
    cube = open_cube(folder, spec("GeoTIFF", plausible=[0, 100]))
    with pytest.raises(DataError, match=r"202401010200.tif .*44 of 48 values|not plausible"):
        write_catalog(cube, range(3), out)
    assert all("new" not in p.name for p in out.rglob("*"))
    assert len(list((out / "items").glob("*.json"))) == len(list((out / "cogs").glob("*.tif"))) == 2


def test_another_cube_and_other_files_are_left_alone(tmp_path: Path) -> None:
    folder = made.tiffs(tmp_path / "a", frames(1))
    write_catalog(open_cube(folder, spec("GeoTIFF")), [0], tmp_path / "out")
    other = open_cube(folder, spec("GeoTIFF", step="PT5M"))
    with pytest.raises(InputError, match="a different step: PT1H; this one has PT5M"):
        write_catalog(other, [0], tmp_path / "out")
    with pytest.raises(InputError, match="contains other files, such as '20240101"):
        write_catalog(other, [0], folder)
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "collection.json").write_text("[]")
    with pytest.raises(InputError, match=r"collection.json is not of a cube"):
        write_catalog(other, [0], tmp_path / "odd")


def test_a_step_that_is_not_there_is_asked_wrongly(tmp_path: Path) -> None:
    cube = open_cube(made.tiffs(tmp_path / "a", frames(1)), spec("GeoTIFF"))
    with pytest.raises(InputError, match="steps: 1; expected 0 to 0"):
        write_catalog(cube, [0, 1], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_days_of_another_calendar_have_no_place_in_stac_and_months_have(tmp_path: Path) -> None:
    about: dict[str, Any] = {"units": "days since 2095-01-01", "calendar": "360_day"}
    days = open_cube(
        made.netcdf(tmp_path / "a.nc", frames(), range(57, 61), **about),
        spec("netCDF", step="P1D", time={"calendar": "360_day"}),
    )
    with pytest.raises(InputError, match="of the calendar 360_day has no place in STAC"):
        write_catalog(days, [0], tmp_path / "days")
    months = open_cube(
        made.netcdf(tmp_path / "b.nc", frames(), [15, 45, 75, 105], **about),
        spec("netCDF", step="P1M", time={"calendar": "360_day", "label": "middle"}),
    )
    item = items_of(write_catalog(months, [1], tmp_path / "months"))[0]
    assert item.properties["geoml:calendar"] == "360_day"
    assert (item.properties["start_datetime"][:10], item.properties["datetime"][:10]) == ("2095-02-01", "2095-03-01")


def test_items_of_a_forecast_say_from_when_on_it_was_known(tmp_path: Path, stac_schemas: ModuleType) -> None:
    path = made.grib(tmp_path / "a.grib2", [made.message(frames(1)[0] / 10, ahead=k) for k in range(3)])
    known = {"name": "air_temperature", "file_unit": "K", "unit": "K", "plausible": [170, 340]}
    cube = open_cube(path, spec("GRIB", **known, time={"forecast": True}))
    item = items_of(write_catalog(cube, [2], tmp_path / "out"))[0]
    stac_schemas.validate(json.loads(Path(item.get_self_href() or "").read_text()))
    assert item.id == "air_temperature-20240101T020000Z-of-20240101T000000Z"
    assert item.properties["forecast:reference_datetime"] == "2024-01-01T00:00:00Z"
    assert item.properties["forecast:horizon"] == "PT2H"


def test_memory_is_that_of_strips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No read asks for more than 512 rows."""
    cube = open_cube(made.tiffs(tmp_path / "a", frames(1, (1100, 20)), tiled=True), spec("GeoTIFF", plausible=[0, 1e5]))
    asked: list[int] = []
    read = type(cube).read

    def counted(self: Any, step: int, rows: slice | None = None, columns: slice | None = None) -> Any:
        asked.append(self.shape[0] if rows is None else rows.stop - rows.start)
        return read(self, step, rows, columns)

    monkeypatch.setattr(type(cube), "read", counted)
    write_catalog(cube, [0], tmp_path / "out")
    assert asked == [512, 512, 76]


def test_all_dry_and_nothing_seen_are_two_frames(tmp_path: Path, stac_schemas: ModuleType) -> None:
    data = np.stack([np.zeros((6, 8), np.float32), np.full((6, 8), np.nan, np.float32)])
    cube = open_cube(made.tiffs(tmp_path / "a", data), spec("GeoTIFF"))
    dry, unseen = items_of(write_catalog(cube, [0, 1], tmp_path / "out"))
    for item, truth in ((dry, data[0]), (unseen, data[1])):
        stac_schemas.validate(json.loads(Path(item.get_self_href() or "").read_text()))
        with rasterio.open(item.assets["rainfall_rate"].get_absolute_href()) as file:
            np.testing.assert_array_equal(file.read(1), truth)
