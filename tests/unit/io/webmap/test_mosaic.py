"""The mosaic in web Mercator: every pixel against its own arithmetic and rasterio's warp, however the run was cut."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyproj
import pytest
import rasterio
import rasterio.warp
from numpy.typing import NDArray
from PIL import Image
from rasterio.enums import Resampling
from rasterio.transform import from_bounds
from shapely.geometry import box

from geoml.grid.plane import Block, Plane, Window
from geoml.grid.region import blocks_of, zones
from geoml.io.cards.map_card import MapCard
from geoml.io.cog.write import CogWriter
from geoml.io.report.blocks import BlockFiles
from geoml.io.report.part import ReportLayer
from geoml.io.stac.items import AssetInfo, block_footprint, block_item, read_item, write_item
from geoml.io.webmap import mosaic as module
from geoml.io.webmap.mosaic import RADIUS, MercatorMosaic, mosaic
from geoml.testing.scenes import card

CARD: MapCard = card("made", ["red"], ["low", "high"])
TIME = dt.datetime(2024, 6, 1, tzinfo=dt.UTC)
DRAWN = {
    "height": ReportLayer("height", "height", Resampling.nearest, float("nan"), "float32"),
    "count": ReportLayer("count", "count", Resampling.nearest, -1, "int16"),
}
Made = Callable[[Plane, NDArray[np.int64], NDArray[np.int64]], NDArray[np.float64]]


def made(plane: Plane, row: NDArray[np.int64], col: NDArray[np.int64]) -> NDArray[np.float64]:
    """A value of each pixel of a plane that tells it from those about it."""
    return ((row * 131 + col * 17) % 30011).astype(np.float64) + 0.25 * (plane.crs == "EPSG:32601")


def write(out: Path, block: Block, inside: NDArray[np.bool_]) -> None:
    """The files and the item of a block that holds `made` where ``inside``."""
    window, folder = block.window, out / "cogs" / block.id
    values = made(block.plane, *np.mgrid[window.y0 : window.y1, window.x0 : window.x1])
    for name, layer in DRAWN.items():
        whole = values if layer.dtype == "float32" else np.floor(values)
        stored = np.where(inside, whole, layer.nodata).astype(layer.dtype)
        with CogWriter(folder / f"{name}.tif", block.geobox, layer.dtype, nodata=layer.nodata, tile=16) as cog:
            cog.write(stored)
    grey = np.full(inside.shape, 90)
    Image.fromarray(np.dstack([grey, grey, grey, np.where(inside, 255, 0)]).astype(np.uint8)).save(folder / "p.png")
    files = {**{name: f"{name}.tif" for name in DRAWN}, "thumbnail": "p.png"}
    item = block_item(
        block, collection="run", footprint=block_footprint(block, inside), datetime_range=(TIME, TIME), card=CARD,
        sources=[], assets={k: AssetInfo(folder / n, k) for k, n in files.items()}, recipe_hash="abc", properties={},
    )  # fmt: skip
    write_item(item, out / "items" / f"{block.id}.json")


def run(out: Path, bbox: Sequence[float], planes: Sequence[Plane], size: int) -> BlockFiles:
    """The blocks of a region, each pixel in the zone that it belongs to."""
    west, south, east, north = bbox
    region = (
        box(west, south, east, north) if west < east else box(west, south, 180, north) | box(-180, south, east, north)
    )
    items = []
    for crs, part in zones(region).items():
        plane = next(p for p in planes if p.crs == crs)
        for block in blocks_of(part, plane, size):
            x, y = block.geobox.affine @ tuple(np.meshgrid(np.arange(size) + 0.5, np.arange(size) + 0.5))
            lon, lat = pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True).transform(x, y)
            inside = np.zeros(lon.shape, bool)
            for w, s, e, n in (p.bounds for p in getattr(part, "geoms", [part])):
                inside |= (lon >= w) & (lon < e) & (lat >= s) & (lat < n)
            if inside.any():
                write(out, block, inside)
                items.append(read_item(out / "items" / f"{block.id}.json"))
    return BlockFiles(out, items)


def expected(found: MercatorMosaic, planes: Sequence[Plane]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """What lies under the middle of each pixel by exact projection, and where that is no matter of rounding."""
    height, width = found.layers["height"].shape
    west, _, east, north = found.bounds
    lon = west + (np.arange(width) + 0.5) * (east - west) / width
    top = RADIUS * np.arcsinh(np.tan(np.radians(north)))
    lat = np.degrees(np.arctan(np.sinh((top - (np.arange(height) + 0.5) * found.metres) / RADIUS)))
    lon, lat = np.meshgrid(lon, lat)
    lon = (lon + 180) % 360 - 180
    value, sure = np.full(lon.shape, np.nan), np.abs(lon - 6 * np.round(lon / 6)) > 2e-4  # two zones share the seam
    zone = np.floor((lon + 180) / 6).astype(int) + 1
    for plane in planes:
        mine = zone == int(plane.crs[-2:])
        x, y = pyproj.Transformer.from_crs("EPSG:4326", plane.crs, always_xy=True).transform(lon, lat)
        col, row = ~plane.transform(Window(0, 0, 1, 1)) @ (x, y)
        near = np.minimum.reduce([np.abs(v - np.round(v)) for v in (col, row)])
        sure &= ~mine | (near > 0.01)
        values = made(plane, np.floor(row).astype(np.int64), np.floor(col).astype(np.int64))
        value[mine] = values[mine]
    return value, sure


@pytest.mark.parametrize(
    ("bbox", "planes"),
    [
        ((-54.004, 10.0, -53.996, 10.006), (Plane("EPSG:32621", 10.0), Plane("EPSG:32622", 10.0, 0.5))),
        ((179.996, -17.006, -179.996, -17.0), (Plane("EPSG:32760", 10.0), Plane("EPSG:32701", 10.0))),
    ],
    ids=["two zones", "antimeridian"],
)
def test_every_pixel_is_that_of_the_run_under_it(
    tmp_path: Path, bbox: Sequence[float], planes: Sequence[Plane]
) -> None:
    found = mosaic(run(tmp_path, bbox, planes, 48), DRAWN, planes, 10.0)
    assert found is not None
    assert not found.problems
    truth, sure = expected(found, planes)
    height, known = found.layers["height"], np.isfinite(found.layers["height"])
    assert known.mean() > 0.95, "there is no seam"
    assert np.array_equal(height[known & sure], truth[known & sure])
    assert (known & sure).sum() > 0.8 * known.size
    assert np.array_equal(found.layers["count"][known], np.floor(height[known]))
    assert found.layers["count"].dtype == np.int16
    west, south, east, north = found.bounds
    assert west == pytest.approx(bbox[0], abs=2e-4)
    assert east == pytest.approx(bbox[2] % 360 if bbox[0] > bbox[2] else bbox[2], abs=2e-4)
    assert (south, north) == pytest.approx((bbox[1], bbox[3]), abs=2e-4)
    assert np.array_equal(found.pictures["image"][..., 3] > 0, known)


@pytest.mark.parametrize("pixels", [4_000_000, 2000])
def test_the_cut_does_not_show(tmp_path: Path, pixels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PIXELS", pixels)
    bbox, plane = (-56.0, 10.0, -55.99, 10.008), Plane("EPSG:32621", 10.0)
    found = [mosaic(run(tmp_path / str(size), bbox, [plane], size), DRAWN, [plane], 10.0) for size in (32, 100)]
    one, two = (f for f in found if f is not None)
    assert one.bounds == two.bounds
    assert one.layers["height"].size < pixels
    for name in DRAWN:
        assert one.layers[name].tobytes() == two.layers[name].tobytes()


def test_it_agrees_with_rasterio(tmp_path: Path) -> None:
    plane = Plane("EPSG:32633", 10.0)
    files = run(tmp_path, (15.0, 48.0, 15.02, 48.013), [plane], 512)
    assert len(files.items) == 1
    found = mosaic(files, DRAWN, [plane], 10.0)
    assert found is not None
    to = pyproj.Transformer.from_crs("EPSG:4326", "EPSG:3857", always_xy=True)
    height, width = found.layers["height"].shape
    (x0, x1), (y0, y1) = to.transform(found.bounds[::2], found.bounds[1::2])
    out = np.full((height, width), np.nan, np.float32)
    with rasterio.open(tmp_path / "cogs" / files.items[0].id / "height.tif") as file:
        rasterio.warp.reproject(
            file.read(1), out, src_transform=file.transform, src_crs=file.crs, src_nodata=np.nan, dst_nodata=np.nan,
            dst_transform=from_bounds(x0, y0, x1, y1, width, height), dst_crs="EPSG:3857", tolerance=0,
        )  # fmt: skip
    same = (out == found.layers["height"]) | (np.isnan(out) & np.isnan(found.layers["height"]))
    _, sure = expected(found, [plane])
    assert same[sure].all()
    assert same.mean() > 0.99, "only middles on the edge of a pixel may fall to either side"


def test_no_pixel_of_the_run_is_lost_where_there_is_room(tmp_path: Path) -> None:
    plane = Plane("EPSG:32633", 10.0)
    files = run(tmp_path, (15.0, 60.0, 15.02, 60.008), [plane], 512)
    found = mosaic(files, DRAWN, [plane], 10.0)
    assert found is not None
    with rasterio.open(tmp_path / "cogs" / files.items[0].id / "height.tif") as file:
        there = file.read(1)
    known = there[np.isfinite(there)]
    assert len(known) > 9000
    assert len(np.setdiff1d(known, found.layers["height"])) == 0


def test_thinned_lies_where_it_lay(tmp_path: Path) -> None:
    plane = Plane("EPSG:32633", 10.0)
    found = mosaic(run(tmp_path, (15.0, 48.0, 15.02, 48.013), [plane], 256), DRAWN, [plane], 10.0)
    assert found is not None
    small = found.thinned()
    height, width = found.layers["height"].shape
    assert np.array_equal(small.layers["height"], found.layers["height"][::2, ::2], equal_nan=True)
    assert small.layers["height"].shape == (-(-height // 2), -(-width // 2))
    for one, two in zip(middles(small), middles(found), strict=True):
        assert one == pytest.approx(two[::2], abs=1e-9)


def middles(found: MercatorMosaic) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Longitudes and latitudes of the middles of columns and rows, by their bounds."""
    height, width = found.layers["height"].shape
    west, south, east, north = found.bounds
    low, top = (np.arcsinh(np.tan(np.radians(v))) for v in (south, north))
    lat = np.degrees(np.arctan(np.sinh(top - (np.arange(height) + 0.5) * (top - low) / height)))
    assert (top - low) * RADIUS / height == pytest.approx(found.metres)
    return west + (np.arange(width) + 0.5) * (east - west) / width, lat


def test_a_damaged_block_is_named_and_the_others_stand(tmp_path: Path) -> None:
    plane = Plane("EPSG:32633", 10.0)
    files = run(tmp_path, (15.0, 48.0, 15.02, 48.013), [plane], 64)
    broken = files.items[0].id
    (tmp_path / "cogs" / broken / "count.tif").write_bytes(b"no TIFF")
    found = mosaic(files, DRAWN, [plane], 10.0)
    assert found is not None
    assert set(found.problems) == {broken}
    assert str(tmp_path) not in json.dumps(dict(found.problems))
    assert 0.5 < np.isfinite(found.layers["height"]).mean() < 1


def test_nothing_beyond_web_mercator(tmp_path: Path) -> None:
    assert mosaic(BlockFiles(tmp_path, []), DRAWN, [], 10.0) is None
    assert module.mercator([box(0, 86, 10, 88)], 10.0) is None
