"""Speckle on made ground: flat ground becomes flat, edges stay, and power is neither made nor lost."""

from __future__ import annotations

import numpy as np
import pytest

from geoml.cube.speckle import boxcar, decibels, lee, over_time, power

LOOKS = 4


def speckled(truth: np.ndarray, seed: int = 0) -> np.ndarray:
    """Multiplied by gamma noise of mean 1 and variance 1 / looks."""
    return (truth * np.random.default_rng(seed).gamma(LOOKS, 1 / LOOKS, truth.shape)).astype(np.float32)


def step() -> np.ndarray:
    """Water beside land, in power."""
    truth = np.full((96, 96), 0.1)
    truth[:, 48:] = 0.005
    return truth


def test_decibels_and_power_are_inverse():
    values = np.float32([-30, -12.5, 0, 3])
    np.testing.assert_allclose(decibels(power(values)), values, atol=1e-5)
    assert decibels(np.float32([0.0]))[0] < -200


def test_a_mean_of_power_is_not_that_of_decibels():
    image = speckled(np.full((64, 64), 0.1))
    every = np.ones(image.shape, bool)
    assert boxcar(image, every, 31)[32, 32] == pytest.approx(0.1, rel=0.05)
    assert power(decibels(image).mean()) < 0.95 * image.mean(), "the mean of decibels is too low"


def test_the_mean_is_of_what_is_valid():
    image = speckled(step())
    valid = np.random.default_rng(1).random(image.shape) < 0.6
    found = boxcar(np.where(valid, image, np.float32(99)), valid, 5)
    for y, x in ((0, 0), (40, 40), (95, 50)):
        near = (slice(max(0, y - 2), y + 3), slice(max(0, x - 2), x + 3))
        assert found[y, x] == pytest.approx(image[near][valid[near]].mean(), rel=1e-4)
    assert not boxcar(image, np.zeros(image.shape, bool), 5).any()


def test_flat_ground_becomes_flat_and_an_edge_stays():
    truth, image = step(), speckled(step())
    every = np.ones(image.shape, bool)
    found = lee(image, every, 7, LOOKS)
    flat = (slice(8, 88), slice(8, 36))
    assert found[flat].std() < 0.4 * image[flat].std()
    assert found[flat].mean() == pytest.approx(image[flat].mean(), rel=0.02)
    plain = boxcar(image, every, 7)
    beside = (slice(8, 88), slice(48, 51))
    assert np.abs(found[beside] - truth[beside]).mean() < 0.5 * np.abs(plain[beside] - truth[beside]).mean()


def test_what_is_not_valid_has_no_part_and_stays():
    image, valid = speckled(step()), np.ones((96, 96), bool)
    valid[20:30, 20:30] = False
    spoilt = np.where(valid, image, np.float32(1e6))
    found = lee(spoilt, valid)
    assert (found[~valid] == 1e6).all()
    np.testing.assert_array_equal(found[valid], lee(np.where(valid, image, np.float32(0)), valid)[valid])


def test_over_time_keeps_what_changed_and_shares_the_speckle():
    truth = np.stack([np.full((64, 64), level) for level in (0.1, 0.1, 0.02, 0.1, 0.05, 0.1, 0.1, 0.1)])
    series = np.stack([speckled(t, n) for n, t in enumerate(truth)])
    every = np.ones(series.shape, bool)
    every[3, :32] = False
    found = over_time(series, every, 9)
    inner = (slice(None), slice(8, 56), slice(8, 56))
    noise = [v[36:56, 8:56].std() / v[36:56, 8:56].mean() for v in found]
    assert max(noise) < 0.6 * 1 / np.sqrt(LOOKS), "a single date has 0.5"
    for n in (0, 2, 4):
        assert found[n][inner[1:]].mean() == pytest.approx(truth[n].mean(), rel=0.05)
    np.testing.assert_array_equal(found[3, :32], series[3, :32])
