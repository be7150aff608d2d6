"""Files that mean harm, or that nobody checked: refused by an error that says why, or read as they are."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import pystac
import pytest
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.vrt import WarpedVRT
from rasterio.warp import Resampling

from geoml.errors import DataError
from geoml.io.cog import read as cog
from geoml.io.cog.projection import check_projection
from geoml.io.cog.write import CogWriter
from geoml.io.stac.bands import BandSpec, band_specs
from geoml.io.stac.catalog import Catalog, Profile
from geoml.io.stores.store import sha256

UTM = Affine(10, 0, 500_000, 0, -10, 5_000_000)


def write(path: Path, data: np.ndarray, **options: Any) -> Path:
    """(band, y, x) as a GeoTIFF; in UTM where nothing else is said."""
    profile = {"driver": "GTiff", "crs": "EPSG:32632", "transform": UTM, **options}
    count, height, width = data.shape
    with rasterio.open(path, "w", count=count, height=height, width=width, dtype=data.dtype, **profile) as file:
        file.write(data)
    return path


def spec(path: Path, **known: Any) -> BandSpec:
    return BandSpec("S2X", "B04", str(path), "red", **{"remote": False, **known})


def grid(height: int, width: int, row: int = 0, col: int = 0) -> GeoBox:
    return GeoBox((height, width), UTM @ Affine.translation(col, row), "EPSG:32632")


# ---- damage


def ours(path: Path) -> np.ndarray:
    """One of our own maps, whose last row of tiles is not full."""
    pixels = np.random.default_rng(0).integers(0, 5, (1, 200, 190)).astype(np.uint8)
    with CogWriter(path, grid(200, 190), "uint8", nodata=255, tile=64, overview="mode") as writer:
        writer.write(pixels)
    return pixels


def test_each_of_120_flipped_bits_in_our_own_map_is_found(tmp_path: Path) -> None:
    """Also where GDAL stops before the checksum of a tile: the item says the sum of the file."""
    path = tmp_path / "map.tif"
    pixels = ours(path)
    good, checksum = path.read_bytes(), f"1220{sha256(path)}"
    values, valid = cog.read([spec(path, checksum=checksum)], grid(200, 190))
    np.testing.assert_array_equal(values, pixels)
    assert valid.all()
    random = np.random.default_rng(1)
    first = good.index(b"\x28\xb5\x2f\xfd")
    for at in random.integers(first, len(good), 120):
        bad = bytearray(good)
        bad[at] ^= 1 << int(random.integers(8))
        path.write_bytes(bad)
        with pytest.raises(DataError, match="item S2X, asset B04"):
            cog.read([spec(path, checksum=checksum)], grid(200, 190))


def test_a_sum_is_compared_where_it_can_be(tmp_path: Path, machine: Callable[..., None]) -> None:
    path = write(tmp_path / "a.tif", np.full((1, 64, 64), 7, np.uint16), compress="deflate")
    wrong = "1220" + "0" * 64
    with pytest.raises(DataError, match=r"damaged or another file.*GEOML_VERIFY"):
        cog.read([spec(path, checksum=wrong)], grid(64, 64))
    for unknown in ("1114" + "0" * 40, "", "no sum", None):  # SHA-1 and nonsense are not ours to judge
        assert cog.read([spec(path, checksum=unknown)], grid(64, 64))[1].all()
    machine(verify=False)
    assert cog.read([spec(path, checksum=wrong)], grid(64, 64))[1].all()


def test_the_sum_comes_from_the_item(tmp_path: Path) -> None:
    item = pystac.Item("a", None, None, pystac.utils.str_to_datetime("2020-01-01T00:00:00Z"), {})
    item.add_asset("red", pystac.Asset("red.tif", media_type="image/tiff", extra_fields={"file:checksum": "1220ab"}))
    catalog = Catalog("made", "catalog.json", "static", remote=False, root=tmp_path)
    assert band_specs(item, Profile(), catalog)["red"].checksum == "1220ab"


# ---- headers


def sparse(path: Path, tags: list[tuple[int, int, int, int]]) -> Path:
    """A TIFF of nothing but a directory: (tag, type, count, value)."""
    body = b"".join(struct.pack("<HHII", *tag) for tag in sorted(tags))
    path.write_bytes(b"II*\x00" + struct.pack("<IH", 8, len(tags)) + body + bytes(4) + bytes(64))
    return path


def image(width: int, height: int, bands: int, tile: int) -> list[tuple[int, int, int, int]]:
    known = [
        (256, 4, 1, width),
        (257, 4, 1, height),
        (258, 3, 1, 8),
        (259, 3, 1, 1),
        (262, 3, 1, 1),
        (277, 3, 1, bands),
    ]
    return [*known, (322, 4, 1, tile), (323, 4, 1, tile), (324, 4, 1, 0), (325, 4, 1, 0), (284, 3, 1, 1)]


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize(
    "tags",
    [
        image(1_000_000, 1_000_000, 1, 512),
        image(512, 512, 65_535, 512),
        image(2**31 - 1, 2**31 - 1, 4, 16),
        image(512, 512, 1, 2**30),
        [(256, 4, 1, 0), (257, 4, 1, 0)],
        [],
    ],
    ids=["10^12 pixels", "65535 bands", "2^62 pixels", "a tile of 2^60", "nothing", "no tags"],
)
def test_headers_that_promise_too_much(tmp_path: Path, tags: list[tuple[int, int, int, int]]) -> None:
    started = time.monotonic()
    with pytest.raises(DataError, match="item S2X, asset B04"):
        cog.read([spec(sparse(tmp_path / "a.tif", tags))], grid(256, 256))
    assert time.monotonic() - started < 5


def test_an_honest_file_of_a_billion_pixels_is_read_in_its_window(tmp_path: Path) -> None:
    layout = {"tiled": True, "blockxsize": 256, "blockysize": 256, "sparse_ok": True, "compress": "deflate"}
    path = tmp_path / "big.tif"
    size = {"width": 100_000, "height": 100_000, "count": 1, "dtype": "uint8"}
    with rasterio.open(path, "w", driver="GTiff", crs="EPSG:32632", transform=UTM, **size, **layout) as file:
        file.write(np.full((1, 256, 256), 9, np.uint8), window=rasterio.windows.Window(512, 512, 256, 256))
    started = time.monotonic()
    assert (cog.read([spec(path)], grid(256, 256, 512, 512))[0] == 9).all()
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("layout", [{"tiled": True, "blockxsize": 512, "blockysize": 512}, {"blockysize": 1}])
def test_a_window_of_a_continent_is_cheap(tmp_path: Path, layout: dict[str, Any]) -> None:
    """More than 10^11 pixels: what is decoded and the table of tiles cost, what is declared does not."""
    path = tmp_path / "a.tif"
    size = {"width": 400_000, "height": 300_000, "count": 1, "dtype": "uint8"}
    how = {"sparse_ok": True, "compress": "deflate", "BIGTIFF": "YES", **layout}
    with rasterio.open(path, "w", driver="GTiff", crs="EPSG:32632", transform=UTM, **size, **how) as file:
        file.write(np.full((1, 512, 512), 9, np.uint8), window=rasterio.windows.Window(102_400, 102_400, 512, 512))
    started = time.monotonic()
    values, valid = cog.read([spec(path)], grid(300, 300, 102_500, 102_500))
    assert (values == 9).all()
    assert valid.all()
    assert time.monotonic() - started < 5


def test_a_table_of_tiles_that_fills_the_memory_is_refused(tmp_path: Path) -> None:
    """A place on Earth and 156 million tiles in a kilobyte."""
    path = write(tmp_path / "a.tif", np.zeros((1, 16, 16), np.uint8), tiled=True, blockxsize=16, blockysize=16)
    body = bytearray(path.read_bytes())
    (start,) = struct.unpack_from("<I", body, 4)
    (count,) = struct.unpack_from("<H", body, start)
    for at in range(start + 2, start + 2 + 12 * count, 12):
        if struct.unpack_from("<H", body, at)[0] in (256, 257):
            struct.pack_into("<HII", body, at + 2, 4, 1, 200_000)
    path.write_bytes(body)
    with pytest.raises(DataError, match=r"item S2X, asset B04.*200000 x 200000 x 1 in tiles of 16 x 16.*MAX_TABLE"):
        cog.read([spec(path)], grid(256, 256))


def test_an_overview_of_one_huge_tile_is_refused(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.tif", np.ones((9, 512, 512), np.uint8), tiled=True, interleave="pixel", compress="deflate"
    )
    with rasterio.Env(GDAL_TIFF_OVR_BLOCKSIZE=4096), rasterio.open(path, "r+") as file:
        file.build_overviews([2], Resampling.nearest)
    assert cog.read([spec(path)], grid(256, 256))[1].all()
    coarse = GeoBox((100, 100), UTM @ Affine.scale(2), "EPSG:32632")
    with pytest.raises(DataError, match=r"item S2X, asset B04.*one tile of it decodes to 150994944 bytes"):
        cog.read([spec(path)], coarse)


def made_item(transform: Affine, code: object = "EPSG:32632") -> pystac.Item:
    item = pystac.Item("S2X", None, None, pystac.utils.str_to_datetime("2020-01-01T00:00:00Z"), {"proj:code": code})
    fields = {"proj:transform": list(transform)[:6], "proj:shape": [64, 64]}
    item.add_asset("B04", pystac.Asset("a.tif", extra_fields=fields))
    return item


def test_an_item_of_a_file_that_is_south_up(tmp_path: Path) -> None:
    turned = UTM @ Affine(1, 0, 0, 0, -1, 64)
    path = write(tmp_path / "a.tif", np.ones((1, 64, 64), np.uint8), transform=turned)
    check_projection(made_item(turned), spec(path))
    check_projection(made_item(UTM), spec(path))


@pytest.mark.parametrize(
    ("shift", "wrong"),
    [((0, 0), False), ((0.4, -0.4), False), ((0.6, 0), True), ((0, -0.6), True), ((100, 100), True)],
)
def test_an_item_that_contradicts_its_file(tmp_path: Path, shift: tuple[float, float], wrong: bool) -> None:
    path = write(tmp_path / "a.tif", np.ones((1, 64, 64), np.uint8))
    item = made_item(UTM @ Affine.translation(*shift))
    if not wrong:
        check_projection(item, spec(path))
        return
    with pytest.raises(DataError, match="item S2X, asset B04: proj:transform"):
        check_projection(item, spec(path))


def test_an_item_of_another_zone_or_pixel_size(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", np.ones((1, 64, 64), np.uint8))
    for item, said in [
        (made_item(UTM, "EPSG:32633"), "the file is in EPSG:32632"),
        (made_item(UTM @ Affine.scale(2)), "proj:transform"),
        (made_item(Affine(0, 0, 500_000, 0, 0, 5_000_000)), "proj:transform"),
        (made_item(Affine(float("inf"), 0, 5e5, 0, -10, 5e6)), "proj:transform"),
    ]:
        with pytest.raises(DataError, match=f"item S2X, asset B04.*{said}"):
            check_projection(item, spec(path))
    broken = made_item(UTM)
    broken.assets["B04"].extra_fields["proj:transform"] = ["a", 1]
    with pytest.raises(DataError, match="proj:transform"):
        check_projection(broken, spec(path))


# ---- unusual and right


@pytest.mark.parametrize(
    "layout",
    [{"blockysize": 1}, {"blockysize": 7}, {"interleave": "band"}, {"tiled": True, "blockxsize": 16, "blockysize": 48}],
    ids=["rows", "strips", "band", "narrow tiles"],
)
@pytest.mark.parametrize("compress", ["none", "lzw", "deflate"])
def test_strips_and_odd_tiles(tmp_path: Path, layout: dict[str, Any], compress: str) -> None:
    data = np.random.default_rng(2).integers(1, 9000, (2, 133, 97), dtype=np.uint16)
    path = write(tmp_path / "a.tif", data, compress=compress, **layout)
    values, valid = cog.read([spec(path), spec(path, index=2)], grid(80, 60, 20, 30))
    np.testing.assert_array_equal(values, data[:, 20:100, 30:90])
    assert valid.all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (3, 5), (511, 33)])
def test_tiny_and_odd_scenes(tmp_path: Path, shape: tuple[int, int]) -> None:
    data = np.random.default_rng(2).integers(1, 255, (1, *shape), dtype=np.uint8)
    path = write(tmp_path / "a.tif", data)
    values, valid = cog.read([spec(path)], grid(shape[0] + 20, shape[1] + 20, -10, -10))
    np.testing.assert_array_equal(values[:, 10:-10, 10:-10], data)
    assert valid.sum() == data.size
    other = GeoBox((60, 60), Affine(7, 0, 499_990, 0, -7, 5_000_010), "EPSG:32632")
    values, valid = cog.read([spec(path)], other)
    assert valid.any()
    assert set(np.unique(values[valid])) <= set(range(256)) - {0}


@pytest.mark.parametrize(
    ("dtype", "nodata", "declared"),
    [
        ("int8", -128, None),
        ("int16", -9999, None),
        ("uint32", 4_294_967_295, None),
        ("int32", -2_147_483_648, None),
        ("float32", None, -9999.0),
        ("float64", -1e30, None),
        ("float32", float("nan"), None),
        ("uint8", None, -1.0),  # a nodata value that the dtype cannot hold marks nothing
        ("uint8", None, 0.5),
        ("uint16", 0, 65535.0),  # both count; here nothing is 0
    ],
)
def test_nodata_of_every_dtype(tmp_path: Path, dtype: str, nodata: float | None, declared: float | None) -> None:
    data = np.full((1, 64, 64), 5, dtype)
    value = declared if declared is not None else nodata
    kind = np.dtype(dtype)
    holds = kind.kind == "f" or value in range(np.iinfo(kind).min, np.iinfo(kind).max + 1)
    if holds:
        data[0, :3, :4] = value
    path = write(tmp_path / "a.tif", data, nodata=nodata)
    values, valid = cog.read([spec(path, nodata=declared)], grid(64, 64))
    expected = np.ones((64, 64), bool)
    if holds:
        expected[:3, :4] = False
    np.testing.assert_array_equal(valid[0], expected)
    assert values.dtype == kind
    assert (values[valid] == 5).all()
    assert not values[~valid].any()


def test_infinities_are_invalid(tmp_path: Path) -> None:
    data = np.ones((1, 64, 64), np.float32)
    data[0, 0, :3] = [np.nan, np.inf, -np.inf]
    values, valid = cog.read([spec(write(tmp_path / "a.tif", data))], grid(64, 64))
    assert (~valid).sum() == 3
    assert np.isfinite(values).all()
    other = GeoBox((30, 30), Affine(13, 0, 500_000, 0, -13, 5_000_000), "EPSG:32632")
    values, valid = cog.read([spec(tmp_path / "a.tif")], other)
    assert np.isfinite(values).all()


def test_bands_are_found_by_name_not_by_place(tmp_path: Path) -> None:
    """B4, B3, B2 in the file; the item says which is which."""
    item = pystac.Item("a", None, None, pystac.utils.str_to_datetime("2020-01-01T00:00:00Z"), {})
    bands = [{"eo:common_name": name} for name in ("blue", "green", "red")]
    item.add_asset("image", pystac.Asset("a.tif", media_type="image/tiff", extra_fields={"bands": bands}))
    catalog = Catalog("made", "catalog.json", "static", remote=False, root=tmp_path)
    found = band_specs(item, Profile(), catalog)
    assert {name: found[name].index for name in ("red", "green", "blue")} == {"red": 3, "green": 2, "blue": 1}
    path = write(tmp_path / "a.tif", np.ones((2, 64, 64), np.uint8))
    with pytest.raises(DataError, match="band 3 of 'red' does not exist; the file has 2"):
        cog.read([spec(path, index=found["red"].index)], grid(8, 8))


# ---- places where maps end


def test_over_the_antimeridian_in_degrees(tmp_path: Path) -> None:
    """Two files in degrees, one on each side; the target is a UTM grid over 180°."""
    lat = np.linspace(1, -1, 201)[:-1] - 0.005
    west = 179 + (np.arange(100) + 0.5) * 0.01
    for name, start, lon in (("w", 179.0, west), ("e", -180.0, west + 1)):
        field = np.round(1000 + 100 * (lon[None] - 179) + 10 * lat[:, None], 2)[None].astype(np.float32)
        write(tmp_path / f"{name}.tif", field, crs="EPSG:4326", transform=Affine(0.01, 0, start, 0, -0.01, 1))
    to = pyproj.Transformer.from_crs("EPSG:4326", "EPSG:32660", always_xy=True)
    x, y = to.transform(179.9, 0.1)
    target = GeoBox((20, 40), Affine(500, 0, round(x, -3), 0, -500, round(y, -3)), "EPSG:32660")
    both = np.full((20, 40), np.nan)
    for name in "we":
        values, valid = cog.read([spec(tmp_path / f"{name}.tif")], target)
        assert 0.1 < valid.mean() < 0.9
        both[valid[0]] = values[0][valid[0]]
    cols, rows = np.meshgrid(np.arange(40) + 0.5, np.arange(20) + 0.5)
    lon, lat_ = to.transform(*(target.affine @ (cols, rows)), direction="INVERSE")
    expected = 1000 + 100 * (lon % 360 - 179) + 10 * lat_
    assert np.isfinite(both).all()
    assert np.abs(both - expected).max() < 1.0  # a pixel is 1


@pytest.mark.parametrize(("crs", "sign"), [("EPSG:32661", 1), ("EPSG:3413", 1), ("EPSG:32761", -1), ("EPSG:3031", -1)])
def test_a_pole_in_a_source_in_degrees(tmp_path: Path, crs: str, sign: int) -> None:
    """A global grid holds the cosine of the longitude and the latitude; around the pole every longitude meets."""
    lat, lon = np.meshgrid(np.arange(90, 60, -0.1) - 0.05, np.arange(-180, 180, 0.1) + 0.05, indexing="ij")
    bands = np.stack([np.cos(np.radians(lon)), lat]).astype(np.float32)
    bands = bands if sign > 0 else bands[:, ::-1] * np.array([1, -1], np.float32)[:, None, None]
    top = 90.0 if sign > 0 else -60.0
    path = write(tmp_path / "a.tif", bands, crs="EPSG:4326", transform=Affine(0.1, 0, -180, 0, -0.1, top))
    middle = pyproj.Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform(0, 90 * sign)
    x, y = (round(v, -4) for v in middle)
    target = GeoBox((120, 120), Affine(10_000, 0, x - 600_000, 0, -10_000, y + 600_000), crs)
    values, valid = cog.read([spec(path), spec(path, index=2)], target)
    back = pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    cols, rows = np.meshgrid(np.arange(120) + 0.5, np.arange(120) + 0.5)
    place, height = back.transform(*(target.affine @ (cols, rows)))
    near = np.abs(height) < 89.5
    assert valid[:, near].mean() > 0.98
    sure = valid[0] & near
    assert np.abs(values[1] - height)[sure].max() < 0.1
    assert np.percentile(np.abs(values[0] - np.cos(np.radians(place)))[sure], 99) < 0.02


def test_items_of_two_zones_and_sizes_agree_with_a_reference_warp(tmp_path: Path) -> None:
    """One smooth field, in two zones and at 10 and 20 m, on one grid: as GDAL warps it, and as each other."""
    target = GeoBox((100, 100), Affine(20, 0, 499_000, 0, -20, 5_001_000), "EPSG:32632")
    found = []
    for name, crs, res in (("a", "EPSG:32632", 10), ("b", "EPSG:32631", 20), ("c", "EPSG:3035", 10)):
        to = pyproj.Transformer.from_crs("EPSG:32632", crs, always_xy=True)
        x, y = to.transform(500_000.0, 5_000_000.0)
        place = Affine(res, 0, round(x / res) * res - 4000, 0, -res, round(y / res) * res + 4000)
        side = 8000 // res
        cols, rows = np.meshgrid(np.arange(side) + 0.5, np.arange(side) + 0.5)
        u, v = to.transform(*(place @ (cols, rows)), direction="INVERSE")
        field = (3000 + 1000 * np.sin(u / 700) * np.cos(v / 900)).astype(np.float32)[None]
        path = write(tmp_path / f"{name}.tif", field, crs=crs, transform=place)
        values, valid = cog.read([spec(path)], target)
        assert valid.all()
        found.append(values[0])
        options = {"crs": "EPSG:32632", "transform": target.affine, "height": 100, "width": 100, "tolerance": 0.001}
        with rasterio.open(path) as file, WarpedVRT(file, resampling=Resampling.bilinear, **options) as vrt:
            assert np.abs(values[0] - vrt.read(1)).max() < 4.0, name
    assert max(np.abs(found[0] - other).max() for other in found[1:]) < 4.0  # of 2000


# ---- names


NAMES = ["../../etc/passwd", "..", "a/b", "a\\b", "a\x00b", "a\nb", "\x1b[31m", "x" * 300, "S2А", "", " ", "-rf", "~"]
