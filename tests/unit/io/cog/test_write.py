"""The COG writer against GDAL: structure, pixels of every resolution, georeference, statistics, damage."""

from __future__ import annotations

import resource
import tracemalloc
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.io import MemoryFile
from rio_cogeo.cogeo import cog_validate

from geoml.errors import DataError, InputError
from geoml.io.cog import write as cogwrite
from geoml.io.cog.tiff import LevelTable, cog_header, first_directory
from geoml.io.cog.write import DTYPES, CogInfo, CogWriter
from geoml.io.stores.store import sha256

SINUSOIDAL = "+proj=sinu +lon_0=0 +x_0=0 +y_0=0 +R=6371007.181 +units=m +no_defs"


def grid(h: int, w: int, crs: Any = "EPSG:32621", res: float = 10.0) -> GeoBox:
    return GeoBox((h, w), Affine(res, 0, 500_000.0, 0, -res, 7_000_000.0), crs)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def made(path: Path, pixels: NDArray[Any], step: int = 37, **options: Any) -> CogInfo:
    """Write (bands, h, w) pixels, ``step`` rows at a time."""
    options = {"bands": len(pixels), "nodata": None, "tile": 16, **options}
    geobox = options.pop("geobox", None) or grid(*pixels.shape[1:])
    with CogWriter(path, geobox, pixels.dtype, **options) as cog:
        for y in range(0, pixels.shape[1], step):
            cog.write(pixels[:, y : y + step])
    return cog.close()


def noise(dtype: str, shape: tuple[int, ...], values: int = 5, seed: int = 0) -> NDArray[Any]:
    return np.random.default_rng(seed).integers(0, values, shape).astype(dtype)


def slow_half(band: NDArray[Any], how: str, nodata: float | None) -> NDArray[Any]:
    """The overview rule said once more, pixel by pixel."""
    h, w = band.shape
    out = np.empty((-(-h // 2), -(-w // 2)), band.dtype)
    for y, x in np.ndindex(out.shape):
        four = [v for v in band[2 * y : 2 * y + 2, 2 * x : 2 * x + 2].ravel() if np.isfinite(v)]
        four = [v for v in four if v != nodata]
        if how == "nearest":
            out[y, x] = band[2 * y, 2 * x]
        elif not four:
            out[y, x] = nodata
        elif how == "mode":
            out[y, x] = Counter(four).most_common(1)[0][0]  # equal counts come in the order of their first
        else:
            mean = sum(float(v) for v in four) / len(four)
            out[y, x] = mean if band.dtype.kind == "f" else np.floor(mean + 0.5)
            if out[y, x] == nodata:  # beside it, so that it stays data
                out[y, x] = np.nextafter(out[y, x], 0 if nodata else 1) if band.dtype.kind == "f" else nodata + 1
    return out


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(dtype="uint8", bands=1, h=1, w=1, step=1, tile=16, how="mode", predictor=False, nodata=None, big=None)
@example(dtype="float32", bands=3, h=65, w=17, step=7, tile=32, how="average", predictor=True, nodata=2.0, big=True)
@given(
    dtype=st.sampled_from(DTYPES),
    bands=st.integers(1, 3),
    h=st.integers(1, 70),
    w=st.integers(1, 70),
    step=st.integers(1, 70),
    tile=st.sampled_from([16, 32, 48]),
    how=st.sampled_from(["mode", "nearest", "average"]),
    predictor=st.booleans(),
    nodata=st.sampled_from([None, 0.0, 2.0]),
    big=st.sampled_from([None, True]),
)
def test_gdal_reads_back_every_resolution(
    tmp_path: Path,
    dtype: str,
    bands: int,
    h: int,
    w: int,
    step: int,
    tile: int,
    how: Any,
    predictor: bool,
    nodata: float | None,
    big: bool | None,
) -> None:
    pixels = noise(dtype, (bands, h, w), seed=h * 71 + w)
    path = tmp_path / "a.tif"
    made(path, pixels, step, tile=tile, overview=how, predictor=predictor, nodata=nodata, bigtiff=big)
    assert path.read_bytes()[:4] == (b"II+\0" if big else b"II*\0")
    valid, errors, warnings = cog_validate(path, strict=True)
    assert valid or w == 1, (errors, warnings)  # the validator takes decimations from the width; that of 1 is 1
    with rasterio.open(path) as file:
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"  # GDAL sees its own layout
        assert file.nodata == nodata
        np.testing.assert_array_equal(file.read(), pixels)
        levels = len(file.overviews(1))
    for level in range(levels):
        pixels = np.stack([slow_half(band, how, nodata) for band in pixels])
        with rasterio.open(path, overview_level=level) as file:
            np.testing.assert_allclose(file.read(), pixels, rtol=1e-6)
    assert max(pixels.shape[1:]) <= tile


@pytest.mark.parametrize("how", ["mode", "nearest", "average"])
def test_overviews_agree_with_those_of_gdal(tmp_path: Path, how: Any) -> None:
    pixels = noise("uint8", (1, 256, 192), values=6)
    made(tmp_path / "ours.tif", pixels, nodata=5, overview=how, tile=128)
    profile = {"driver": "GTiff", "count": 1, "height": 256, "width": 192, "dtype": "uint8", "nodata": 5}
    with rasterio.open(tmp_path / "gdal.tif", "w", transform=Affine(10, 0, 0, 0, -10, 0), **profile) as file:
        file.write(pixels)
        file.build_overviews([2], rasterio.enums.Resampling[how])
    with rasterio.open(tmp_path / "gdal.tif", overview_level=0) as gdal:
        theirs = gdal.read(1)
    with rasterio.open(tmp_path / "ours.tif", overview_level=0) as ours:
        found = ours.read(1)
    four = pixels[0].reshape(128, 2, 96, 2).transpose(0, 2, 1, 3).reshape(128, 96, 4)
    ranked = np.sort(np.stack([(four == v).sum(-1) for v in range(5)]), axis=0)  # votes of the classes, not of nodata
    clear = ranked[-1] > ranked[-2] if how == "mode" else np.ones_like(found, bool)  # each breaks ties in its own way
    assert clear.mean() > 0.4
    np.testing.assert_array_equal(found[clear], theirs[clear])


def test_nodata_and_nan_take_no_part_in_an_average(tmp_path: Path) -> None:
    pixels = np.full((1, 32, 32), np.nan, np.float32)
    pixels[0, ::2, ::2] = 4.0
    pixels[0, 0:2, 0:2] = [[1.0, np.inf], [np.nan, 2.0]]
    pixels[0, 30:, 30:] = np.nan
    made(tmp_path / "a.tif", pixels, nodata=float("nan"), overview="average")
    with rasterio.open(tmp_path / "a.tif", overview_level=0) as file:
        half = file.read(1)
    assert half[0, 0] == 1.5
    assert np.isnan(half[15, 15])
    assert (np.delete(half.ravel(), [0, 255]) == 4.0).all()


@pytest.mark.parametrize(("dtype", "nodata", "beside"), [("int16", 0, 1), ("uint8", 255, 254), ("float32", 0, 1e-45)])
def test_an_average_never_turns_data_into_nodata(tmp_path: Path, dtype: str, nodata: float, beside: float) -> None:
    pixels = np.array([[0, 0], [0, 0]], dtype)
    pixels[:] = [[-1, 1], [1, -1]] if nodata == 0 else [[254, 255], [255, 255]]
    tiled = np.tile(pixels, (16, 16))[np.newaxis]
    made(tmp_path / "a.tif", tiled, nodata=nodata, overview="average")
    with rasterio.open(tmp_path / "a.tif", overview_level=0) as file:
        np.testing.assert_allclose(file.read(1), np.full((16, 16), beside, dtype))


def test_the_bytes_do_not_depend_on_how_the_rows_came(tmp_path: Path) -> None:
    pixels = noise("uint8", (1, 150, 83))
    sums = {made(tmp_path / f"{step}.tif", pixels, step, overview="mode").sha256 for step in (1, 16, 97, 150)}
    assert len(sums) == 1


def _flips(path: Path, tiles: list[tuple[int, int]], pixels: NDArray[Any]) -> tuple[int, int]:
    """One bit of each byte of the tiles flipped in turn: how often the pixels were wrong, and unchanged, in silence."""
    good, rng = path.read_bytes(), np.random.default_rng(0)
    wrong = same = 0
    for offset, length in tiles:
        for at in range(offset, offset + length):
            bad = bytearray(good)
            bad[at] ^= 1 << int(rng.integers(8))
            with MemoryFile(bytes(bad)) as memory, memory.open() as file:
                try:
                    equal = np.array_equal(file.read(), pixels)
                except rasterio.errors.RasterioIOError:
                    continue
            wrong, same = wrong + (not equal), same + equal
    return wrong, same


@pytest.mark.parametrize(("dtype", "predictor"), [("uint8", False), ("int16", True)])
def test_a_flipped_byte_of_a_tile_is_an_error_of_stock_gdal(tmp_path: Path, dtype: str, predictor: bool) -> None:
    pixels = noise(dtype, (1, 48, 40), values=3)
    pixels[0, :16, :16] = 1  # a constant tile is the shortest frame
    made(tmp_path / "a.tif", pixels, nodata=99, predictor=predictor)
    with rasterio.open(tmp_path / "a.tif") as file:
        tiles = [_tile(file, y, x) for y in range(3) for x in range(3)]
    wrong, same = _flips(tmp_path / "a.tif", tiles, pixels)
    assert wrong == 0
    assert same < 0.05 * sum(length for _, length in tiles)  # some bits mean nothing: the right pixels come out


def test_where_the_height_ends_inside_a_tile_only_the_sum_of_the_file_tells(tmp_path: Path) -> None:
    """GDAL asks libtiff for the rows above the edge only, so the decoder stops before the checksum (GDAL 3.10)."""
    pixels = noise("uint8", (1, 40, 32), values=3)
    info = made(tmp_path / "a.tif", pixels)
    with rasterio.open(tmp_path / "a.tif") as file:
        above = [_tile(file, y, x) for y in range(2) for x in range(2)]
        bottom = [_tile(file, 2, x) for x in range(2)]
    assert _flips(tmp_path / "a.tif", above, pixels)[0] == 0
    assert _flips(tmp_path / "a.tif", bottom, pixels)[0] > 0
    content = bytearray((tmp_path / "a.tif").read_bytes())
    content[sum(bottom[0]) - 8] ^= 1
    (tmp_path / "a.tif").write_bytes(content)
    assert sha256(tmp_path / "a.tif") != info.sha256


def test_tiles_lie_between_leader_and_trailer_smallest_overview_first(tmp_path: Path) -> None:
    made(tmp_path / "a.tif", noise("uint8", (1, 100, 60)))
    content = (tmp_path / "a.tif").read_bytes()
    expected = None
    for level in (2, 1, 0, None):
        with rasterio.open(tmp_path / "a.tif", **({} if level is None else {"overview_level": level})) as file:
            rows, cols = (-(-n // 16) for n in file.shape)
            for y, x in np.ndindex(rows, cols):
                offset, length = _tile(file, int(y), int(x))
                assert expected in (None, offset)  # no gaps
                assert int.from_bytes(content[offset - 4 : offset], "little") == length
                assert content[offset + length : offset + length + 4] == content[offset + length - 4 : offset + length]
                expected = offset + length + 8
    assert expected == len(content) + 4


def _tile(file: Any, y: int, x: int) -> tuple[int, int]:
    where = (f"BLOCK_OFFSET_{x}_{y}", f"BLOCK_SIZE_{x}_{y}")
    offset, length = (int(file.get_tag_item(name, "TIFF", bidx=1)) for name in where)
    return offset, length


@pytest.mark.parametrize("crs", ["EPSG:32621", "EPSG:4326", "EPSG:3857", "EPSG:3035", "EPSG:32761", SINUSOIDAL, None])
@pytest.mark.parametrize("turned", [False, True])
def test_the_georeference_is_what_gdal_would_write(tmp_path: Path, crs: str | None, turned: bool) -> None:
    affine = Affine(0.25, 0, 12.5, 0, -0.25, 48.25)
    geobox = GeoBox((20, 30), affine @ Affine.rotation(30) if turned else affine, crs)
    made(tmp_path / "a.tif", noise("uint8", (1, 20, 30)), geobox=geobox)
    profile = {"driver": "GTiff", "count": 1, "height": 20, "width": 30, "dtype": "uint8"}
    with rasterio.open(tmp_path / "gdal.tif", "w", crs=crs, transform=geobox.affine, **profile):
        pass
    with rasterio.open(tmp_path / "a.tif") as ours, rasterio.open(tmp_path / "gdal.tif") as theirs:
        assert ours.crs == theirs.crs
        assert ours.transform == theirs.transform
    assert names(tmp_path) == ["a.tif", "gdal.tif"]  # no side file


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "int32", "float32"])
def test_statistics_are_those_of_the_valid_pixels(tmp_path: Path, dtype: str) -> None:
    rng = np.random.default_rng(1)
    pixels = (rng.normal(40, 10, (2, 133, 77))).astype(dtype)
    pixels[0, :50] = 99
    info = made(tmp_path / "a.tif", pixels, nodata=99)
    for band, values in enumerate(pixels):
        used = values[values != 99].astype(np.float64)
        found = info.statistics[band]
        exact = [used.min(), used.max(), used.mean(), used.std(), 100 * used.size / values.size]
        given_out = [found.minimum, found.maximum, found.mean, found.stddev, found.valid_percent]
        np.testing.assert_allclose(given_out, exact, rtol=1e-9)
        with rasterio.open(tmp_path / "a.tif") as file:
            tags = file.tags(band + 1)
        names = ("STATISTICS_MINIMUM", "STATISTICS_MAXIMUM", "STATISTICS_MEAN", "STATISTICS_STDDEV")
        np.testing.assert_allclose([float(tags[name]) for name in names], exact[:4], rtol=1e-9)
        assert float(tags["STATISTICS_VALID_PERCENT"]) == pytest.approx(exact[4], rel=1e-3)


def test_a_map_without_data_has_no_statistics(tmp_path: Path) -> None:
    info = made(tmp_path / "a.tif", np.full((1, 40, 40), 255, np.uint8), nodata=255, overview="mode")
    assert info.statistics[0].minimum is None
    assert info.statistics[0].valid_percent == 0.0
    with rasterio.open(tmp_path / "a.tif") as file:
        assert not file.read_masks(1).any()
        assert "STATISTICS_MEAN" not in file.tags(1)


def test_scale_descriptions_and_colours(tmp_path: Path) -> None:
    pixels = noise("uint8", (1, 40, 40))
    colours = {0: (10, 20, 30, 255), 4: (250, 0, 5, 255)}
    options = {"scale": 0.004, "offset": -1.0, "descriptions": ["clasé <1>"]}
    info = made(tmp_path / "a.tif", pixels, nodata=255, colormap=colours, overview="mode", **options)
    for level in ({}, {"overview_level": 0}):
        with rasterio.open(tmp_path / "a.tif", **level) as file:
            assert {k: file.colormap(1)[k] for k in colours} == colours
            assert file.colorinterp[0].name == "palette"
    with rasterio.open(tmp_path / "a.tif") as file:
        assert (file.scales, file.offsets, file.descriptions) == ((0.004,), (-1.0,), ("clasé <1>",))
        assert file.tags()["AREA_OR_POINT"] == "Area"
    assert info.size == (tmp_path / "a.tif").stat().st_size
    assert info.sha256 == sha256(tmp_path / "a.tif")


def test_an_error_in_the_body_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(b"old")
    cog = CogWriter(path, grid(40, 40), "uint8", nodata=None)

    def failing() -> None:
        with cog:
            cog.write(np.zeros((40, 40), np.uint8))
            raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        failing()
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a.tif"]
    with pytest.raises(InputError, match="aborted"):
        cog.close()


def test_missing_rows_are_an_error(tmp_path: Path) -> None:
    cog = CogWriter(tmp_path / "a.tif", grid(40, 30), "uint8", nodata=None)
    cog.write(np.zeros((39, 30), np.uint8))
    with pytest.raises(InputError, match="39 written; the grid has 40"):
        cog.close()
    assert names(tmp_path) == []


def test_rows_that_do_not_fit_are_refused_and_the_rest_goes_on(tmp_path: Path) -> None:
    with CogWriter(tmp_path / "a.tif", grid(4, 30), "uint8", nodata=None) as cog:
        for rows, message in [
            (np.zeros((2, 31), np.uint8), r"expected \(1, any, 30\)"),
            (np.zeros((2, 2, 30), np.uint8), r"expected \(1, any, 30\)"),
            (np.zeros((2, 30), np.int16), "dtype int16; expected uint8"),
            (np.zeros((5, 30), np.uint8), "5 in all; the grid has 4"),
        ]:
            with pytest.raises(InputError, match=message):
                cog.write(rows)
        cog.write(np.ones((4, 30), np.uint8))
    assert cog.close() == cog.close()
    with pytest.raises(InputError, match="closed"):
        cog.write(np.ones((1, 30), np.uint8))
    with rasterio.open(tmp_path / "a.tif") as file:
        assert (file.read(1) == 1).all()


@pytest.mark.parametrize(
    ("dtype", "options", "message"),
    [
        ("complex64", {}, "dtype: complex64"),
        ("uint8", {"nodata": 256}, "nodata: 256; expected a value of uint8"),
        ("uint8", {"nodata": float("nan")}, "nodata: nan"),
        ("uint8", {"nodata": 0.5}, "nodata: 0.5"),
        ("float32", {"nodata": 1e300}, "nodata: 1e[+]300"),
        ("uint8", {"tile": 100}, "multiple of 16"),
        ("uint8", {"bands": 0}, "0 bands"),
        ("uint8", {"overview": "cubic"}, "overview: 'cubic'"),
        ("uint8", {"bands": 2, "colormap": {0: (0, 0, 0, 255)}}, "colormap: 2 bands"),
        ("int16", {"colormap": {0: (0, 0, 0, 255)}}, "colormap: 1 bands of int16"),
        ("uint8", {"descriptions": ["a", "b"]}, "descriptions: 2; expected 1"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(tmp_path: Path, dtype: str, options: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        CogWriter(tmp_path / "a.tif", grid(40, 30), dtype, **{"nodata": None, **options})
    assert names(tmp_path) == []


def test_a_crs_that_geotiff_cannot_hold_is_refused(tmp_path: Path) -> None:
    rotated_pole = "+proj=ob_tran +o_proj=longlat +o_lon_p=0 +o_lat_p=39 +lon_0=18 +datum=WGS84 +no_defs"
    with pytest.raises(InputError, match="GeoTIFF cannot hold the CRS"):
        CogWriter(tmp_path / "a.tif", grid(40, 30, rotated_pole), "uint8", nodata=None)


def test_memory_does_not_grow_with_the_height(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cogwrite, "SPOOL_BYTES", 2**16)
    rows = noise("uint8", (128, 1024), values=256)

    def peak(strips: int) -> int:
        tracemalloc.start()
        with CogWriter(tmp_path / "a.tif", grid(128 * strips, 1024), "uint8", nodata=None, tile=128) as cog:
            for _ in range(strips):
                cog.write(rows)
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    peak(2)  # the first use of a library allocates once
    short, tall = peak(16), peak(160)
    assert (tmp_path / "a.tif").stat().st_size > 10 * 2**20
    assert tall - short < 2**20  # the tile tables and the copy buffer


def test_a_disk_that_refuses_is_a_data_error_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cogwrite, "SPOOL_BYTES", 2**12)
    cog = CogWriter(tmp_path / "a.tif", grid(1024, 1024), "uint8", nodata=None, tile=64)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**18, limits[1]))
    try:
        with pytest.raises(DataError, match=r"a\.tif: not written .*too large"):
            cog.write(noise("uint8", (1024, 1024), values=256))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert names(tmp_path) == []
    with pytest.raises(InputError, match="aborted"):
        cog.close()


@pytest.mark.parametrize(("size", "big"), [(2**32 - 5000, False), (2**32, True), (2**35, True)])
def test_bigtiff_begins_where_classic_ends(tmp_path: Path, size: int, big: bool) -> None:
    made(tmp_path / "a.tif", noise("uint8", (1, 16, 16)))
    template = first_directory((tmp_path / "a.tif").read_bytes())
    offsets = np.array([4, size - 1000], np.uint64)
    full = LevelTable(32, 16, offsets, np.array([7, 9], np.uint32), size)
    small = LevelTable(16, 8, np.array([4], np.uint64), np.array([5], np.uint32), 13)
    header = cog_header(template, [full, small])
    assert header[:4] == (b"II+\0" if big else b"II*\0")
    (tmp_path / "b.tif").write_bytes(header)  # a reader of tags needs no tiles
    with rasterio.open(tmp_path / "b.tif") as file:
        assert _tile(file, 0, 1) == (len(header) + 13 + size - 1000, 9)
    with rasterio.open(tmp_path / "b.tif", overview_level=0) as file:
        assert _tile(file, 0, 0) == (len(header) + 4, 5)


def test_a_tiff_of_another_kind_is_no_template() -> None:
    with pytest.raises(ValueError, match="little-endian"):
        first_directory(b"MM\0*" + bytes(100))
