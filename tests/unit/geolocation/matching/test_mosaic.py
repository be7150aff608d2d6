"""The index of a map: kept whole or refused, the same for any cut, made of one file or many, near or far."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pyproj
import pytest
import scipy.ndimage
from affine import Affine

from geoml.errors import DataError, InputError, NothingFound, TransientError
from geoml.geolocation.matching.mosaic import index
from geoml.geolocation.matching.prior import Prior
from geoml.testing import write_cog
from tests.serving import serving

RES = 0.25


def ground(size: int) -> np.ndarray:
    """(size, size, 3) uint8, blobs of two scales."""
    rng = np.random.default_rng(5)
    total = np.zeros((size, size))
    for sigma in (1, 4):
        noise = scipy.ndimage.gaussian_filter(rng.normal(size=(size, size)), sigma)
        total += 25 * noise / noise.std()
    return np.clip(np.stack([120 + total, 110 + total, 100 + total], -1), 1, 255).astype(np.uint8)


def write(path: Path, image: np.ndarray, row: int = 0, column: int = 0) -> Path:
    place = Affine(RES, 0, 500_000 + RES * column, 0, -RES, 5_600_000 - RES * row)
    write_cog(path, np.moveaxis(image, -1, 0), crs="EPSG:32631", transform=place, nodata=0)
    return path


def places(points: np.ndarray) -> set[tuple[float, ...]]:
    """Small keypoints, which see no more than the margin around a cell, to a tenth of a pixel."""
    return set(map(tuple, np.round(points[points[:, 2] < 8, :2], 1).tolist()))


def test_it_is_kept_and_does_not_depend_on_the_cut(tmp_path) -> None:
    path = write(tmp_path / "map.tif", ground(320))
    first = index([path], tmp_path / "cache", most=10_000)
    times = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "cache" / first.key).iterdir()}
    again = index([path], tmp_path / "cache", most=10_000)
    assert {p.name: p.stat().st_mtime_ns for p in (tmp_path / "cache" / again.key).iterdir()} == times
    other = index([path], tmp_path / "cache", cell=170, most=10_000)
    assert other.key != first.key
    a, b = places(first.points), places(other.points)
    assert len(a & b) > 0.97 * max(len(a), len(b))


def test_the_key_is_of_the_content(tmp_path) -> None:
    image = ground(160)
    first = index([write(tmp_path / "a.tif", image)], tmp_path / "cache")
    assert index([write(tmp_path / "b.tif", image)], tmp_path / "cache").key == first.key
    changed = image.copy()
    changed[80, 80] ^= 1
    assert index([write(tmp_path / "a.tif", changed)], tmp_path / "cache").key != first.key


def test_tiles_of_a_mosaic_are_one_map(tmp_path) -> None:
    """The index of four tiles, the first one in a corner, is that of the whole."""
    image = ground(320)
    tiles = [
        write(tmp_path / f"{row}-{column}.tif", image[row : row + 160, column : column + 160], row, column)
        for row, column in ((160, 160), (0, 0), (0, 160), (160, 0))
    ]
    whole = index([write(tmp_path / "map.tif", image)], tmp_path / "cache", most=10_000)
    parts = index(tiles, tmp_path / "cache", most=10_000)
    assert parts.geobox == whole.geobox
    a, b = places(whole.points), places(parts.points)
    assert len(a & b) > 0.97 * max(len(a), len(b))


@pytest.mark.parametrize("name", ["points.bin", "descriptors.bin", "index.json"])
@pytest.mark.parametrize("damage", ["cut", "longer", "empty"])
def test_a_damaged_index_is_named(tmp_path, name, damage) -> None:
    path = write(tmp_path / "map.tif", ground(96))
    key = index([path], tmp_path / "cache").key
    file = tmp_path / "cache" / key / name
    whole = file.read_bytes()
    file.write_bytes({"cut": whole[:-7], "longer": whole + b"[1]", "empty": b""}[damage])
    with pytest.raises(DataError, match="damaged index") as caught:
        index([path], tmp_path / "cache")
    assert name in str(caught.value)


def test_cells_that_do_not_add_up_are_a_damaged_index(tmp_path) -> None:
    path = write(tmp_path / "map.tif", ground(96))
    key = index([path], tmp_path / "cache").key
    (tmp_path / "cache" / key / "index.json").write_text('{"cells": [[9, 0, 0, 96, 96]], "count": 3}')
    with pytest.raises(DataError, match="do not add up"):
        index([path], tmp_path / "cache")


def test_a_map_without_anything_on_it_and_nonsense(tmp_path) -> None:
    path = write(tmp_path / "map.tif", np.full((96, 96, 3), 70, np.uint8))
    with pytest.raises(NothingFound, match="keypoints"):
        index([path], tmp_path / "cache")
    with pytest.raises(InputError, match="expected files"):
        index([], tmp_path / "cache")


@contextmanager
def served(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Files of a folder with ranges, as object stores give them; what was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            content = (folder / self.path.lstrip("/")).read_bytes()
            first, _, last = self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")
            part = content[int(first) : int(last) + 1 if last else None]
            asked.append(self.headers.get("Range", ""))
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {first}-{int(first) + len(part) - 1}/{len(content)}")
            self.send_header("Content-Length", str(len(part)))
            self.send_header("ETag", '"1"')
            self.end_headers()
            self.wfile.write(part)

    with serving(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as server:
        yield f"http://127.0.0.1:{server.server_port}", asked


def test_a_remote_map_is_read_by_ranges_and_files_are_not_remote(tmp_path, machine) -> None:
    path = write(tmp_path / "map.tif", ground(160))
    near = index([path], tmp_path / "cache")
    with pytest.raises(InputError, match="local path in a remote catalog"):
        index([path], tmp_path / "cache", remote=True)
    with served(tmp_path) as (url, asked):
        with pytest.raises(InputError, match="private"):
            index([f"{url}/map.tif"], tmp_path / "cache", remote=True)
        assert not asked
        machine(private_hosts="true", retries=1, timeout=5)
        far = index([f"{url}/map.tif"], tmp_path / "cache", remote=True)
        assert asked
        assert all(r.startswith("bytes=") for r in asked)
    assert far.geobox == near.geobox
    np.testing.assert_array_equal(far.points, near.points)
    np.testing.assert_array_equal(far.descriptors, near.descriptors)


def test_errors_name_a_map_without_its_signature(tmp_path, machine) -> None:
    machine(private_hosts="true", retries=0)
    with pytest.raises(TransientError, match=r"item map, .*127\.0\.0\.1:9/map\.tif") as caught:
        index(["http://127.0.0.1:9/map.tif?sig=ab/S3CRET.x"], tmp_path / "cache", remote=True)
    assert "S3CRET" not in str(caught.value)


def placed(path: Path, crs: str, x: float, y: float, res: float, shape: tuple[int, int] = (96, 96)) -> Path:
    noise = np.random.default_rng(abs(int(x))).integers(1, 255, (1, *shape), dtype=np.uint8)
    write_cog(path, scipy.ndimage.gaussian_filter(noise, (0, 1, 1)), crs=crs, transform=Affine(res, 0, x, 0, -res, y))
    return path


def test_files_of_distant_zones_get_a_plane_of_their_own_and_too_distant_ones_none(tmp_path) -> None:
    """Each is a spot of a grid of a thousand kilometres: what lies between costs nothing."""
    west = placed(tmp_path / "west.tif", "EPSG:32631", 450_000, 5_400_000, 10)
    beside = placed(tmp_path / "beside.tif", "EPSG:32632", 300_000, 5_400_000, 10)
    east = placed(tmp_path / "east.tif", "EPSG:32634", 500_000, 5_400_000, 10)
    far = placed(tmp_path / "far.tif", "EPSG:32646", 500_000, 500_000, 10)
    assert index([west, beside], tmp_path / "cache").crs == "EPSG:32631"
    both = index([west, east], tmp_path / "cache")
    assert "laea" in both.crs
    assert both.geobox.shape[1] > 130_000
    assert len(both.cells) < 20
    to = pyproj.Transformer.from_crs(both.crs, "EPSG:4326", always_xy=True)
    lon, _ = to.transform(*(both.geobox.affine * both.points[:, :2].T.astype(float)))
    assert ((lon < 3) | (lon > 20)).all()
    with pytest.raises(DataError, match="one plane shows 4000 at most"):
        index([west, far], tmp_path / "cache")


def test_a_small_map_in_degrees_is_seen_in_its_own_utm_zone(tmp_path) -> None:
    for lon, lat, crs in ((3.0, 48.0, "EPSG:32631"), (-70.0, -20.0, "EPSG:32719"), (179.9, 10.0, "EPSG:32660")):
        path = placed(tmp_path / f"{lon}.tif", "EPSG:4326", lon, lat, 1e-4)
        assert index([path], tmp_path / "cache").crs == crs


def test_a_prior_reaches_the_cell_that_it_lies_in_wherever_that_is(tmp_path) -> None:
    """Degrees at 54 and at 78 north: the pixels of a world map have no one size."""
    path = placed(tmp_path / "world.tif", "EPSG:4326", -170, 80, 0.1, (500, 1600))
    world = index([path], tmp_path / "cache")
    assert world.crs == "EPSG:4326"
    for lon, lat in ((-167.2, 54.5), (-20.0, 31.0), (-100.0, 67.0), (-145.0, 79.0)):
        found = world.points[world._within(Prior(lon, lat, 10_000))]
        x, y = (lon + 170) / 0.1, (80 - lat) / 0.1
        assert ((np.abs(found[:, 0] - x) < 60) & (np.abs(found[:, 1] - y) < 60)).any(), (lon, lat)
        assert len(found) < len(world.points)


def test_what_is_no_map_and_no_scale_is_refused(tmp_path) -> None:
    path = placed(tmp_path / "map.tif", "EPSG:32631", 450_000, 5_400_000, 10)
    for scale in (0.5, np.nan, np.inf):
        with pytest.raises(InputError, match="scales"):
            index([path], tmp_path / "cache", scales=(scale,))
    local = placed(tmp_path / "local.tif", 'LOCAL_CS["site",UNIT["metre",1]]', 100, 900, 2)
    with pytest.raises(DataError, match="nowhere on the Earth"):
        index([local], tmp_path / "cache")


def test_what_is_not_a_number_is_no_ground(tmp_path) -> None:
    """A mosaic of floats without a nodata tag, as arithmetic leaves it: as the one whose tag says it."""
    image = ground(320)[..., :1].astype(np.float32)
    place = Affine(RES, 0, 500_000, 0, -RES, 5_600_000)
    found = []
    for name, none, tag in (("a", np.nan, None), ("b", -9999, -9999)):
        image[100:180, 60:200] = none
        write_cog(tmp_path / f"{name}.tif", np.moveaxis(image, -1, 0), crs="EPSG:32631", transform=place, nodata=tag)
        found.append(index([tmp_path / f"{name}.tif"], tmp_path / name))
    (first, valid), (other, _) = (f.mosaic.picture(f.mosaic.windows[0], 1.0) for f in found)
    assert not valid[100:180, 60:200].any()
    assert valid.sum() == valid.size - 80 * 140
    np.testing.assert_array_equal(first, other)
    np.testing.assert_array_equal(found[0].points, found[1].points)
