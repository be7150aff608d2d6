"""Rasters of an image service are those of its source, pixel by pixel, whatever the limits of the service."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.io import MemoryFile

from geoml.errors import DataError, InputError, NothingFound, TransientError
from geoml.io.cog import image_service
from geoml.io.cog.image_service import downloaded, with_files
from geoml.io.cog.scene_fields import CatalogRecipe
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
        paths, times = downloaded(url(server), tmp_path, None)
    assert times == ["2024-06-01T12:00:00Z", "2024-07-01T12:00:00Z"]
    check(paths[0], values(0, dtype), ORIGIN, whole=True)
    check(paths[1], values(1, dtype), (ORIGIN[0] + 400, ORIGIN[1] - 300), whole=True)


def test_a_part_holds_every_pixel_of_the_box_and_is_kept(tmp_path: Path) -> None:
    with serve(Dates=service()) as server:
        paths, _ = downloaded(url(server), tmp_path, PART)
        check(paths[0], values(0), ORIGIN, whole=False)
        before = sum(path.endswith("exportImage") for path, _ in server.asked)
        assert downloaded(url(server), tmp_path, PART)[0] == paths
        assert sum(path.endswith("exportImage") for path, _ in server.asked) == before
        with pytest.raises(InputError, match=r"out: .*june_1_.*tif is of another part"):
            downloaded(url(server), tmp_path, None)
        with pytest.raises(NothingFound, match="no raster inside"):
            downloaded(url(server), tmp_path, (20, 20, 21, 21))


def test_a_service_without_a_catalog_is_one_raster(tmp_path: Path) -> None:
    one = ImageService({"june": (values(0), ORIGIN, None)}, 32632, RES, 55537.0)
    one.about["capabilities"] = "Image"
    with serve(Dates=one) as server:
        paths, times = downloaded(url(server), tmp_path, None)
    assert times == [None]
    check(paths[0], values(0), ORIGIN, whole=True)


def test_a_failure_leaves_nothing_and_the_next_try_goes_on(tmp_path: Path, machine: Callable[..., None]) -> None:
    machine(retries=0)
    with serve(Dates=service()) as server:
        made, _ = downloaded(url(server), tmp_path, None)
        Path(made[1]).unlink()
        exports = server.services["/Dates/ImageServer"].exportImage
        left = [3]

        def failing(asked: dict[str, str], trick: str) -> bytes:
            left[0] -= 1
            return b"II" if left[0] == 0 else exports(asked, trick)

        server.services["/Dates/ImageServer"].exportImage = failing
        with pytest.raises(DataError, match=r"july_2 at .* cannot be read"):
            downloaded(url(server), tmp_path, None)
        assert [str(p) for p in (tmp_path / "images").iterdir()] == made[:1]
        paths, _ = downloaded(url(server), tmp_path, None)
    check(paths[1], values(1), (ORIGIN[0] + 400, ORIGIN[1] - 300), whole=True)


def test_what_is_not_as_it_was_asked_for_is_refused(tmp_path: Path, machine: Callable[..., None]) -> None:
    machine(retries=0)
    with serve(Dates=service()) as server:
        server.trick = "shifted"
        with pytest.raises(DataError, match=r"ImageServer: june_1 at .* came as .*; expected \(2, 64, 64\) of uint16"):
            downloaded(url(server), tmp_path, None)
        server.trick = ""
        server.services["/Dates/ImageServer"].about["pixelType"] = "U8"
        with pytest.raises(InputError, match="gives U8 as pixelType, and its june has U16, which it would convert"):
            downloaded(url(server), tmp_path, None)
        server.services["/Dates/ImageServer"].about["pixelType"] = "C64"
        with pytest.raises(InputError, match="has pixels of C64"):
            downloaded(url(server), tmp_path, None)
        server.services["/Dates/ImageServer"].about = {"name": "odd", "pixelType": "U16", "extent": 3}
        with pytest.raises(DataError, match="no image service"):
            downloaded(url(server), tmp_path, None)
        server.faults = [500]
        with pytest.raises(TransientError, match="the server fails"):
            downloaded(url(server), tmp_path, None)
    assert not list(tmp_path.rglob("*.tif"))


# --- services with something odd


@pytest.fixture
def server(machine: Callable[..., None]) -> Iterator[ArcGISServer]:
    machine(retries=0)
    with serve(Dates=service()) as here:
        yield here


def exports(server: ArcGISServer) -> list[dict[str, str]]:
    """What pixels were asked for."""
    return [asked for path, asked in server.asked if path.endswith("exportImage")]


def rewrite(server: ArcGISServer, change: Callable[[dict[str, Any], np.ndarray], bytes]) -> None:
    """Let the service answer with other TIFFs; ``change`` gets the profile and the pixels of the right one."""
    own = server.services["/Dates/ImageServer"].exportImage

    def answer(asked: dict[str, str], trick: str) -> bytes:
        with MemoryFile(own(asked, trick)) as memory, memory.open() as file:
            return change(dict(file.profile), file.read())

    server.services["/Dates/ImageServer"].exportImage = answer


def tiff(profile: dict[str, Any], pixels: np.ndarray | None, valid: np.ndarray | None = None) -> bytes:
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), MemoryFile() as memory:
        with memory.open(**profile) as file:
            if pixels is not None:
                file.write(pixels)
            if valid is not None:
                file.write_mask(valid)
        return bytes(memory.getbuffer())


def test_rasters_beside_the_box_may_lie_between_those_in_it(tmp_path: Path) -> None:
    places = {"a": ORIGIN, "b": (ORIGIN[0] + 90_000, ORIGIN[1]), "c": ORIGIN}
    three = ImageService({n: (values(k), at, DAYS["june"]) for k, (n, at) in enumerate(places.items())}, 32632, RES, 0)
    with serve(Dates=three) as server:
        paths, _ = downloaded(url(server), tmp_path, PART)
    assert [Path(p).name[:4] for p in paths] == ["a_1_", "c_3_"]


def test_files_of_other_services_and_kinds_are_not_taken(server: ArcGISServer, tmp_path: Path) -> None:
    first, _ = downloaded(url(server), tmp_path, PART)
    server.services["/Other/ImageServer"] = service("int16")
    other, _ = downloaded(f"{server.url}/Other/ImageServer", tmp_path, PART)
    assert not set(first) & set(other)
    check(other[0], values(0, "int16"), ORIGIN, whole=False)
    rasters, (west, south, east, north) = server.services["/Dates/ImageServer"].rasters, PART
    zone33 = ImageService(rasters, 32633, RES, 55537.0)
    for changed, box in ((service("int16"), PART), (zone33, (west + 6, south, east + 6, north))):
        server.services["/Dates/ImageServer"] = changed
        with pytest.raises(InputError, match=r"out: .*june_1_.*tif is of another part"):
            downloaded(url(server), tmp_path, box)


def test_long_names_do_not_meet(tmp_path: Path) -> None:
    two = ImageService({"n" * 200 + c: (values(0), ORIGIN, None) for c in "ab"}, 32632, RES, 0)
    with serve(Dates=two) as server:
        paths, _ = downloaded(url(server), tmp_path, PART)
    assert len(set(paths)) == 2


def test_a_damaged_file_is_made_again(server: ArcGISServer, tmp_path: Path) -> None:
    paths, _ = downloaded(url(server), tmp_path, PART)
    Path(paths[0]).write_bytes(b"II*\0 and no more")
    assert downloaded(url(server), tmp_path, PART)[0] == paths
    check(paths[0], values(0), ORIGIN, whole=False)


@pytest.mark.parametrize("kind", ["esriFieldTypeInteger", "esriFieldTypeString", "esriFieldTypeDouble"])
def test_only_dates_are_read_as_milliseconds(server: ArcGISServer, tmp_path: Path, kind: str) -> None:
    server.services["/Dates/ImageServer"].about["fields"] = [{"name": "AcquisitionDate", "type": kind}]
    assert downloaded(url(server), tmp_path, PART)[1] == [None, None]


def test_wide_rasters_come_in_low_strips(server: ArcGISServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_service, "BUDGET", 40 * 170 * 2 * 2 + 1)
    paths, _ = downloaded(url(server), tmp_path, None)
    check(paths[0], values(0), ORIGIN, whole=True)
    assert {asked["size"].partition(",")[2] for asked in exports(server)} == {"40", "30"}
    monkeypatch.setattr(image_service, "WIDEST", 170 * 2 * 2 - 1)
    with pytest.raises(
        InputError, match=r"bbox: june_1 of .* is 170 pixels wide there, 2 bands of uint16; .* narrower"
    ):
        downloaded(url(server), tmp_path / "again", None)


def test_tiles_that_ask_for_much_memory_are_refused(server: ArcGISServer, tmp_path: Path) -> None:
    layout = {"tiled": True, "blockxsize": 8192, "blockysize": 8192, "interleave": "pixel", "sparse_ok": True}
    rewrite(server, lambda profile, pixels: tiff(profile | layout | {"compress": "deflate"}, None))
    with pytest.raises(DataError, match=r"june_1 at .*: one tile of it decodes to 268435456 bytes"):
        downloaded(url(server), tmp_path, None)
    server.services["/Dates/ImageServer"].about["bandCount"] = 5000
    with pytest.raises(InputError, match="has 5000 bands; expected 1 to 4096"):
        downloaded(url(server), tmp_path, None)


def test_masked_pixels_are_nodata_or_an_error(server: ArcGISServer, tmp_path: Path) -> None:
    def masked(profile: dict[str, Any], pixels: np.ndarray) -> bytes:
        valid = np.full(pixels.shape[1:], 255, np.uint8)
        valid[3, 4] = 0
        return tiff(profile, pixels, valid)

    rewrite(server, masked)
    paths, _ = downloaded(url(server), tmp_path, None)
    with rasterio.open(paths[0]) as file:
        found, wanted = file.read(), values(0)
    wanted[:, 3::64, 4::64] = 55537
    assert np.array_equal(found, wanted)
    rewrite(server, lambda profile, pixels: masked(profile | {"nodata": None}, pixels))
    with pytest.raises(DataError, match=r"june_1 at .* hides 1 pixels by a mask; expected a nodata value"):
        downloaded(url(server), tmp_path / "again", None)


def test_tiles_of_another_crs_are_refused(server: ArcGISServer, tmp_path: Path) -> None:
    rewrite(server, lambda profile, pixels: tiff(profile | {"crs": "EPSG:32633"}, pixels))
    with pytest.raises(DataError, match=r"june_1 at .* came in EPSG:32633; expected EPSG:32632"):
        downloaded(url(server), tmp_path, PART)
    rewrite(server, lambda profile, pixels: tiff(profile | {"crs": None}, pixels))
    downloaded(url(server), tmp_path, PART)


@pytest.mark.parametrize(
    ("said", "says"),
    [
        ({"pixelSizeX": 0}, "no image service"),
        ({"pixelSizeX": 1e-320}, "no image service"),
        ({"extent": {"spatialReference": {"wkt": "junk"}}}, "no image service"),
        ({"bandCount": 0}, "has 0 bands; expected 1"),
    ],
)
def test_odd_numbers_are_errors_of_ours(server: ArcGISServer, tmp_path: Path, said: dict[str, Any], says: str) -> None:
    server.services["/Dates/ImageServer"].about |= {"capabilities": "Image"} | said
    with pytest.raises((DataError, InputError), match=says):
        downloaded(url(server), tmp_path, None)


def test_a_time_beyond_all_years_is_an_error_of_ours(server: ArcGISServer, tmp_path: Path) -> None:
    rasters = server.services["/Dates/ImageServer"].rasters
    rasters["june"] = (*rasters["june"][:2], 10**30)
    with pytest.raises(DataError, match="no image service"):
        downloaded(url(server), tmp_path, PART)


def test_a_limit_below_one_pixel_is_one(server: ArcGISServer, tmp_path: Path) -> None:
    server.services["/Dates/ImageServer"].about["maxImageHeight"] = -5
    paths, _ = downloaded(url(server), tmp_path, (10.3255, 46.9375, 10.3257, 46.9376))
    check(paths[0], values(0), ORIGIN, whole=False)
    assert {asked["size"] for asked in exports(server)} == {"1,1"}


def test_boxes_without_a_place_are_refused(server: ArcGISServer, tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"bbox: 179 46 -179 47 crosses the antimeridian, .* expected a box on one side"
    ):
        downloaded(url(server), tmp_path, (179, 46, -179, 47))


# --- what is known before the pixels


RECIPE = {"bands": ("red", "nir"), "bbox": PART}


@pytest.mark.parametrize(
    ("told", "says"),
    [
        ({"bands": ()}, "bands: 0 names for 2 rasters of 2 bands; expected one for each band"),
        ({"bands": ("red",)}, "bands: 1 names for 2 rasters of 2 bands"),
        ({"bands": ("red", "red")}, "bands: red,red; expected different names"),
        ({"datetime": ("2024", "2025", "2026")}, "datetime: 3 for 2 scenes; expected one for all or one for each"),
        ({"datetime": ("June",)}, "datetime: 'June'; expected such as 2024-06-01"),
    ],
)
def test_what_does_not_fit_is_refused_before_pixels_come(
    server: ArcGISServer, tmp_path: Path, told: dict[str, Any], says: str
) -> None:
    with pytest.raises(InputError, match=says):
        with_files(CatalogRecipe(scenes=(url(server),), **RECIPE | told), tmp_path)
    assert exports(server) == []


def test_rasters_without_a_time_are_refused_before_pixels_come(server: ArcGISServer, tmp_path: Path) -> None:
    server.services["/Dates/ImageServer"].about["fields"] = []
    recipe = CatalogRecipe(scenes=(url(server),), **RECIPE)
    with pytest.raises(InputError, match="datetime: 2 of 2 rasters say no time; expected --datetime"):
        with_files(recipe, tmp_path)
    assert exports(server) == []
    assert len(with_files(recipe.model_copy(update={"datetime": ("2024",)}), tmp_path).scenes) == 2


def test_a_folder_that_is_not_free_is_refused_before_pixels_come(server: ArcGISServer, tmp_path: Path) -> None:
    recipe = CatalogRecipe(scenes=(url(server),), **RECIPE)
    (tmp_path / "run" / ".geoml").mkdir(parents=True)
    with pytest.raises(InputError, match="contains a run"):
        with_files(recipe, tmp_path / "run")
    (tmp_path / "catalog.json").write_text("{}")
    with pytest.raises(InputError, match="contains another catalog"):
        with_files(recipe, tmp_path)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "images").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="images: a symbolic link"):
        with_files(recipe, tmp_path / "out")
    assert exports(server) == []
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_rasters_of_one_band_may_be_one_scene(tmp_path: Path) -> None:
    """As files of one band are: as many names as rasters, and one time."""
    one = ImageService({n: (values(k)[:1], ORIGIN, DAYS["june"]) for k, n in enumerate(DAYS)}, 32632, RES, 0)
    with serve(Dates=one) as server:
        made = with_files(CatalogRecipe(scenes=(url(server),), **RECIPE), tmp_path)
    assert (len(made.scenes), made.datetime) == (2, ("2024-06-01T12:00:00Z",))
