"""Shifts that are known are found, what cannot be known is None, and moving back gives the first date."""

from __future__ import annotations

import os
import tracemalloc
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import rasterio
import scipy.ndimage
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from geoml.cube.register import Shift, corrected, shift
from geoml.errors import InputError

Image = NDArray[np.float32]
MARGIN = 48


def ground(size: int, seed: int) -> NDArray[np.float64]:
    """Texture of several scales and fields with sharp borders."""
    rng = np.random.default_rng(seed)
    fields = np.kron(rng.normal(size=(size // 25 + 1,) * 2), np.ones((25, 25)))[:size, :size]
    total = 2 * scipy.ndimage.gaussian_filter(fields, 0.7)
    for sigma, weight in ((1, 1), (4, 2), (12, 3)):
        noise = scipy.ndimage.gaussian_filter(rng.normal(size=(size, size)), sigma)
        total += weight * noise / noise.std()
    return np.asarray(total)


def pair(
    dy: float, dx: float, *, size: int = 256, seed: int = 0, noise: float = 0.1, changed: float = 0.0
) -> tuple[Image, Image]:
    """(2, size, size) twice; the second shows everything (dy, dx) further, moved by Fourier, brighter, with gain."""
    rng = np.random.default_rng(seed + 1)
    wide = ground(size + 2 * MARGIN, seed)
    moved = np.fft.ifft2(scipy.ndimage.fourier_shift(np.fft.fft2(wide), (dy, dx))).real
    first, second = (a[MARGIN:-MARGIN, MARGIN:-MARGIN].copy() for a in (wide, moved))
    if changed:
        places = scipy.ndimage.gaussian_filter(rng.normal(size=(size, size)), 10)
        second = np.where(places > np.quantile(places, 1 - changed), ground(size, seed + 2), second)
    dates = []
    for image, gain, bias in ((first, 1.0, 0.0), (second, 1.7, 40.0)):
        bands = np.stack([image, np.exp(image / 4)]) + noise * rng.normal(size=(2, size, size))
        dates.append((gain * bands + bias).astype(np.float32))
    return dates[0], dates[1]


def everywhere(image: Image) -> NDArray[np.bool_]:
    return np.ones(image.shape[1:], bool)


@pytest.mark.parametrize("changed", [0.0, 0.2])
@pytest.mark.parametrize(("dy", "dx"), [(0, 0), (1, 0), (0.3, -0.3), (2.7, -1.2), (-11.4, 14.6)])
def test_a_known_shift_is_found(dy: float, dx: float, changed: float) -> None:
    first, second = pair(dy, dx, noise=0.5, changed=changed)
    found = shift(first, second, everywhere(first))
    assert found is not None
    assert (found.dy, found.dx) == pytest.approx((dy, dx), abs=0.08)
    assert found.quality > 0.6
    assert found.length == pytest.approx(np.hypot(dy, dx), abs=0.1)


@settings(max_examples=15, deadline=None)
@given(st.floats(-12, 12), st.floats(-12, 12), st.integers(0, 50))
def test_any_shift_there_and_back(dy: float, dx: float, seed: int) -> None:
    first, second = pair(dy, dx, seed=seed)
    there, back = shift(first, second, everywhere(first)), shift(second, first, everywhere(first))
    assert there is not None
    assert back is not None
    assert (there.dy, there.dx) == pytest.approx((dy, dx), abs=0.06)
    assert (back.dy, back.dx) == pytest.approx((-dy, -dx), abs=0.06)


def test_gain_and_brightness_change_nothing() -> None:
    first, second = pair(1.4, -0.6)
    plain, other = (shift(first, s, everywhere(first)) for s in (second, 0.01 * second - 3))
    assert plain is not None
    assert other is not None
    assert (plain.dy, plain.dx) == pytest.approx((other.dy, other.dx), abs=0.021)  # a step of the upsampled DFT


def test_clouds_and_holes_do_not_pull_towards_zero() -> None:
    first, second = pair(1.6, -2.3, size=512, noise=0.3)
    places = scipy.ndimage.gaussian_filter(np.random.default_rng(3).normal(size=(512, 512)), 12)
    cloud = places > np.quantile(places, 0.75)
    valid = ~cloud
    second[:, cloud] = np.nan
    valid[:, :90] = False
    first[:, :, :90] = 0
    masked = shift(first, second, valid)
    assert masked is not None
    assert (masked.dy, masked.dx) == pytest.approx((1.6, -2.3), abs=0.08)
    second[:, cloud] = 900.0  # clouds that no mask knows
    unmasked = shift(first, second, everywhere(first))
    assert unmasked is not None
    assert (unmasked.dy, unmasked.dx) == pytest.approx((1.6, -2.3), abs=0.15)


def test_a_resampled_second_date() -> None:
    """Bilinear resampling takes the fine detail away and must not move the peak."""
    wide = ground(256 + 2 * MARGIN, 4)
    moved = scipy.ndimage.shift(wide, (0.5, -0.3), order=1, mode="wrap")
    first, second = (a[None, MARGIN:-MARGIN, MARGIN:-MARGIN].astype(np.float32) for a in (wide, moved))
    found = shift(first, second, everywhere(first))
    assert found is not None
    assert (found.dy, found.dx) == pytest.approx((0.5, -0.3), abs=0.06)


@pytest.mark.parametrize("size", [128, 256])
@pytest.mark.parametrize("seed", range(6))
def test_what_has_nothing_in_common_is_unknown(size: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(2, 3, size, size)).astype(np.float32)
    assert shift(noise[0], noise[1], everywhere(noise[0])) is None
    places = [ground(size, seed + k)[None].astype(np.float32) for k in (0, 100)]
    assert shift(places[0], places[1], everywhere(places[0])) is None


def test_too_little_to_see_is_unknown() -> None:
    first, second = pair(1, 1)
    flat = np.full_like(first, 7)
    assert shift(flat, flat, everywhere(flat)) is None
    assert shift(flat, second, everywhere(flat)) is None
    assert shift(first, second, np.zeros((256, 256), bool)) is None
    assert shift(first[:, :60], second[:, :60], np.ones((60, 256), bool)) is None
    sparse = np.zeros((256, 256), bool)
    sparse[::2] = True
    assert shift(first, second, sparse) is None
    far = pair(40, 0)
    assert shift(*far, everywhere(far[0])) is None


def test_stripes_that_moved_apart_have_no_one_shift() -> None:
    first, _ = pair(0, 0, size=384)
    moved = [pair(dy, 0, size=384)[1][..., k : k + 128] for k, dy in ((0, 3), (128, -3), (256, 8))]
    assert shift(first, np.concatenate(moved, axis=-1), everywhere(first)) is None


def test_shapes_that_do_not_fit() -> None:
    one = np.zeros((2, 64, 64), np.float32)
    with pytest.raises(InputError, match=r"\(band, y, x\) twice"):
        shift(one, one[:1], everywhere(one))


def test_memory_is_that_of_tiles() -> None:
    rng = np.random.default_rng(0)
    first = rng.integers(0, 255, (4, 2048, 2048), dtype=np.uint8)
    second = np.roll(first, 2, axis=1)
    valid = everywhere(first)
    tracemalloc.start()
    found = shift(first, second, valid)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found is not None
    assert (found.dy, found.dx) == pytest.approx((2, 0), abs=0.03)
    assert peak < 16 * 2**20


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_whole_pixels_are_copied(dtype: type) -> None:
    data = np.random.default_rng(0).integers(0, 255, (2, 20, 30)).astype(dtype)
    out, known = corrected(data, np.ones((20, 30), bool), Shift(2, -3, 1, 9))
    assert out.dtype == dtype
    np.testing.assert_array_equal(out[:, :-2, 3:], data[:, 2:, :-3])
    assert known[:-2, 3:].all()
    assert known.sum() == 18 * 27
    assert (out[:, ~known] == 0).all()


@settings(max_examples=40, deadline=None)
@given(st.floats(-4, 4), st.floats(-4, 4), st.integers(0, 1000))
def test_a_plane_moves_exactly_and_holes_never_leak(dy: float, dx: float, seed: int) -> None:
    """Cubic convolution reproduces a plane, so every pixel that is called valid has its exact value."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:40, :50].astype(np.float32)
    valid = rng.random((40, 50)) > 0.01
    data = np.where(valid, 3 * y - 2 * x, np.nan)[None].astype(np.float32)
    out, known = corrected(data, valid, Shift(dy, dx, 1, 9))
    expected = 3 * (y + dy) - 2 * (x + dx)
    np.testing.assert_allclose(out[0][known], expected[known], atol=0.06)  # half a step in y and in x
    assert (out[0][~known] == 0).all()
    assert known.any()


def test_no_shift_changes_nothing() -> None:
    first, _ = pair(0, 0)
    valid = np.random.default_rng(0).random((256, 256)) > 0.1
    out, known = corrected(first, valid, Shift(0.0, -0.005, 1, 9))
    np.testing.assert_array_equal(known, valid)
    np.testing.assert_array_equal(out, np.where(valid, first, 0))


def test_integers_stay_within_their_type() -> None:
    data = np.where(np.arange(40) < 20, 0, 255).astype(np.uint8)[None, None].repeat(40, axis=1)
    out, known = corrected(data, np.ones((40, 40), bool), Shift(0.0, 0.5, 1, 9))
    assert out.dtype == np.uint8
    assert (out[0][known] <= 255).all()
    assert out[0, 20, [16, 17, 19, 21, 22]].tolist() == [0, 0, 128, 255, 255]  # without a clip 239 and 16


@pytest.mark.parametrize(("dy", "dx"), [(1, 0), (0.5, -0.5), (2.7, -1.3)])
def test_found_and_corrected_is_the_first_date(dy: float, dx: float) -> None:
    first, second = pair(dy, dx, noise=0.0)
    second = (second - 40) / 1.7
    found = shift(first, second, everywhere(first))
    assert found is not None
    out, known = corrected(second, everywhere(first), found)
    before = np.abs(second - first)[:, known].mean()
    after = np.abs(out - first)[:, known].mean()
    blurred = scipy.ndimage.shift(second, (0, -dy, -dx), order=1)
    assert after < 0.15 * before
    assert after <= np.abs(blurred - first)[:, known].mean() + 1e-6
    left = shift(first, out, known)
    assert left is not None
    assert left.length < 0.1


@pytest.mark.data
def test_real_pairs() -> None:
    """Co-registered Landsat lies within a tenth of a pixel; the same with a known shift; other places have none."""
    root = Path(os.environ["GEOML_DATA"])
    dates = []
    for name in ("2000TM", "2003TM"):
        with rasterio.open(root / "change/landsat_cd/Taizhou" / name) as file:
            dates.append(file.read().astype(np.float32))
    valid = everywhere(dates[0])
    still = shift(dates[0], dates[1], valid)
    assert still is not None
    assert still.length < 0.2
    moved = shift(dates[0][:, 5:], dates[1][:, :-5], valid[5:])
    assert moved is not None
    assert (moved.dy - still.dy, moved.dx - still.dx) == pytest.approx((5, 0), abs=0.06)
    years = sorted((root / "change/landsat_1985_2020").glob("*.tif"))
    series = [rasterio.open(f).read() for f in years]
    for before, after in pairwise(series):
        found = shift(before, after, everywhere(before))
        assert found is not None
        assert found.length < 0.15
    assert shift(series[0][:3, :360, :360], dates[0][:3, :360, :360], valid[:360, :360]) is None
