"""Small files of every kind of cube, made by other programs than the ones that read them here where there is one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray

from geoml.io.cubes.spec import CubeSpec
from geoml.recipe import parse

UTM = Affine(1000, 0, 600_000, 0, -1000, 5_900_000)

Array = NDArray[Any]


def spec(driver: str, **changes: object) -> CubeSpec:
    """A spec of hourly rain in mm/h; keywords change it."""
    known: dict[str, object] = {
        "driver": driver,
        "name": "rainfall_rate",
        "file_unit": "mm/h",
        "unit": "mm/h",
        "plausible": [0, 1000],
        "step": "PT1H",
    }
    if driver != "GeoTIFF":
        known["variable"] = {"GRIB": "TMP", "HDF5": "image1/image_data"}.get(driver, "rain")
    if driver == "GeoTIFF":
        known["time"] = {"source": "name", "pattern": "%Y%m%d%H%M.tif"}
    if driver == "Zarr":
        known["position"] = {"crs": "EPSG:32632"}
    return parse(CubeSpec, {**known, **changes}, "made")


def frames(count: int = 4, shape: tuple[int, int] = (6, 8)) -> Array:
    """(step, y, x) int16, every number once."""
    return np.arange(1, count * shape[0] * shape[1] + 1, dtype=np.int16).reshape(count, *shape)


def tiff(path: Path, data: Array, *, transform: Affine = UTM, crs: str = "EPSG:32632", **options: Any) -> Path:
    """One band."""
    height, width = data.shape
    about = {"driver": "GTiff", "height": height, "width": width, "count": 1, "dtype": data.dtype}
    with rasterio.open(path, "w", crs=crs, transform=transform, **about, **options) as file:
        file.write(data, 1)
    return path


def tiffs(folder: Path, data: Array, names: Sequence[str] | None = None, **options: Any) -> Path:
    """A frame each hour from 2024-01-01 00:00."""
    folder.mkdir(parents=True, exist_ok=True)
    for k, frame in enumerate(data):
        tiff(folder / (names[k] if names else f"20240101{k:02d}00.tif"), frame, **options)
    return folder


def netcdf(
    path: Path,
    data: Array,
    times: Sequence[float],
    *,
    units: str = "hours since 2024-01-01 00:00:00",
    calendar: str = "standard",
    x: Sequence[float] = tuple(range(8)),
    y: Sequence[float] = (55, 54, 53, 52, 51, 50),
    unit: str = "mm/h",
    kind: str = "NETCDF4",
    attributes: Mapping[str, object] | None = None,
    fill: float | None = None,
) -> Path:
    """By netCDF4: longitudes and latitudes of a sphere, as GRIB and climate models have them."""
    import netCDF4

    with netCDF4.Dataset(path, "w", format=kind) as file:
        for name, size in (("time", None), ("lat", len(y)), ("lon", len(x))):
            file.createDimension(name, size)
        axes = (
            ("time", times, {"units": units, "calendar": calendar}),
            ("lat", y, {"units": "degrees_north", "standard_name": "latitude"}),
            ("lon", x, {"units": "degrees_east", "standard_name": "longitude"}),
        )
        for name, values, about in axes:
            axis = file.createVariable(name, "f8", (name,))
            axis.setncatts(about)
            axis[:] = np.asarray(values)
        grid = file.createVariable("crs", "i4", ())
        grid.setncatts({"grid_mapping_name": "latitude_longitude", "earth_radius": 6_371_229.0})
        rain = file.createVariable("rain", data.dtype, ("time", "lat", "lon"), fill_value=fill)
        rain.set_auto_maskandscale(False)
        rain.setncatts({"units": unit, "grid_mapping": "crs", **(attributes or {})})
        rain[:] = data
    return path


def hdf5(path: Path, data: Array, *, row_offset: float = 3650.0, corners: Sequence[float] | None = None) -> Path:
    """As KNMI writes its radar composites: place and calibration in attributes of groups, in kilometres."""
    import h5py

    with h5py.File(path, "w") as file:
        place = file.create_group("geographic")
        for name, value in {
            "geo_row_offset": row_offset,
            "geo_column_offset": 0.0,
            "geo_pixel_size_x": 1.0,
            "geo_pixel_size_y": -1.0,
        }.items():
            place.attrs[name] = np.array([value], np.float32)
        if corners is not None:
            place.attrs["geo_product_corners"] = np.array(corners, np.float32)
        text = "+proj=stere +lat_0=90 +lon_0=0.0 +lat_ts=60.0 +a=6378.137 +b=6356.752 +x_0=0 +y_0=0"
        place.create_group("map_projection").attrs["projection_proj4_params"] = np.bytes_(text)
        image = file.create_group("image1").create_dataset("image_data", data=data, chunks=data.shape, compression=6)
        image.attrs["CLASS"] = np.array([b"IMAGE"])
        image.attrs["VERSION"] = np.array([b"1.2"])
    return path


SURFACE, TWO_METRES = "1 0 0 255 0 0", "103 0 2 255 0 0"
"""Levels of a message, by the numbers of GRIB2 (code table 4.5)."""


def message(
    data: Array, element: str = "0 0", *, ahead: int = 0, hours: int = 0, level: str = TWO_METRES, day: int = 1
) -> tuple[Array, dict[str, str]]:
    """A field of GRIB2 and its sections: ``element`` is category and number, ``hours`` the period it is a sum of."""
    known = f"2024-01-{day:02d}T00:00:00Z"
    centre = "CENTER=7 SUBCENTER=0 MASTER_TABLE=2 LOCAL_TABLE=1"
    ids = f"{centre} SIGNF_REF_TIME=1 REF_TIME={known} PROD_STATUS=0 TYPE=1"
    head = f"{element} 2 0 96 0 0 1 {ahead} {level}"
    last = ahead + hours
    period = f" 2024 1 {day + last // 24} {last % 24} 0 0 1 0 1 2 1 {hours} 255 0" if hours else ""
    return data, {
        "DISCIPLINE": "0",
        "IDS": ids,
        "PDS_PDTN": "8" if hours else "0",
        "PDS_TEMPLATE_ASSEMBLED_VALUES": head + period,
        "DATA_ENCODING": "IEEE_FLOATING_POINT",
    }


def grib(path: Path, messages: Sequence[tuple[Array, dict[str, str]]], *, west: float = 0.0) -> Path:
    """GRIB2 by GDAL, 1 degree, 50 to 44 N; it takes temperatures in °C and writes kelvin."""
    height, width = messages[0][0].shape
    options = {f"BAND_{k}_{key}": v for k, (_, about) in enumerate(messages, 1) for key, v in about.items()}
    place = {"crs": "EPSG:4326", "transform": Affine(1, 0, west, 0, -1, 50)}
    about = {"driver": "GRIB", "height": height, "width": width, "count": len(messages), "dtype": "float64"}
    with rasterio.open(path, "w", **about, **place, **options) as file:
        for k, (data, _) in enumerate(messages, 1):
            file.write(data.astype(np.float64), k)
    return path


def zarr(
    path: Path,
    data: Array,
    times: NDArray[np.datetime64] | None = None,
    *,
    version: int = 3,
    x: Sequence[float] = tuple(range(600_500, 608_500, 1000)),
    y: Sequence[float] = tuple(range(5_899_500, 5_893_500, -1000)),
    **options: Any,
) -> Path:
    """By xarray, in chunks of one step and 3 x 4 pixels."""
    import xarray as xr

    if times is None:
        times = np.datetime64("2024-01-01T00", "s") + np.arange(len(data)) * np.timedelta64(3600, "s")
    about = {"rain": (("time", "y", "x"), data, {"units": "mm/h"})}
    made = xr.Dataset(about, {"time": times.astype("datetime64[ns]"), "y": np.array(y, float), "x": np.array(x, float)})
    hours = {"units": "hours since 2024-01-01", "dtype": "int64"}
    encoding = {"rain": {"chunks": (1, 3, 4)}, "time": hours} if "append_dim" not in options else {}
    made.to_zarr(path, zarr_format=version, consolidated=False, encoding=encoding, **options)
    return path
