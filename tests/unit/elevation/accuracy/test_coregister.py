"""The shift between two surfaces is found: one that was made, and one that xdem finds in real ones."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from rasterio.transform import Affine
from rasterio.warp import Resampling, reproject

from geoml.elevation.accuracy.compared import compared
from geoml.elevation.accuracy.coregister import coregistered
from geoml.errors import DataError, InputError

PAIR = "elevation/dem_pair"
FILES = ("Copernicus_DSM_10_N45_00_E005_00_DEM.tif", "Copernicus_blurred_and_shifted.tif")

# xdem 0.2.3 (pip install xdem==0.2.3), on the files of PAIR as `on_grid` reads them:
# NuthKaab().fit(reference, other, random_state=42).meta["outputs"]["affine"], the reference as AREA_OR_POINT=Area
XDEM = (-726.1016, 547.3312)
"""Metres to the east and north, on pixels of 200 m."""


def hills(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    return 40 * np.sin(x / 70) + 30 * np.cos(y / 90) + 20 * np.sin((x + 2 * y) / 150)


@pytest.mark.parametrize("res", [(10.0, 10.0), (10.0, 5.0)])
@pytest.mark.parametrize(("east", "north", "up"), [(7.0, -16.0, 3.5), (0.0, 0.0, 0.0), (-2.5, 1.0, -40.0)])
def test_a_made_shift_is_found(res: tuple[float, float], east: float, north: float, up: float) -> None:
    y, x = (np.indices((150, 180)) + 0.5) * np.reshape(res, (2, 1, 1)) * [[[-1]], [[1]]]
    rng = np.random.default_rng(0)
    reference = hills(x, y)
    other = hills(x + east, y + north) - up + rng.normal(0, 0.3, x.shape)
    other[20:40, 30:60] = np.nan
    other[::37, ::23] += 80  # what has changed
    found = coregistered(reference, other, res)
    assert found.east == pytest.approx(east, abs=0.03 * res[1])
    assert found.north == pytest.approx(north, abs=0.03 * res[0])
    assert found.up == pytest.approx(up, abs=0.05)
    assert found.nmad_after < 0.5
    assert found.pixels == pytest.approx(np.hypot(east / res[1], north / res[0]), abs=0.05)
    if east:
        assert found.nmad_before > 3 * found.nmad_after


def test_what_cannot_be_shifted_is_refused() -> None:
    flat = np.zeros((50, 50))
    with pytest.raises(InputError, match="sloping ground"):
        coregistered(flat, flat + 1, (1.0, 1.0))
    with pytest.raises(InputError, match="known in both"):
        coregistered(flat, np.full_like(flat, np.nan), (1.0, 1.0))
    with pytest.raises(InputError, match="one grid"):
        coregistered(flat, flat[:-1], (1.0, 1.0))


def on_grid(path: Path) -> NDArray[np.float64]:
    """Heights in UTM zone 31 at 200 m, bilinear."""
    out = np.full((568, 409), np.nan)
    with rasterio.open(path) as file:
        heights = file.read(1, masked=True).astype(float).filled(np.nan)
        reproject(
            heights,
            out,
            src_transform=file.transform,
            src_crs=file.crs,
            dst_transform=Affine(200, 0, 654852.43, 0, -200, 5098439.92),
            dst_crs="EPSG:32631",
            src_nodata=np.nan,
            dst_nodata=np.nan,
            resampling=Resampling.bilinear,
        )
    return out


@pytest.mark.data
def test_the_shift_of_real_surfaces_is_that_of_xdem() -> None:
    reference, other = (on_grid(Path(os.environ["GEOML_DATA"]) / PAIR / name) for name in FILES)
    found = coregistered(reference, other, (200.0, 200.0))
    assert (found.east, found.north) == pytest.approx(XDEM, abs=0.1 * 200)
    assert found.nmad_after < found.nmad_before / 6


@pytest.mark.data
def test_files_are_compared_on_one_grid_in_metres() -> None:
    folder = Path(os.environ["GEOML_DATA"]) / PAIR
    found = compared(*(folder / name for name in FILES))
    assert found["crs"] == "EPSG:32631"
    assert (found["east"], found["north"]) == pytest.approx(XDEM, abs=0.1 * found["res"][0])


def test_feet_are_compared_as_metres(tmp_path: Path) -> None:
    """Of the places and of the heights: the surface of the run in a plane of the state in feet, 2 m too high."""
    y, x = np.mgrid[:80, :80]
    hills = 100 + 8 * np.sin(x / 9) * np.cos(y / 12)
    ft = 3937 / 1200
    profile = {"driver": "GTiff", "width": 80, "height": 80, "count": 1, "dtype": "float64"}
    names = ("EPSG:6440", 1.0, 0.0), ("EPSG:6441", ft, 2.0)  # the same plane in metres and in US survey feet
    for crs, unit, up in names:
        place = Affine(unit, 0, 567_000 * unit, 0, -unit, 123_080 * unit)
        with rasterio.open(tmp_path / f"{crs[5:]}.tif", "w", crs=crs, transform=place, **profile) as file:
            file.write((hills + up) * unit, 1)
            file.units = ("m" if unit == 1 else "US survey foot",)
    found = compared(tmp_path / "6440.tif", tmp_path / "6441.tif")
    assert (found["east"], found["north"], found["up"]) == pytest.approx((0, 0, -2), abs=0.05)
    found = compared(tmp_path / "6441.tif", tmp_path / "6440.tif")
    assert found["up"] == pytest.approx(2, abs=0.05)
    assert found["crs"] != "EPSG:6441"


def test_a_file_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(b"no raster")
    with pytest.raises(DataError, match=r"a\.tif"):
        compared(tmp_path / "a.tif", tmp_path / "a.tif")
