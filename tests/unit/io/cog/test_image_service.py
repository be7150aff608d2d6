"""Rasters of an image service are those of its source, pixel by pixel, whatever the limits of the service."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine

from geoml.errors import DataError, InputError, NothingFound, TransientError
from geoml.io.cog.image_service import downloaded
from tests.arcgis_server import ArcGISServer, ImageService, serve

ORIGIN, RES = (600_000.0, 5_200_000.0), 10.0
DAYS = {"june": 1_717_243_200_000, "july": 1_719_835_200_000}
PART = (10.32, 46.935, 10.33, 46.94)
"""West, south, east, north of a part of the rasters."""


def values(seed: int, dtype: str = "uint16") -> np.ndarray:
    """(2, 150, 170) numbers of all the range, with some without data."""
    rng = np.random.default_rng(seed)
    data = rng.normal(0, 1e4, (2, 150, 170)) if dtype == "float32" else rng.integers(-30_000, 30_000, (2, 150, 170))
    data[:, 5:9, 5:9] = -9999
    return data.astype(dtype)


def service(dtype: str = "uint16", most: int = 64) -> ImageService:
    nodata = float(np.array(-9999).astype(dtype))
    places = {"june": ORIGIN, "july": (ORIGIN[0] + 400, ORIGIN[1] - 300)}
    rasters = {n: (values(k, dtype), places[n], DAYS[n]) for k, n in enumerate(DAYS)}
    return ImageService(rasters, 32632, RES, nodata, most)


def url(server: ArcGISServer) -> str:
    return f"{server.url}/Dates/ImageServer"


def check(path: str, data: np.ndarray, origin: tuple[float, float], *, whole: bool) -> None:
    """The file holds the source's numbers in the source's places."""
    with rasterio.open(path) as file:
        place = ~Affine(RES, 0, origin[0], 0, -RES, origin[1]) * (file.transform.c, file.transform.f)
        column, row = (round(v) for v in place)
        assert place == pytest.approx((column, row), abs=1e-9)
        wanted = data[:, row : row + file.height, column : column + file.width]
        assert file.dtypes == (data.dtype.name,) * 2
        assert file.read().tobytes() == np.ascontiguousarray(wanted).tobytes()
        assert file.nodata == float(np.array(-9999).astype(data.dtype))
        assert (file.shape == data.shape[1:]) == whole


@pytest.mark.parametrize("dtype", ["uint16", "int16", "float32"])
def test_every_raster_comes_as_it_is(tmp_path: Path, dtype: str) -> None:
    with serve(Dates=service(dtype)) as server:
        paths, times = downloaded(url(server), tmp_path / "images", None)
    assert times == ["2024-06-01T12:00:00Z", "2024-07-01T12:00:00Z"]
    check(paths[0], values(0, dtype), ORIGIN, whole=True)
    check(paths[1], values(1, dtype), (ORIGIN[0] + 400, ORIGIN[1] - 300), whole=True)


def test_a_part_holds_every_pixel_of_the_box_and_is_kept(tmp_path: Path) -> None:
    with serve(Dates=service()) as server:
        paths, _ = downloaded(url(server), tmp_path / "images", PART)
        check(paths[0], values(0), ORIGIN, whole=False)
        before = sum(path.endswith("exportImage") for path, _ in server.asked)
        assert downloaded(url(server), tmp_path / "images", PART)[0] == paths
        assert sum(path.endswith("exportImage") for path, _ in server.asked) == before
        with pytest.raises(InputError, match=r"out: .*june_1.tif is of another part"):
            downloaded(url(server), tmp_path / "images", None)
        with pytest.raises(NothingFound, match="no raster inside"):
            downloaded(url(server), tmp_path / "images", (20, 20, 21, 21))


def test_a_service_without_a_catalog_is_one_raster(tmp_path: Path) -> None:
    one = ImageService({"june": (values(0), ORIGIN, None)}, 32632, RES, 55537.0)
    one.about["capabilities"] = "Image"
    with serve(Dates=one) as server:
        paths, times = downloaded(url(server), tmp_path / "images", None)
    assert times == [None]
    check(paths[0], values(0), ORIGIN, whole=True)


def test_a_failure_leaves_nothing_and_the_next_try_goes_on(tmp_path: Path, machine: Callable[..., None]) -> None:
    machine(retries=0)
    with serve(Dates=service()) as server:
        downloaded(url(server), tmp_path / "images", None)
        (tmp_path / "images" / "july_2.tif").unlink()
        exports = server.services["/Dates/ImageServer"].exportImage
        left = [3]

        def failing(asked: dict[str, str], trick: str) -> bytes:
            left[0] -= 1
            return b"II" if left[0] == 0 else exports(asked, trick)

        server.services["/Dates/ImageServer"].exportImage = failing
        with pytest.raises(DataError, match=r"july_2 at .* cannot be read"):
            downloaded(url(server), tmp_path / "images", None)
        assert [p.name for p in (tmp_path / "images").iterdir()] == ["june_1.tif"]
        paths, _ = downloaded(url(server), tmp_path / "images", None)
    check(paths[1], values(1), (ORIGIN[0] + 400, ORIGIN[1] - 300), whole=True)


def test_what_is_not_as_it_was_asked_for_is_refused(tmp_path: Path, machine: Callable[..., None]) -> None:
    machine(retries=0)
    with serve(Dates=service()) as server:
        server.trick = "shifted"
        with pytest.raises(DataError, match=r"ImageServer: june_1 at .* came as .*; expected \(2, 64, 64\) of uint16"):
            downloaded(url(server), tmp_path / "images", None)
        server.trick = ""
        server.services["/Dates/ImageServer"].about["pixelType"] = "U8"
        with pytest.raises(InputError, match="gives U8 as pixelType, and its june has U16, which it would convert"):
            downloaded(url(server), tmp_path / "images", None)
        server.services["/Dates/ImageServer"].about["pixelType"] = "C64"
        with pytest.raises(InputError, match="has pixels of C64"):
            downloaded(url(server), tmp_path / "images", None)
        server.services["/Dates/ImageServer"].about = {"name": "odd", "pixelType": "U16", "extent": 3}
        with pytest.raises(DataError, match="no image service"):
            downloaded(url(server), tmp_path / "images", None)
        server.faults = [500]
        with pytest.raises(TransientError, match="the server fails"):
            downloaded(url(server), tmp_path / "images", None)
    assert not list(tmp_path.rglob("*.tif"))
