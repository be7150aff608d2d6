"""What is read of an item: bands where a pixel has no values yet, behind it the quality band alone, if it can be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import dask
import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox

from geoml.cube import look
from geoml.cube.load import load
from geoml.cube.look import pieces
from geoml.io.cog import validity

SIDE = 96
GRID = GeoBox((SIDE, SIDE), Affine(10, 0, 500_000, 0, -10, 5_000_000), "EPSG:32632")
CLEAR, CLOUD, UNKNOWN = 4, 9, 0


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is known of files of the same names does not count, and squares are small."""
    look.vouches.cache_clear()
    monkeypatch.setattr(look, "PIECE", 32)
    monkeypatch.setattr(look, "CORNER", 8)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Pixels of each kind of asset that were decoded, corners of `vouches` not counted."""
    seen: Counter[str] = Counter()
    real = validity.pixels

    def count(dataset: Any, indexes: Any, window: Any, no_data: Any) -> Any:
        if window.width > look.CORNER:
            seen[dataset.name.rpartition("-")[2]] += int(window.width * window.height)
        return real(dataset, indexes, window, no_data)

    monkeypatch.setattr(validity, "pixels", count)
    return seen


def stack(make: Callable[..., Any], count: int, fills: int, **options: Any) -> tuple[list[Any], np.ndarray, np.ndarray]:
    """Items of which the ``fills``-th shows the last pixel: with values (item, band, y, x) and where they count."""
    rng = np.random.default_rng(1)
    data = rng.integers(1, 5000, (count, 3, SIDE, SIDE)).astype(np.uint16)
    quality = rng.choice(np.array([CLEAR, CLOUD], np.uint8), (count, SIDE, SIDE))
    quality[0, :, : SIDE // 2] = quality[0, 0, 0] = CLEAR
    quality[fills - 1] = CLEAR
    quality[: fills - 1, -SIDE // 4 :, -SIDE // 4 :] = CLOUD
    items = [make(f"s{k:02d}", data[k], quality[k], cloud=float(k), **options) for k in range(count)]
    return items, data, quality == CLEAR


def mosaic(items: list[Any], profile: Any, catalog: Any, grid: GeoBox = GRID, **options: Any) -> Any:
    cube = load(items, ["red", "nir"], grid, profile=profile, catalog=catalog, **options)
    data, count = dask.compute(cube.data, cube.valid_count, scheduler="single-threaded")
    return data.values, count.values


def expected(data: np.ndarray, ok: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    at = ok.argmax(axis=0)
    return np.take_along_axis(data[:, [0, 2]], at[None, None], axis=0)[0] * ok.any(axis=0), ok.sum(axis=0)


def test_behind_a_full_mosaic_only_the_quality_band_is_read(make, profile, catalog, decoded) -> None:
    items, data, ok = stack(make, 12, 6)
    found = mosaic(items, profile, catalog)
    for have, want in zip(found, expected(data, ok), strict=True):
        np.testing.assert_array_equal(have, want)
    assert decoded["quality.tif"] == 12 * SIDE**2
    assert decoded["rg.tif"] == decoded["n.tif"] <= 6 * SIDE**2
    decoded.clear()
    mosaic(items, profile, catalog, composite="median")
    assert decoded["rg.tif"] == 12 * SIDE**2


def test_a_gap_is_filled_from_the_squares_that_it_lies_in(make, profile, catalog, decoded) -> None:
    data = np.random.default_rng(0).integers(1, 5000, (2, 3, SIDE, SIDE)).astype(np.uint16)
    quality = np.full((2, SIDE, SIDE), CLEAR, np.uint8)
    quality[0, 40:50, 70:80] = CLOUD
    items = [make(f"s{k}", data[k], quality[k], cloud=float(k)) for k in range(2)]
    found = mosaic(items, profile, catalog)
    for have, want in zip(found, expected(data, quality == CLEAR), strict=True):
        np.testing.assert_array_equal(have, want)
    assert decoded["rg.tif"] == SIDE**2 + 32 * 32


def test_a_quality_band_that_says_nothing_of_missing_pixels_is_not_believed(make, profile, catalog, decoded) -> None:
    items, data, ok = stack(make, 4, 1)
    data[2:, :, :8, :8] = 0
    quality = np.where(ok, CLEAR, CLOUD).astype(np.uint8)
    quality[:, 0, 0] = CLEAR
    items = [make(f"n{k}", data[k], quality[k], cloud=float(k)) for k in range(4)]
    found = mosaic(items, profile, catalog)
    for have, want in zip(found, expected(data, (quality == CLEAR) & (data[:, [0, 2]] != 0).all(axis=1)), strict=True):
        np.testing.assert_array_equal(have, want)
    assert decoded["rg.tif"] == 3 * SIDE**2


@pytest.mark.parametrize("hole", [False, True])
def test_the_cut_changes_nothing_where_a_quality_band_is_wrong(make, profile, catalog, hole) -> None:
    """One pixel that it calls clear is no data, in no corner; a square is full in one cut and not in another."""
    data = np.random.default_rng(0).integers(1, 5000, (3, 3, SIDE, SIDE)).astype(np.uint16)
    quality = np.full((3, SIDE, SIDE), CLEAR, np.uint8)
    quality[0, 60:, :] = CLOUD
    data[1, :, 40:50, 40] = 0 if hole else 7
    items = [make(f"s{k}", data[k], quality[k], cloud=float(k)) for k in range(3)]
    whole, count = mosaic(items, profile, catalog)
    for rows in (slice(0, 45), slice(45, 60), slice(45, 96)):
        part, counted = mosaic(items, profile, catalog, GRID[rows, 10:80])
        np.testing.assert_array_equal(part, whole[:, rows, 10:80])
        np.testing.assert_array_equal(counted, count[rows, 10:80])


@pytest.mark.parametrize("nodata", [0, None])
def test_without_a_quality_band_the_count_is_that_of_the_files(make, profile, catalog, decoded, nodata) -> None:
    items, data, _ = stack(make, 4, 1, nodata=nodata)
    data[1, :, :20] = 0
    items = [make(f"n{k}", data[k], cloud=float(k), nodata=nodata) for k in range(4)]
    ok = np.ones((4, SIDE, SIDE), bool) if nodata is None else (data[:, [0, 2]] != 0).all(axis=1)
    found = mosaic(items, profile, catalog, mask="none")
    for have, want in zip(found, expected(data, ok), strict=True):
        np.testing.assert_array_equal(have, want)
    # a value may mean no data, or none does and no pixel is decoded for the count
    assert decoded["n.tif"] == (4 if nodata == 0 else 1) * SIDE**2


def test_quality_bands_are_read_ahead_within_bounds(make, profile, catalog, monkeypatch) -> None:
    items, _, _ = stack(make, 12, 1)
    read, begun, done = look._clear, [], []

    def counted(mask: Any, geobox: GeoBox) -> Any:
        begun.append(mask.band.item)
        return read(mask, geobox)

    def first(self: look.Look, missing: np.ndarray) -> Any:
        done.append(self.source.item)
        assert len(begun) <= len(done) + look.READERS
        return None

    monkeypatch.setattr(look, "_clear", counted)
    monkeypatch.setattr(look.Look, "first", first)
    mosaic(items, profile, catalog)
    assert len(done) == 12


def test_pieces_hold_all_that_is_wanted_once() -> None:
    rng = np.random.default_rng(0)
    for share in (0.0, 0.0005, 0.002, 0.5):
        wanted = rng.random((100, 70)) < share
        covered = np.zeros(wanted.shape, int)
        for place in pieces(wanted):
            covered[place] += 1
        assert covered.max() <= 1
        assert covered[wanted].all()
    assert pieces(np.ones((100, 70), bool)) == [(slice(0, 100), slice(0, 70))]
    lone = np.zeros((100, 70), bool)
    lone[5, 5] = lone[5, 40] = True
    assert pieces(lone) == [(slice(0, 32), slice(0, 64))]
