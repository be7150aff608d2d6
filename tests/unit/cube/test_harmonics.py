"""Climatology of pixels by harmonics, beside numpy's least squares."""

from __future__ import annotations

import numpy as np

from geoml.cube.harmonics import at_time, basis, fit_harmonics

HOUR = 3600


def test_the_waves_of_the_day_are_found_beside_gaps() -> None:
    random = np.random.default_rng(0)
    seconds = np.arange(0, 20 * 24) * HOUR
    truth = 10 + 3 * np.sin(2 * np.pi * seconds / 86_400) - np.cos(4 * np.pi * seconds / 86_400)
    values = (truth[:, None, None] + random.normal(0, 0.1, (len(seconds), 3, 4))).astype(np.float32)
    values[random.random(values.shape) < 0.3] = np.nan
    values[:, 2, 3] = np.nan
    weights = fit_harmonics(zip(seconds.tolist(), values, strict=True), 0, 3)
    design = basis(seconds, 0, 3)
    one = np.isfinite(values[:, 1, 1])
    expected, *_ = np.linalg.lstsq(design[one], values[one, 1, 1].astype(float), rcond=None)
    np.testing.assert_allclose(weights[:, 1, 1], expected, atol=0.01)  # harmonics are shrunk a little
    later = at_time(weights, 25 * 86_400 + 6 * HOUR, 0, 3)
    np.testing.assert_allclose(later[:2], 10 + 3 + 1, atol=0.1)
    assert np.isnan(later[2, 3]), "a pixel that was never seen has no climatology"


def test_a_window_says_what_the_whole_says() -> None:
    weights = np.random.default_rng(1).normal(size=(7, 20, 30)).astype(np.float32)
    whole = at_time(weights, 123_456, 0, 3)
    np.testing.assert_array_equal(at_time(weights[:, 3:9, 4:20], 123_456, 0, 3), whole[3:9, 4:20])


def test_no_step_gives_nothing() -> None:
    assert fit_harmonics([], 1, 1).size == 0
