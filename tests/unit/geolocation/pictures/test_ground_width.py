"""How wide the ground of a raster is, against pyproj's geodesics and what GDAL writes; and files that do not say."""

from __future__ import annotations

import io
import warnings

import numpy as np
import pyproj
import pytest
from affine import Affine
from PIL import Image
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.errors import NotGeoreferencedWarning
from rasterio.io import MemoryFile

from geoml.geolocation.pictures import decode as photos
from geoml.geolocation.pictures.ground_width import square_km


def tiff(
    crs: str | CRS | None, transform: Affine | None, shape: tuple[int, int] = (60, 100), **options: object
) -> bytes:
    height, width = shape
    given = {"crs": crs, **({} if transform is None else {"transform": transform})}
    with warnings.catch_warnings(), MemoryFile() as memory:
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with memory.open(
            driver="GTiff", height=height, width=width, count=3, dtype="uint8", **given, **options
        ) as file:
            file.write(np.full((3, *shape), 90, np.uint8))
        return memory.read()


@pytest.mark.parametrize("res", [0.1, 0.6, 10.0, 30.0, 1000.0])
def test_metres(res: float) -> None:
    """In the middle of a UTM zone the scale is 0.9996."""
    data = tiff("EPSG:32633", Affine(res, 0, 500_000 - 50 * res, 0, -res, 5_000_000))
    assert square_km(data) == pytest.approx(60 * res / 1000 / 0.9996, rel=2e-4)
    assert photos.read(data).width_km == square_km(data)


def test_degrees_feet_and_a_turned_grid() -> None:
    data = tiff("EPSG:4326", Affine(0.1, 0, 10, 0, -0.1, 53))
    wanted = pyproj.Geod(ellps="WGS84").line_length(np.linspace(12, 18, 33), np.full(33, 50.0)) / 1000
    assert square_km(data) == pytest.approx(wanted, rel=1e-9)
    feet = tiff("EPSG:2263", Affine(10, 0, 980_000, 0, -10, 200_000))
    assert square_km(feet) == pytest.approx(600 * 0.3048006 / 1000, rel=1e-3)
    turned = tiff("EPSG:32633", Affine.translation(500_000, 5_000_000) * Affine.rotation(30) * Affine.scale(10, -10))
    assert square_km(turned) == pytest.approx(0.6, rel=1e-3)
    mercator = tiff("EPSG:3857", Affine(1000, 0, 0, 0, -1000, 8_430_000))
    assert square_km(mercator) == pytest.approx(60 * np.cos(np.radians(60)), rel=0.01), (
        "a metre of its own is half of one"
    )


def test_ground_control_points() -> None:
    points = [GroundControlPoint(r, c, 500_000 + 30 * c, 5_000_000 - 30 * r) for r, c in ((0, 0), (0, 100), (60, 0))]
    data = tiff(CRS.from_epsg(32633), None, gcps=points)
    assert square_km(data) == pytest.approx(1.8, rel=1e-3)


def test_files_that_do_not_say() -> None:
    assert square_km(tiff(None, None)) is None
    assert square_km(tiff(None, Affine(10, 0, 0, 0, -10, 0))) is None
    assert square_km(tiff('LOCAL_CS["a table",UNIT["metre",1]]', Affine(10, 0, 0, 0, -10, 0))) is None
    far = tiff("EPSG:32633", Affine(1e9, 0, 0, 0, -1e9, 0))
    assert square_km(far) is None
    good = tiff("EPSG:32633", Affine(10, 0, 500_000, 0, -10, 5_000_000))
    assert square_km(good[:100]) is None
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "PNG")
    assert photos.read(file.getvalue()).width_km is None
