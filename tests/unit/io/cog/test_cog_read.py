"""Reading: pixels against numpy and exact coordinates, validity of every kind, the same answer for every cut."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyproj
import pytest
import rasterio
from affine import Affine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from rasterio.enums import ColorInterp, Resampling
from rasterio.vrt import WarpedVRT

from geoml.errors import InputError
from geoml.io.cog import read as cog
from geoml.io.stac.bands import BandSpec

UTM = Affine(10.0, 0.0, 500_000.0, 0.0, -10.0, 5_000_000.0)


def write(path: Path, data: np.ndarray, *, transform: Affine = UTM, crs: str = "EPSG:32632", **options) -> Path:
    """(band, y, x) as a tiled GeoTIFF with 64-pixel tiles."""
    count, height, width = data.shape
    profile = {"count": count, "height": height, "width": width, "dtype": data.dtype, "crs": crs}
    layout = {"tiled": True, "blockxsize": 64, "blockysize": 64, "interleave": "pixel", "compress": "deflate"}
    overviews = options.pop("overviews", [])
    with rasterio.open(path, "w", driver="GTiff", transform=transform, **profile, **layout, **options) as file:
        file.write(data)
        if overviews:
            file.build_overviews(overviews, Resampling.average)
    return path


def specs(path: Path, *indexes: int, **options) -> list[BandSpec]:
    return [BandSpec("item", "asset", str(path), f"b{i}", index=i, remote=False, **options) for i in indexes]


def box(row: int, col: int, height: int, width: int, res: float = 10.0) -> GeoBox:
    """A grid whose corner is ``row``, ``col`` ten-metre pixels from the corner of the files."""
    corner = UTM @ (col, row)
    return GeoBox((height, width), Affine(res, 0, corner[0], 0, -res, corner[1]), "EPSG:32632")


@pytest.fixture(scope="module")
def noise(tmp_path_factory) -> tuple[Path, np.ndarray]:
    data = np.random.default_rng(1).integers(1, 10_000, (3, 300, 270), dtype=np.uint16)
    data[:, 40:80, 100:130] = 0
    return write(tmp_path_factory.mktemp("cog") / "noise.tif", data, nodata=0, overviews=[2, 4]), data


@pytest.fixture(scope="module")
def ramp(tmp_path_factory) -> Path:
    """Band 1 is the column and band 2 the row of the pixel centre: bilinear interpolation gives coordinates back."""
    row, col = np.mgrid[:400, :400].astype(np.float32) + 0.5
    return write(tmp_path_factory.mktemp("cog") / "ramp.tif", np.stack([col, row]))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(-80, 320), st.integers(-80, 300), st.integers(1, 200), st.integers(1, 200))
def test_an_aligned_window_is_a_slice(noise, row, col, height, width) -> None:
    path, data = noise
    padded = np.pad(data, ((0, 0), (600, 600), (600, 600)))
    expected = padded[[2, 0], 600 + row : 600 + row + height, 600 + col : 600 + col + width]
    values, valid = cog.read(specs(path, 3, 1), box(row, col, height, width))
    assert values.dtype == np.uint16
    np.testing.assert_array_equal(values, expected)
    np.testing.assert_array_equal(valid, expected != 0)


def test_an_overview_that_fits_is_copied(tmp_path) -> None:
    data = np.random.default_rng(0).integers(0, 255, (1, 256, 256), dtype=np.uint8)
    path = write(tmp_path / "even.tif", data, overviews=[2])
    with rasterio.open(path, overview_level=0) as file:
        expected = file.read(window=((20, 84), (10, 74)))
    values, valid = cog.read(specs(path, 1), box(40, 20, 64, 64, res=20.0))
    np.testing.assert_array_equal(values, expected)
    assert valid.all()


def test_classes_come_from_full_resolution(tmp_path) -> None:
    data = (np.random.default_rng(0).integers(0, 2, (1, 256, 256)) * 200 + 1).astype(np.uint8)
    path = write(tmp_path / "classes.tif", data, overviews=[2])
    values, _ = cog.read(specs(path, 1), box(16, 16, 32, 32, res=25.0), resampling="nearest")
    assert set(np.unique(values)) == {1, 201}


@pytest.mark.parametrize("crs", ["EPSG:32633", "EPSG:3857", "EPSG:4326", "EPSG:3035"])
def test_a_warp_places_pixels_exactly(ramp, crs) -> None:
    there = pyproj.Transformer.from_crs("EPSG:32632", crs, always_xy=True)
    x, y = there.transform(502_000.0, 4_998_000.0)
    res = 10.0 if crs != "EPSG:4326" else 10.0 / 111_319.49
    target = GeoBox((150, 140), Affine(res, 0, round(x / res) * res, 0, -res, round(y / res) * res), crs)
    values, valid = cog.read(specs(ramp, 1, 2), target)
    cols, rows = np.meshgrid(np.arange(140) + 0.5, np.arange(150) + 0.5)
    u, v = there.transform(*(target.affine @ (cols, rows)), direction="INVERSE")
    col, row = ~UTM @ (u, v)
    assert valid.all()
    assert np.abs(values[0] - col).max() < 0.01
    assert np.abs(values[1] - row).max() < 0.01


def test_a_warp_agrees_with_gdal(noise) -> None:
    path, _ = noise
    x, y = pyproj.Transformer.from_crs(32632, 32633, always_xy=True).transform(501_200.0, 4_998_500.0)
    target = GeoBox((90, 100), Affine(10, 0, round(x, -1), 0, -10, round(y, -1)), "EPSG:32633")
    options = {"crs": "EPSG:32633", "transform": target.affine, "height": 90, "width": 100, "tolerance": 0.001}
    with rasterio.open(path) as file, WarpedVRT(file, resampling=Resampling.nearest, **options) as vrt:
        expected = vrt.read()
    values, valid = cog.read(specs(path, 1, 2, 3), target, resampling="nearest")
    assert (values == expected).mean() > 0.999  # ties of nearest
    assert (valid == (expected != 0)).mean() > 0.999


def test_nodata_has_no_weight_in_a_kernel(tmp_path) -> None:
    data = np.full((1, 128, 128), 1000, np.uint16)
    data[:, 30:60, 30:60] = 7  # nodata by the spec
    path = write(tmp_path / "hole.tif", data)
    values, valid = cog.read(specs(path, 1, nodata=7.0), box(10, 10, 140, 140, res=6.0))
    assert set(np.unique(values[valid])) == {1000}
    assert not values[~valid].any()
    assert 0.05 < (~valid).mean() < 0.2


def test_without_overviews_the_kernel_widens(tmp_path) -> None:
    data = np.random.default_rng(4).normal(0, 1, (1, 400, 400)).astype(np.float32)
    values, _ = cog.read(specs(write(tmp_path / "plain.tif", data), 1), box(3, 3, 90, 90, res=40.5))
    assert 0.1 < values.std() < 0.22  # a triangle of four pixels each way; 0.4 with one axis only, 0.6 with none


KINDS = {
    "zone": ("EPSG:32633", 10.0, "bilinear"),
    "zone nearest": ("EPSG:32633", 10.0, "nearest"),
    "finer": ("EPSG:32632", 4.0, "bilinear"),
    "half a pixel": ("EPSG:32632", 5.0, "bilinear"),
    "coarser": ("EPSG:32632", 30.0, "bilinear"),
    "zone, overview": ("EPSG:32633", 25.0, "bilinear"),
    "degrees": ("EPSG:4326", 10.0 / 111_319.49, "bilinear"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_pixels_do_not_depend_on_the_cut(noise, kind, monkeypatch) -> None:
    path, _ = noise
    crs, res, resampling = KINDS[kind]
    x, y = pyproj.Transformer.from_crs("EPSG:32632", crs, always_xy=True).transform(499_800.0, 5_000_200.0)
    target = GeoBox((700, 700), Affine(res, 0, round(x / res) * res, 0, -res, round(y / res) * res), crs)
    whole = cog.read(specs(path, 1, 2), target, resampling=resampling)
    assert whole[1].any()
    rng = np.random.default_rng(len(kind))
    for _ in range(5):
        r0, c0 = rng.integers(0, 600, 2)
        r1, c1 = (min(700, int(v + rng.integers(1, 300))) for v in (r0, c0))
        part = cog.read(specs(path, 1, 2), target[r0:r1, c0:c1], resampling=resampling)
        for got, expected in zip(part, whole, strict=True):
            np.testing.assert_array_equal(got, expected[:, r0:r1, c0:c1])
    monkeypatch.setattr(cog, "MAX_SOURCE", 20_000)
    for got, expected in zip(cog.read(specs(path, 1, 2), target, resampling=resampling), whole, strict=True):
        np.testing.assert_array_equal(got, expected)


def test_south_up_equals_north_up(noise, tmp_path) -> None:
    path, data = noise
    flipped = UTM @ Affine.translation(0, 300) @ Affine.scale(1, -1)
    other = write(tmp_path / "south.tif", data[:, ::-1], transform=flipped, nodata=0)
    for target in (box(20, 30, 100, 90), box(-20, 200, 60, 90), box(21, 33, 50, 60, res=7.0)):
        for got, expected in zip(cog.read(specs(other, 1), target), cog.read(specs(path, 1), target), strict=True):
            np.testing.assert_array_equal(got, expected)


def test_a_global_source_at_the_antimeridian(tmp_path) -> None:
    lon = np.mgrid[:1800, -1800:1800][1] / 10.0
    turn = np.cos(np.radians(lon + 0.05)).astype(np.float32)  # the same on both sides of 180
    transform = Affine(0.1, 0, -180, 0, -0.1, 90)
    path = write(tmp_path / "world.tif", turn[None], transform=transform, crs="EPSG:4326")
    target = GeoBox((60, 80), Affine(5000, 0, 0, 0, -5000, 8_000_000), "EPSG:32601")  # 40 pixels west of zone 1's 180
    values, valid = cog.read(specs(path, 1), target)
    cols, rows = np.meshgrid(np.arange(80) + 0.5, np.arange(60) + 0.5)
    back = pyproj.Transformer.from_crs("EPSG:32601", "EPSG:4326", always_xy=True)
    place, _ = back.transform(*(target.affine @ (cols, rows)))
    assert place.min() < -175 < 175 < place.max()
    assert valid.mean() > 0.98  # a column at the seam may have no neighbour
    assert np.abs(values[0] - np.cos(np.radians(place)))[valid[0]].max() < 1e-4


def test_validity_of_every_kind(tmp_path) -> None:
    floats = np.ones((2, 64, 64), np.float32)
    floats[0, 0, :4] = [np.nan, np.inf, -np.inf, -9999]
    values, valid = cog.read(specs(write(tmp_path / "f.tif", floats, nodata=-9999), 1, 2), box(0, 0, 2, 8))
    assert valid[0, 0].tolist() == [False] * 4 + [True] * 4
    assert valid[1].all()
    assert values[0, 0].tolist() == [0.0] * 4 + [1.0] * 4

    bytes_ = np.zeros((1, 64, 64), np.uint8)
    assert cog.read(specs(write(tmp_path / "u.tif", bytes_), 1, nodata=-9999.0), box(0, 0, 4, 4))[1].all()
    assert not cog.read(specs(tmp_path / "u.tif", 1, nodata=0.0), box(0, 0, 4, 4))[1].any()

    masked = write(tmp_path / "m.tif", bytes_)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(masked, "r+") as file:
        file.write_mask(np.arange(64 * 64).reshape(64, 64) % 64 > 9)
    assert cog.read(specs(masked, 1), box(0, 0, 1, 20))[1][0, 0].tolist() == [False] * 10 + [True] * 10

    rgba = np.full((4, 64, 64), 50, np.uint8)
    rgba[3, :, :5] = 0
    path = write(tmp_path / "a.tif", rgba, photometric="RGB", alpha="YES")
    with rasterio.open(path) as file:
        assert file.colorinterp[3] == ColorInterp.alpha
    values, valid = cog.read(specs(path, 1, 2), box(0, 0, 1, 8))
    assert valid[:, 0].tolist() == [[False] * 5 + [True] * 3] * 2
    assert values[0, 0].tolist() == [0] * 5 + [50] * 3
    assert cog.read(specs(path, 1, 4), box(0, 0, 1, 8))[1].all()  # a band asked for as data hides nothing


def test_header(noise) -> None:
    path, _ = noise
    actual = cog.header(specs(path, 2)[0])
    assert (actual.crs, actual.res, actual.anchor, actual.shape) == ("EPSG:32632", 10.0, 0.0, (300, 270))
    assert (actual.dtype, actual.nodata) == ("uint16", 0)
    assert actual.geobox.affine == UTM


def test_what_is_asked_wrongly(noise, ramp) -> None:
    with pytest.raises(InputError, match="resampling: 'magic'"):
        cog.read(specs(noise[0], 1), box(0, 0, 4, 4), resampling="magic")
    with pytest.raises(InputError, match="one asset"):
        cog.read([*specs(noise[0], 1), *specs(ramp, 1)], box(0, 0, 4, 4))
    with pytest.raises(InputError, match="one asset"):
        cog.read([], box(0, 0, 4, 4))
