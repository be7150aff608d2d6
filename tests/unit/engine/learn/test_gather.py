"""Pixels of shapes against GDAL, and features that are kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio.features
import shapely
from hypothesis import given
from hypothesis import strategies as st

from geoml.engine.learn import gather
from geoml.engine.learn.gather import PixelFeatures, pixels_of
from geoml.grid.plane import Plane

RANDOM = np.random.default_rng(0)


def plane(anchor: float = 0.0) -> Plane:
    return Plane("EPSG:32633", 10.0, anchor)


def by_gdal(shape: shapely.Polygon, of: Plane) -> set[tuple[int, int]]:
    """Pixels whose centre GDAL burns."""
    w = of.window(*shape.bounds)
    place = rasterio.Affine(10, 0, (w.x0 + of.anchor) * 10, 0, -10, -(w.y0 + of.anchor) * 10)
    burnt = rasterio.features.rasterize([shape], w.shape, transform=place, dtype="uint8")
    return {(int(y) + w.y0, int(x) + w.x0) for y, x in np.argwhere(burnt)}


@given(st.integers(0, 9999), st.sampled_from([0.0, 0.5]), st.sampled_from([1, -1]))
def test_pixels_of_a_polygon_are_those_that_gdal_burns(seed: int, anchor: float, north: int) -> None:
    random = np.random.default_rng(seed)
    shape = shapely.MultiPoint(random.uniform(0, 200, (5, 2)) + np.array([500_003, north * 5e6])).convex_hull
    expected = by_gdal(shape, plane(anchor))
    found = pixels_of(shape, plane(anchor), 10**6, RANDOM)
    if expected:
        assert set(map(tuple, found.tolist())) == expected
    assert len(found) == max(1, len(expected))


@given(st.integers(0, 10**8), st.integers(-5 * 10**8, 5 * 10**8), st.sampled_from([0.0, 0.5]))
def test_a_point_has_the_pixel_that_it_lies_in(across: int, up: int, anchor: float) -> None:
    x, y = across / 100, up / 100
    ((row, col),) = pixels_of(shapely.Point(x, y), plane(anchor), 5, RANDOM).tolist()
    assert (col + anchor) * 10 <= x < (col + anchor + 1) * 10
    assert -(row + anchor + 1) * 10 < y <= -(row + anchor) * 10


def test_a_polygon_between_the_centres_has_the_pixel_that_it_lies_in() -> None:
    shape = shapely.box(12, 11, 13, 12)
    assert pixels_of(shape, plane(), 5, RANDOM).tolist() == [[-2, 1]]


def test_some_pixels_of_a_large_polygon_are_drawn_from_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    shape = shapely.box(0, 0, 1000, 1000)
    found = pixels_of(shape, plane(), 100, np.random.default_rng(1))
    assert len(np.unique(found, axis=0)) == 100
    assert np.ptp(found, axis=0).min() > 80
    again = pixels_of(shape, plane(), 100, np.random.default_rng(1))
    np.testing.assert_array_equal(found, again)
    monkeypatch.setattr(gather, "CENTRES", 500)  # of 10,000: a random part is looked through
    few = pixels_of(shape, plane(), 100, np.random.default_rng(1))
    assert len(np.unique(few, axis=0)) == 100
    assert np.ptp(few, axis=0).min() > 80
    assert few.min() >= -100


def features(n: int = 5) -> PixelFeatures:
    parts = {"bands": np.arange(2.0 * n, dtype=np.float32).reshape(n, 2), "embedding": np.ones((n, 3), np.float32)}
    degrees = np.ones((n, 2), np.float32)
    return PixelFeatures(parts, np.arange(n) // 2, np.arange(3 * n).reshape(n, 3), degrees, "odd", 2)


def test_features_come_back(tmp_path: Path) -> None:
    gather.save(tmp_path / "a.npz", features())
    found, given = gather.load(tmp_path / "a.npz"), features()
    assert found is not None
    assert (found.doubt, found.unread, set(found.parts)) == ("odd", 2, set(given.parts))
    for name, part in given.parts.items():
        np.testing.assert_array_equal(found.parts[name], part)
        assert found.parts[name].dtype == np.float32
    np.testing.assert_array_equal(found.place, given.place)
    np.testing.assert_array_equal(found.take(np.array([3, 1])).pixel, given.pixel[[3, 1]])


def test_what_is_not_whole_is_made_again(tmp_path: Path) -> None:
    assert gather.load(tmp_path / "gone.npz") is None
    gather.save(tmp_path / "a.npz", features())
    content = (tmp_path / "a.npz").read_bytes()
    for wrong in (b"", b"PK", content[: len(content) // 2], content[:-30], b"\0" * 99):
        (tmp_path / "b.npz").write_bytes(wrong)
        assert gather.load(tmp_path / "b.npz") is None
    np.savez(tmp_path / "c.npz", place=np.arange(3))
    assert gather.load(tmp_path / "c.npz") is None
