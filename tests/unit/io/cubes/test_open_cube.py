"""Made files of every kind, read back as the numbers that went in, and refused where they are not what they say."""

from __future__ import annotations

import datetime as dt
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pystac
import pytest
import rasterio
from affine import Affine

from geoml.errors import DataError, InputError, NothingFound
from geoml.io.cubes.classic import check_classic
from geoml.io.cubes.cube import Cube, open_cube
from geoml.io.cubes.spec import CubeSpec
from tests import made_cubes as made
from tests.made_cubes import frames, spec

HOURS = np.datetime64("2024-01-01T00", "s") + np.arange(4) * np.timedelta64(3600, "s")


def check(cube: Cube, truth: np.ndarray) -> None:
    assert len(cube) == len(truth)
    assert cube.shape == truth.shape[1:]
    for step, frame in enumerate(truth):
        read = cube.read(step)
        assert read.dtype == np.float32
        np.testing.assert_array_equal(read, frame.astype(np.float32))
    np.testing.assert_array_equal(cube.read(1, slice(1, 4), slice(2, 7)), truth[1, 1:4, 2:7])


def test_frames_of_geotiff_in_a_folder(tmp_path: Path) -> None:
    data = frames()
    with open_cube(made.tiffs(tmp_path / "a", data), spec("GeoTIFF")) as cube:
        check(cube, data)
        np.testing.assert_array_equal(cube.times, HOURS)
        assert (cube.crs, tuple(cube.transform)[:6]) == ("EPSG:32632", tuple(made.UTM)[:6])
        assert cube.step_of("2024-01-01T02:00:00Z") == cube.step_of(HOURS[2]) == 2
        with pytest.raises(InputError, match="no step of 2024-01-01T02:30:00"):
            cube.step_of("2024-01-01T02:30:00")


def test_files_in_any_order_and_a_missing_one(tmp_path: Path) -> None:
    data = frames()
    folder = made.tiffs(tmp_path / "a", data)
    paths = sorted(folder.iterdir())
    cube = open_cube([paths[3], paths[0], paths[1]], spec("GeoTIFF"))
    check(cube, data[[0, 1, 3]])
    np.testing.assert_array_equal(cube.times, HOURS[[0, 1, 3]])


def test_south_up_is_read_north_up(tmp_path: Path) -> None:
    data = frames(1)
    up = Affine(1000, 0, 600_000, 0, 1000, 5_894_000)
    path = made.tiff(tmp_path / "202401010000.tif", data[0, ::-1], transform=up)
    cube = open_cube(path, spec("GeoTIFF"))
    np.testing.assert_array_equal(cube.read(0), data[0])
    np.testing.assert_array_equal(cube.read(0, slice(4, 6)), data[0, 4:6])
    assert tuple(cube.transform)[:6] == tuple(made.UTM)[:6]


def test_nodata_masks_and_missing_numbers_all_count(tmp_path: Path) -> None:
    data = frames(1)
    path = made.tiff(tmp_path / "202401010000.tif", data[0], nodata=1)
    read = open_cube(path, spec("GeoTIFF", missing=[2])).read(0)
    assert np.isnan(read[0, :2]).all()
    assert np.isfinite(read).sum() == 46


def test_overviews_of_zeros_are_never_read(tmp_path: Path) -> None:
    """As FMI's files have them."""
    data = np.full((64, 64), 7, np.int16)
    path = made.tiff(tmp_path / "202401010000.tif", data * 0, tiled=True, blockxsize=16, blockysize=16)
    with rasterio.open(path, "r+") as file:
        file.build_overviews([2, 4], rasterio.enums.Resampling.average)
        file.write(data, 1)
    with rasterio.open(path) as file:
        assert file.read(1, out_shape=(16, 16)).max() == 0
    assert open_cube(path, spec("GeoTIFF")).read(0).min() == 7


def test_items_of_a_catalog(tmp_path: Path) -> None:
    data = frames(2)
    items = []
    for k in (1, 0):
        path = made.tiff(tmp_path / f"{k}.tif", data[k])
        item = pystac.Item(f"i{k}", None, None, HOURS[k].item(), {})
        item.add_asset("image", pystac.Asset(f"./{path.name}"))
        item.set_self_href(str(tmp_path / f"{k}.json"))
        items.append(item)
    wanted = spec("GeoTIFF", time={"source": "item"}, variable="image")
    check(open_cube(items, wanted), data)
    items[0].assets["image"].href = "../../elsewhere.tif"
    with pytest.raises(InputError, match=r"i1|elsewhere"):
        open_cube(items, wanted)


@pytest.mark.parametrize("kind", ["NETCDF4", "NETCDF3_CLASSIC"])
def test_netcdf(tmp_path: Path, kind: str) -> None:
    data = frames()
    data[2, 0, 0] = -9
    path = made.netcdf(tmp_path / "a.nc", data, range(4), kind=kind, fill=-9)
    truth = data.astype(np.float32)
    truth[2, 0, 0] = np.nan
    cube = open_cube(path, spec("netCDF"))
    check(cube, truth)
    np.testing.assert_array_equal(cube.times, HOURS)
    assert tuple(cube.transform)[:6] == (1, 0, -0.5, 0, -1, 55.5)


def test_netcdf_south_up_scaled_and_around_the_earth(tmp_path: Path) -> None:
    data = frames(2, (6, 12))
    west, north = [k * 30.0 for k in range(12)], [50.0 + k for k in range(6)]
    about = {"scale_factor": 0.5, "add_offset": 3.0}
    path = made.netcdf(tmp_path / "a.nc", data, range(2), x=west, y=north, attributes=about)
    cube = open_cube(path, spec("netCDF"))
    truth = np.roll(data[:, ::-1], 6, axis=2) * 0.5 + 3
    check(cube, truth)
    assert tuple(cube.transform)[:6] == (30, 0, -195, 0, -1, 55.5)


def test_days_of_another_calendar_stay(tmp_path: Path) -> None:
    data = frames(4)
    about = {"units": "days since 2095-01-01", "calendar": "360_day"}
    path = made.netcdf(tmp_path / "a.nc", data, [57, 58, 59, 60], **about)
    cube = open_cube(path, spec("netCDF", step="P1D", time={"calendar": "360_day"}))
    assert [str(t)[:10] for t in cube.times] == ["2095-02-28", "2095-02-29", "2095-02-30", "2095-03-01"]
    assert cube.step_of("2095-02-30T00:00:00") == 2
    with pytest.raises(DataError, match=r"calendar 360_day; expected time.calendar standard"):
        open_cube(path, spec("netCDF", step="P1D"))


def test_hdf5_as_knmi_has_it(tmp_path: Path) -> None:
    data = frames(2, (765, 700)).astype(np.uint16) % 9000
    data[0, :3] = 65535
    corners = (0, 49.362, 0, 55.974, 10.856, 55.389, 9.009, 48.895)
    for k in range(2):
        made.hdf5(tmp_path / f"RAD_NL25_RAP_5min_20240101000{5 * k}.h5", data[k], corners=corners)
    from geoml.io.cubes.spec import load_cube_spec

    cube = open_cube(tmp_path, load_cube_spec("knmi-radar").model_copy(update={"plausible": (0.0, 1e5)}))
    assert [str(t) for t in cube.times] == ["2024-01-01T00:00:00", "2024-01-01T00:05:00"]
    read = cube.read(0)
    assert np.isnan(read[:3]).all()
    np.testing.assert_allclose(read[3:], data[0, 3:] * 0.12, rtol=1e-6)
    assert tuple(cube.transform)[:6] == (1000, 0, 0, 0, -1000, -3_650_000)


def grib_spec(**changes: object) -> CubeSpec:
    known = {"name": "air_temperature", "file_unit": "K", "unit": "K", "plausible": [170, 340]}
    return spec("GRIB", **{**known, **changes})


def test_grib_messages_in_any_order_among_others(tmp_path: Path) -> None:
    data = frames(3) / 100
    messages = [made.message(data[k], day=k + 1) for k in (2, 0, 1)]
    messages += [made.message(data[0], "3 0", level=made.SURFACE), made.message(data[1] + 9, level="103 0 10 255 0 0")]
    path = made.grib(tmp_path / "a.grib2", messages)
    cube = open_cube(path, grib_spec(level="2-HTGL", step="P1D"))
    for step in range(3):
        np.testing.assert_allclose(cube.read(step), data[step] + 273.15, atol=1e-4)
    assert [str(t)[:10] for t in cube.times] == ["2024-01-01", "2024-01-02", "2024-01-03"]
    with pytest.raises(DataError, match="TMP has 2 levels; expected level"):
        open_cube(path, grib_spec(step="P1D"))
    with pytest.raises(DataError, match=r"no message of DPT; it has 4 x TMP|3 x TMP"):
        open_cube(path, grib_spec(variable="DPT"))


def test_forecasts_of_grib_are_told_apart_from_analyses(tmp_path: Path) -> None:
    data = frames(3) / 100
    path = made.grib(tmp_path / "a.grib2", [made.message(data[k], ahead=k) for k in range(3)])
    with pytest.raises(DataError, match="band 2 and 1 more: a forecast of 2024-01-01T00:00:00"):
        open_cube(path, grib_spec())
    cube = open_cube(path, grib_spec(time={"forecast": True}))
    assert cube.reference_time == np.datetime64("2024-01-01T00:00:00")
    np.testing.assert_array_equal(cube.times, HOURS[:3])
    two = made.grib(tmp_path / "b.grib2", [made.message(data[0], ahead=24), made.message(data[1], day=3)])
    with pytest.raises(DataError, match=r"2 reference times .2024-01-01T00:00:00, 2024-01-03T00:00:00."):
        open_cube(two, grib_spec(time={"forecast": True}, step="P1D"))


RAIN = {"variable": "APCP", "file_unit": "kg m-2", "unit": "mm/h", "conversion": "rate", "step": "PT6H"}


def test_sums_that_share_a_step_are_told_apart(tmp_path: Path) -> None:
    """0 to 12 and 6 to 12 hours both end at noon; cfgrib keeps one of them."""
    one = np.ones((6, 8))
    rain = {"element": "1 8", "level": made.SURFACE}
    sums = [made.message(6 * one, hours=6, **rain), made.message(18 * one, hours=12, **rain)]
    own = made.message(30 * one, ahead=6, hours=6, **rain)
    path = made.grib(tmp_path / "a.grib2", [*sums, own])
    when = {"forecast": True, "label": "end"}
    with open_cube(path, spec("GRIB", **RAIN, accumulated=True, time=when)) as cube:
        assert [float(cube.read(k).mean()) for k in range(2)] == [1.0, 2.0]
    with open_cube(path, spec("GRIB", **RAIN, time=when)) as cube:
        assert [float(cube.read(k).mean()) for k in range(2)] == [1.0, 5.0]
    with pytest.raises(DataError, match=r"time.label end"):
        open_cube(path, spec("GRIB", **RAIN, time={"forecast": True}))


def test_a_sum_without_the_one_before_is_missing_and_one_that_falls_an_error(tmp_path: Path) -> None:
    one = np.ones((6, 8))
    rain = {"element": "1 8", "level": made.SURFACE}
    when = {"forecast": True, "label": "end"}
    wanted = spec("GRIB", **RAIN, accumulated=True, time=when)
    late = made.grib(tmp_path / "a.grib2", [made.message(h * one, hours=h, **rain) for h in (6, 18, 24)])
    with open_cube(late, wanted) as cube:
        means = [float(cube.read(k).mean()) for k in range(3)]
    np.testing.assert_array_equal(means, [1.0, np.nan, 1.0])
    falls = made.grib(tmp_path / "b.grib2", [made.message((18 - h) * one, hours=h, **rain) for h in (6, 12)])
    with open_cube(falls, wanted) as cube, pytest.raises(DataError, match=r"b.grib2 .band 2.*falls by 6"):
        cube.read(1)


def test_two_frames_of_one_time_are_named_with_their_count(tmp_path: Path) -> None:
    folder = made.tiffs(tmp_path / "a", frames(2))
    (folder / "more").mkdir()
    shutil.copy(folder / "202401010000.tif", folder / "more")
    with pytest.raises(DataError, match=r"2 frames of 2024-01-01T00:00:00: .*202401010000.tif .* and .*more/2024"):
        open_cube([folder, folder / "more"], spec("GeoTIFF"))
    double = made.grib(tmp_path / "a.grib2", [made.message(frames(1)[0] / 10)] * 2)
    with pytest.raises(DataError, match=r"2 frames of 2024-01-01.* \(band 1\) and .* \(band 2\)"):
        open_cube(double, grib_spec())


def _other_shape(path: Path) -> None:
    made.tiff(path, frames(1, (5, 8))[0])


def _other_place(path: Path) -> None:
    made.tiff(path, frames(1)[0], transform=made.UTM @ Affine.translation(1, 0))


def _other_crs(path: Path) -> None:
    made.tiff(path, frames(1)[0], crs="EPSG:32633")


def _other_unit(path: Path) -> None:
    made.tiff(path, frames(1)[0])
    with rasterio.open(path, "r+") as file:
        file.units = ("mm",)


def _no_tiff(path: Path) -> None:
    path.write_text("<VRTDataset/>")


def _half_of_it(path: Path) -> None:
    made.tiff(path, frames(1)[0])
    path.write_bytes(path.read_bytes()[:200])


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (_other_shape, "8 x 5 pixels; expected 8 x 6"),
        (_other_place, "1 pixels off"),
        (_other_crs, "CRS WGS 84 / UTM zone 33N"),
        (_other_unit, "unit is 'mm'"),
        (_no_tiff, "not GeoTIFF, it starts with b'<VRT"),
        (_half_of_it, ""),
    ],
)
def test_an_odd_frame_is_named(tmp_path: Path, change: Callable[[Path], None], why: str) -> None:
    folder = made.tiffs(tmp_path / "a", frames(2))
    change(folder / "202401010200.tif")
    with pytest.raises(DataError, match=rf"202401010200.tif.*{why}"):
        open_cube(folder, spec("GeoTIFF"))


def test_a_frame_that_is_cut_short_inside_is_an_error_of_its_step(tmp_path: Path) -> None:
    folder = made.tiffs(tmp_path / "a", frames(2, (64, 64)), compress="deflate")
    path = folder / "202401010100.tif"
    path.write_bytes(path.read_bytes()[:-2000])
    with open_cube(folder, spec("GeoTIFF", plausible=[0, 1e5])) as cube:
        assert np.isfinite(cube.read(0)).all()
        with pytest.raises(DataError, match=r"202401010100.tif"):
            cube.read(1)


@pytest.mark.parametrize(
    ("times", "why"),
    [
        ([0, 1, 1, 2], "appears twice .1 of 4"),
        ([0, 2, 1, 3], "out of order"),
        ([0, 1, 2, 90], "appended in another unit"),
        ([0, 1, 2, 3.6], "out of step"),
    ],
)
def test_odd_axes_of_netcdf_are_refused(tmp_path: Path, times: list[float], why: str) -> None:
    path = made.netcdf(tmp_path / "a.nc", frames(), times)
    with pytest.raises(DataError, match=rf"a.nc.*{why}"):
        open_cube(path, spec("netCDF"))


def test_a_tag_of_celsius_over_kelvin_is_refused_by_unit_or_by_range(tmp_path: Path) -> None:
    path = made.netcdf(tmp_path / "a.nc", frames().astype(np.float32) / 100 + 273, range(4), unit="degC")
    with pytest.raises(DataError, match="its unit is 'degC'; expected file_unit K"):
        open_cube(path, spec("netCDF", file_unit="K", unit="K", plausible=[170, 340]))
    cube = open_cube(path, spec("netCDF", file_unit="degC", unit="K", plausible=[170, 340]))
    with pytest.raises(DataError, match=r"a.nc .band 1.*48 of 48 values .* not plausible"):
        cube.read(0)


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("http://127.0.0.1/a.nc", "not a local path"),
        ("dods://h/a.nc", "not a local path"),
        ("nowhere", "does not exist"),
    ],
)
def test_what_is_no_local_file_is_asked_wrongly(source: str, why: str) -> None:
    with pytest.raises(InputError, match=why):
        open_cube(source, spec("netCDF"))


@pytest.mark.parametrize("variable", ['a":b', "a:b", "nothing"])
def test_names_of_variables_are_names(tmp_path: Path, variable: str) -> None:
    path = made.netcdf(tmp_path / "a.nc", frames(), range(4))
    with pytest.raises((InputError, DataError), match=r"expected another|a.nc"):
        open_cube(path, spec("netCDF", variable=variable))


def test_a_folder_without_such_files_is_asked_wrongly(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no file '\*.tif'"):
        open_cube(tmp_path, spec("GeoTIFF", files="*.tif"))


def test_a_name_that_says_no_time_is_a_fault_of_its_file(tmp_path: Path) -> None:
    made.tiff(tmp_path / "noon.tif", frames(1)[0])
    with pytest.raises(DataError, match=r"'noon.tif' does not fit time.pattern"):
        open_cube(tmp_path, spec("GeoTIFF"))


@pytest.mark.parametrize(("step", "rows"), [(4, None), (-1, None), (0, slice(0, 7)), (0, slice(3, 3))])
def test_steps_and_windows_that_are_not_there(tmp_path: Path, step: int, rows: slice | None) -> None:
    cube = open_cube(made.tiffs(tmp_path / "a", frames()), spec("GeoTIFF"))
    with pytest.raises(InputError, match="expected"):
        cube.read(step, rows)


@pytest.mark.parametrize("label", ["instant", "start", "end"])
def test_what_comes_after_is_not_there_and_not_even_opened(tmp_path: Path, label: str) -> None:
    """Damaged, twice, out of step, on another grid: later frames change nothing."""
    data = frames()
    folder = made.tiffs(tmp_path / "a", data)
    wanted = spec("GeoTIFF", time={"source": "name", "pattern": "%Y%m%d%H%M.tif", "label": label})
    noon = dt.datetime(2024, 1, 1, 2, tzinfo=dt.UTC)
    before = open_cube(folder, wanted, until=noon)
    assert len(before) == (2 if label == "start" else 3)
    (folder / "202401010300.tif").write_text("damaged")
    _other_shape(folder / "202401010301.tif")
    after = open_cube(folder, wanted, until=noon)
    np.testing.assert_array_equal(after.times, before.times)
    check(after, data[: len(after)])
    with pytest.raises(DataError, match=r"202401010300.tif: not GeoTIFF"):
        open_cube(folder, wanted)
    with pytest.raises(NothingFound, match="no step of rainfall_rate is known by 2023"):
        open_cube(folder, wanted, until=noon.replace(year=2023))


def test_later_times_of_an_axis_say_nothing(tmp_path: Path) -> None:
    path = made.netcdf(tmp_path / "a.nc", frames(), [0, 1, 2, 2])
    noon = dt.datetime(2024, 1, 1, 1, tzinfo=dt.UTC)
    check(open_cube(path, spec("netCDF"), until=noon), frames()[:2])
    with pytest.raises(DataError, match="appears twice"):
        open_cube(path, spec("netCDF"))


def test_a_forecast_is_known_at_its_reference_time(tmp_path: Path) -> None:
    data = frames(2) / 10
    path = made.grib(tmp_path / "a.grib2", [made.message(data[0], ahead=24), made.message(data[1], ahead=24, day=2)])
    wanted = grib_spec(time={"forecast": True}, step="P1D")
    cube = open_cube(path, wanted, until=dt.datetime(2024, 1, 1, 12, tzinfo=dt.UTC))
    assert [str(t) for t in cube.times] == ["2024-01-02T00:00:00"]
    with pytest.raises(NothingFound):
        open_cube(path, wanted, until=dt.datetime(2023, 12, 31, tzinfo=dt.UTC))


def test_valid_ranges_of_cf_are_missing_data(tmp_path: Path) -> None:
    about = {"valid_range": np.array([3, 40], np.int16)}
    path = made.netcdf(tmp_path / "a.nc", frames(1), [0], attributes=about)
    read = open_cube(path, spec("netCDF")).read(0)
    np.testing.assert_array_equal(np.isfinite(read), (frames(1)[0] >= 3) & (frames(1)[0] <= 40))


def test_a_fill_value_that_its_type_cannot_hold_says_nothing(tmp_path: Path) -> None:
    path = made.netcdf(tmp_path / "a.nc", frames(1), [0], attributes={"missing_value": 1e20})
    np.testing.assert_array_equal(open_cube(path, spec("netCDF")).read(0), frames(1)[0])


def test_a_frame_without_any_value_is_a_frame(tmp_path: Path) -> None:
    path = made.tiff(tmp_path / "202401010000.tif", np.full((6, 8), np.nan, np.float32))
    assert np.isnan(open_cube(path, spec("GeoTIFF")).read(0)).all()


def test_a_link_keeps_its_name(tmp_path: Path) -> None:
    made.tiff(tmp_path / "blob", frames(1)[0])
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "202401010000.tif").symlink_to(tmp_path / "blob")
    np.testing.assert_array_equal(open_cube(tmp_path / "a", spec("GeoTIFF")).read(0), frames(1)[0])


@pytest.mark.parametrize("kind", ["NETCDF4", "NETCDF3_CLASSIC", "NETCDF3_64BIT_OFFSET", "NETCDF3_64BIT_DATA"])
def test_several_numbers_where_cf_has_one_are_refused(tmp_path: Path, kind: str) -> None:
    good = made.netcdf(tmp_path / "good.nc", frames(), range(4), kind=kind, attributes={"valid_min": np.int16(0)})
    if kind == "NETCDF3_64BIT_DATA":
        check_classic(good)  # GDAL of rasterio's wheels does not read them
    else:
        check(open_cube(good, spec("netCDF")), frames())
    about = {"valid_min": np.array([0, 1], np.int16)}
    path = made.netcdf(tmp_path / "a.nc", frames(), range(4), kind=kind, attributes=about)
    with pytest.raises(DataError, match=r"a.nc: /?rain: valid_min has 2 values; expected one"):
        open_cube(path, spec("netCDF"))


@pytest.mark.parametrize("keep", [4, 30, 200])
def test_a_classic_header_cut_short_is_an_error_of_ours(tmp_path: Path, keep: int) -> None:
    path = made.netcdf(tmp_path / "a.nc", frames(), range(4), kind="NETCDF3_CLASSIC")
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match=rf"a.nc: not a readable header of netCDF .it ends after {keep} bytes"):
        open_cube(path, spec("netCDF"))
