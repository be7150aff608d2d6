"""The shipped cubes on the files that they were written for, against h5py, netCDF4, GDAL's own tags and the numbers of
the data's descriptions."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import h5py
import netCDF4
import numpy as np
import pyproj
import pytest
import rasterio

from geoml import pipeline
from geoml.cube.load import load
from geoml.errors import InputError
from geoml.io.cubes.catalog import item_id, write_catalog
from geoml.io.cubes.cube import Cube, open_cube
from geoml.io.cubes.spec import cube_names, load_cube_spec
from geoml.io.stac.catalog import open_catalog

pytestmark = pytest.mark.data

FOLDERS = {
    "a1b-temperature": "climate_grids",
    "eolearn-ndvi": "../timeseries/eolearn_testeopatch/TestEOPatch",
    "era5-t2m": "era5_uk",
    "fmi-radar": "fmi_radar",
    "hadgem-tasmax": "climate_grids",
    "knmi-radar": "knmi_radar",
    "mrms": "mrms_radar",
    "ostia-monthly": "climate_grids",
}


def data(name: str) -> Path:
    return Path(os.environ["GEOML_DATA"]) / "forecasting" / FOLDERS[name]


def cube(name: str) -> Cube:
    return open_cube(data(name), load_cube_spec(name))


def test_every_shipped_cube_is_tried_here() -> None:
    assert cube_names() == sorted(FOLDERS)


def test_knmi_radar() -> None:
    """Numbers by h5py, corners as KNMI's own software has them; 65535 is outside of the radars."""
    made = cube("knmi-radar")
    files = sorted(data("knmi-radar").glob("*.h5"))
    assert len(made) == len(files) == 74
    assert [str(made.times[k]) for k in (0, -1)] == ["2010-08-26T00:00:00", "2010-08-26T06:05:00"]
    for step in (0, 40, 73):
        with h5py.File(files[step]) as file:
            numbers = file["image1/image_data"][:]
            ends = file["overview"].attrs["product_datetime_end"][0].decode()
        assert ends.startswith(f"26-AUG-2010;{str(made.times[step])[11:]}")
        truth = np.where(numbers == 65535, np.nan, numbers * 0.01 * 12)
        np.testing.assert_allclose(made.read(step), truth, rtol=1e-6)
    assert np.isnan(made.read(0)).mean() == pytest.approx(0.7437, abs=1e-4)
    to = pyproj.Transformer.from_crs(made.crs, "EPSG:4326", always_xy=True)
    corners = [made.transform @ p for p in ((0, 765), (0, 0), (700, 0), (700, 765))]
    declared = [(0, 49.362), (0, 55.974), (10.856, 55.389), (9.009, 48.895)]
    np.testing.assert_allclose([to.transform(*c) for c in corners], declared, atol=2e-3)


def test_fmi_radar() -> None:
    made = cube("fmi-radar")
    files = sorted(data("fmi-radar").glob("*.tif"))
    assert len(made) == len(files) == 40
    assert (str(made.times[0]), made.crs) == ("2016-09-28T14:45:00", "EPSG:3067")
    with rasterio.open(files[3]) as file:
        numbers = file.read(1)
        assert '<Item name="Gain">0.500000' in file.tags()["GDAL_METADATA"]
    rain = (10 ** (np.minimum(numbers * 0.5 - 32.0, 53) / 10) / 200) ** (1 / 1.6)
    truth = np.where(numbers == 255, np.nan, np.where(numbers == 0, 0, rain))
    np.testing.assert_allclose(made.read(3), truth, rtol=1e-5)


def test_mrms() -> None:
    """-3 is no coverage: 36 % of the frame, and no tag says so."""
    made = cube("mrms")
    assert (len(made), made.shape) == (8, (3500, 7000))
    with rasterio.open(made.files[2]) as file:
        numbers = file.read(1)
    truth = np.where(numbers == -3, np.nan, numbers).astype(np.float32)
    np.testing.assert_array_equal(made.read(2), truth)
    assert np.isnan(truth).mean() == pytest.approx(0.358, abs=1e-3)
    np.testing.assert_array_equal(made.read(2, slice(1000, 1010), slice(3000, 3020)), truth[1000:1010, 3000:3020])


def test_eolearn_ndvi() -> None:
    """68 dates of 67 days, clouds as what is missing."""
    made, folder = cube("eolearn-ndvi"), data("eolearn-ndvi")
    values, clouds = np.load(folder / "data/NDVI.npy")[..., 0], np.load(folder / "mask/CLM.npy")[..., 0] > 0
    dates = [text[:10] for text in json.loads((folder / "timestamps.json").read_text())]
    assert (len(dates), len(made), made.shape) == (68, 67, values.shape[1:])
    for step in (0, 33, 66):
        (at,) = (k for k, date in enumerate(dates) if date == str(made.times[step])[:10])
        np.testing.assert_allclose(made.read(step), np.where(clouds[at], np.nan, values[at]), atol=1e-6)


def test_era5() -> None:
    """Pixel centres on round numbers, kelvin as GRIB has it; each message has the time of its own tags."""
    made = cube("era5-t2m")
    assert (len(made), made.shape) == (600, (33, 49))
    np.testing.assert_array_equal(np.diff(made.times), np.timedelta64(3600, "s"))
    assert made.transform @ (0.5, 0.5) == (-10.0, 58.0)
    path = next(data("era5-t2m").glob("*.grib"))
    with rasterio.Env(GRIB_NORMALIZE_UNITS="NO"), rasterio.open(path) as file:
        for step in (0, 300, 599):
            tags = file.tags(step + 1)
            assert made.times[step] == np.datetime64(int(tags["GRIB_VALID_TIME"].split()[0]), "s")
            np.testing.assert_array_equal(made.read(step), file.read(step + 1).astype(np.float32))
    assert 270 < np.nanmean(made.read(0)) < 290


@pytest.mark.parametrize(
    ("name", "variable", "first", "last"),
    [
        ("a1b-temperature", "air_temperature", "1860-12-01T00:00:00", "2099-12-01T00:00:00"),
        ("hadgem-tasmax", "tasmax", "2095-01-02T00:00:00", "2096-01-01T00:00:00"),
        ("ostia-monthly", "surface_temperature", "2006-05-01T00:00:00", "2010-10-01T00:00:00"),
    ],
)
def test_climate_grids(name: str, variable: str, first: str, last: str) -> None:
    """Every value lies at the longitude, latitude and time that netCDF4 reads it with."""
    made = cube(name)
    assert (str(made.times[0]), str(made.times[-1])) == (first, last)
    with netCDF4.Dataset(made.files[0]) as file:
        field = file[variable]
        y, x, time = (np.asarray(file[d][:]) for d in (field.dimensions[1], field.dimensions[2], field.dimensions[0]))
        truth, dates = np.ma.filled(field[:], np.nan), netCDF4.num2date(time, file["time"].units, file["time"].calendar)
    column = ~made.transform @ (np.where(x > 180, x - 360, x), 0 * x)
    row = ~made.transform @ (0 * y, y)
    columns = np.floor(column[0] + 1e-6).astype(int) % len(x)
    rows = np.floor(row[1]).astype(int)
    assert sorted(columns) == list(range(len(x)))
    assert sorted(rows) == list(range(len(y)))
    for step in (0, len(made) // 2, len(made) - 1):
        np.testing.assert_array_equal(made.read(step)[np.ix_(rows, columns)], truth[step].astype(np.float32))
        start, end = made.periods[step]
        assert str(made.times[step])[:10] >= dates[step].strftime("%Y-%m-%d")
        assert start < end
    assert len(made) == len(dates)


def test_the_thirtieth_of_february_is_there() -> None:
    made = cube("hadgem-tasmax")
    assert made.step_of("2095-02-30T00:00:00") - made.step_of("2095-02-29T00:00:00") == 1
    with pytest.raises(InputError, match=r"2095-02-30|has no place in STAC"):
        write_catalog(made, [made.step_of("2095-02-30T00:00:00")], Path("nowhere"))


@pytest.mark.parametrize("name", [n for n in FOLDERS if n not in ("hadgem-tasmax", "mrms")])
def test_a_window_of_a_written_step_is_that_of_the_cube(name: str, tmp_path: Path) -> None:
    """From the file of the weather service to the block that a model reads."""
    made = cube(name)
    path = write_catalog(made, [1, 2], tmp_path / "out")
    height, width = made.shape
    rows, columns = slice(height // 3, 2 * height // 3), slice(width // 3, 2 * width // 3)
    box = made.geobox[rows, columns]
    to = pyproj.Transformer.from_crs(made.crs, "EPSG:4326", always_xy=True)
    lon, lat = to.transform(*(box.affine @ (box.shape[1] / 2, box.shape[0] / 2)))
    here = (lon - 0.01, lat - 0.01, lon + 0.01, lat + 0.01)
    query = {"catalog": str(path), "collection": made.variable, "bbox": here, "datetime": f"{made.times[2]!s}Z"}
    found = [i for i in pipeline.search(query) if i.id == item_id(made, 2)]
    assert len(found) == 1
    catalog = open_catalog(str(path))
    read = load(found, [made.variable], box, profile=catalog.profile(made.variable), catalog=catalog).compute()
    truth = made.read(2, rows, columns)
    seen = read["valid_count"].values > 0
    np.testing.assert_array_equal(seen, np.isfinite(truth))
    np.testing.assert_array_equal(read["data"].values[0][seen], truth[seen])


MEMORY = """
import resource, sys
from geoml.io.cubes.catalog import write_catalog
from geoml.io.cubes.cube import open_cube
from geoml.io.cubes.spec import load_cube_spec
cube = open_cube(sys.argv[1], load_cube_spec("mrms"))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
write_catalog(cube, range(int(sys.argv[3])), sys.argv[2])
print(before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_memory_does_not_grow_with_the_steps(tmp_path: Path) -> None:
    """A GRIB message is decoded whole (196 MB of float64 for MRMS); three of them take what one takes."""
    peaks = []
    for count in (1, 3):
        run = subprocess.run(
            [sys.executable, "-c", MEMORY, str(data("mrms")), str(tmp_path / f"out{count}"), str(count)],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        before, after = map(int, run.stdout.split())
        peaks.append(after / 1024)
        assert after - before < 700 * 1024
    assert peaks[1] < peaks[0] + 150
