"""Known gains, offsets and gammas come back, and true change does not pull them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from pydantic import ValidationError

from geoml.cube.harmonise import Curve, How, Transform, fit, no_change
from geoml.errors import DataError, InputError

Sample = NDArray[np.float64]
GAIN = np.array([1.3, 0.8, 1.1, 2.0])
OFFSET = np.array([0.02, -0.01, 0.05, 0.0])


def scene(n: int = 20_000, seed: int = 0) -> Sample:
    """(N, 4) reflectances of a few covers with variation inside and between them."""
    rng = np.random.default_rng(seed)
    covers = np.array([[0.05, 0.08, 0.06, 0.4], [0.15, 0.18, 0.22, 0.28], [0.08, 0.07, 0.05, 0.03]])
    bright = rng.lognormal(0, 0.25, (n, 1))
    return np.asarray(covers[rng.integers(0, 3, n)] * bright + rng.normal(0, 0.01, (n, 4)))


def dates(changed: float, noise: float = 0.003, seed: int = 0) -> tuple[Sample, Sample, NDArray[np.bool_]]:
    """(first, second, changed): first = GAIN * second + OFFSET where nothing changed; the changed are bare soil now."""
    rng = np.random.default_rng(seed + 1)
    truth = scene(seed=seed)
    first = truth + rng.normal(0, noise, truth.shape)
    later = truth.copy()
    which = rng.random(len(truth)) < changed
    later[which] = np.array([0.25, 0.3, 0.35, 0.4]) + rng.normal(0, 0.05, (which.sum(), 4))
    second = (later - OFFSET) / GAIN + rng.normal(0, noise, truth.shape) / GAIN
    return first, second, which


@pytest.mark.parametrize("changed", [0.0, 0.2])
@pytest.mark.parametrize("seed", range(3))
def test_invariant_pixels_give_gain_and_offset(changed: float, seed: int) -> None:
    first, second, _ = dates(changed, seed=seed)
    made = fit(first, second, "invariant")
    np.testing.assert_allclose([c.gain for c in made.bands], GAIN, rtol=0.02)
    np.testing.assert_allclose([c.offset for c in made.bands], OFFSET, atol=0.02 * 0.2)  # 2 % of a usual reflectance
    assert 0 < made.used <= 1 - changed


def test_no_change_knows_what_changed() -> None:
    first, second, changed = dates(0.2)
    probability = no_change(first, second)
    assert (probability[changed] > 0.9).mean() < 0.001
    assert (
        probability[~changed] > 0.9
    ).mean() > 0.03  # uniform on [0, 1] would be 0.1; small weights count as outliers
    assert ((probability >= 0) & (probability <= 1)).all()


def test_change_pulls_histograms_but_not_invariant_pixels() -> None:
    first, second, changed = dates(0.2)
    cube = second.T[:, None, :]
    errors = []
    hows: tuple[How, How] = ("histogram", "invariant")
    for how in hows:
        moved = fit(first, second, how).apply(cube)[:, 0].T
        errors.append(np.abs(moved - first)[~changed].mean())
    assert errors[1] < 0.5 * errors[0]
    assert errors[1] < 0.006  # noise of two dates of 0.003


@pytest.mark.parametrize("gamma", [0.6, 1.0, 1.8])
def test_histograms_follow_a_gamma(gamma: float) -> None:
    first = np.clip(scene(), 0.001, None)
    second = first**gamma * 300 + 7
    moved = fit(first, second, "histogram").apply(second.T[:, None])[:, 0].T
    low, high = np.quantile(first, [0.01, 0.99], axis=0)
    inside = (first > low) & (first < high)
    assert np.abs(moved - first)[inside].max() < 0.02
    assert np.abs(moved - first)[inside].mean() < 0.001


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(["histogram", "invariant"]), st.floats(0.05, 50), st.floats(-100, 100), st.integers(0, 99))
def test_the_numbers_of_the_second_date_do_not_matter(how: How, gain: float, offset: float, seed: int) -> None:
    """A digital number or a reflectance: the outcome is the same."""
    first, second, _ = dates(0.1, seed=seed)
    first, second = first[:4000], second[:4000]
    plain = fit(first, second, how).apply(second.T[:, None])
    other = fit(first, second * gain + offset, how).apply((second * gain + offset).T[:, None])
    np.testing.assert_allclose(other, plain, atol=1e-6)


@pytest.mark.parametrize("how", ["histogram", "invariant"])
def test_equal_dates_stay_as_they_are(how: How) -> None:
    same = scene()
    out = fit(same, same, how).apply(same.T[:, None])
    assert out.dtype == np.float32
    np.testing.assert_allclose(out[:, 0].T, same, atol=1e-5 if how == "invariant" else 0.03)


def test_integers_with_ties_and_a_single_band() -> None:
    rng = np.random.default_rng(0)
    second = rng.poisson(3, (5000, 1)).astype(np.uint8)
    first = (2 * second + 10).astype(np.uint8)
    hows: tuple[How, How] = ("histogram", "invariant")
    for how in hows:
        out = fit(first, second, how).apply(second.T[:, None])
        np.testing.assert_allclose(out[0, 0], first[:, 0], atol=1.0)


@pytest.mark.parametrize("how", ["histogram", "invariant"])
def test_a_band_without_contrast_gets_an_offset(how: How) -> None:
    first, second, _ = dates(0.0)
    second[:, 1], first[:, 1] = 5.0, 2.0
    curve = fit(first, second, how).bands[1]
    assert (curve.gain, curve.offset) == (1.0, -3.0)


def test_beyond_the_ends_the_mean_slope_goes_on() -> None:
    curve = Curve(x=(0.0, 1.0, 2.0), y=(0.0, 3.0, 4.0))
    made = Transform(how="histogram", bands=(curve,), used=1.0)
    data = np.array([[[-1.0, 0.0, 0.5, 1.0, 1.5, 2.0, 3.0, np.nan]]])
    expected = [-2.0, 0.0, 1.5, 3.0, 3.5, 4.0, 6.0, np.nan]
    np.testing.assert_array_equal(made.apply(data)[0, 0], np.array(expected, np.float32))


@pytest.mark.parametrize("how", ["histogram", "invariant"])
def test_a_transform_travels_as_json(how: How) -> None:
    first, second, _ = dates(0.1)
    made = fit(first, second, how)
    assert Transform.model_validate_json(made.model_dump_json()) == made


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(["histogram", "invariant"]), st.integers(0, 1000))
def test_order_and_pixels_that_are_not_finite_do_not_matter(how: How, seed: int) -> None:
    first, second, _ = dates(0.1)
    first, second = first[:4000], second[:4000]
    order = np.random.default_rng(seed).permutation(4000)
    mixed = [np.vstack([a[order], np.full((3, 4), np.nan)]) for a in (first, second)]
    a, b = fit(first, second, how), fit(mixed[0], mixed[1], how)
    for plain, other in zip(a.bands, b.bands, strict=True):
        np.testing.assert_allclose(plain.y, other.y, rtol=1e-6, atol=1e-9)
    assert b.used < a.used


def test_what_cannot_be_fitted() -> None:
    first, second, _ = dates(0.0)
    with pytest.raises(InputError, match="did you mean 'histogram'"):
        fit(first, second, "histograms")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="expected \\(N, band\\) twice"):
        fit(first, second[:, :2], "histogram")
    with pytest.raises(DataError, match="10 pixels to fit 4 bands"):
        fit(first[:10], second[:10], "histogram")
    noise = np.random.default_rng(0).normal(size=(2, 5000, 2))
    with pytest.raises(DataError, match="normalise"):
        fit(noise[0], noise[1], "invariant")
    with pytest.raises(DataError, match="correlate by -"):
        fit(first, -second, "invariant")
    with pytest.raises(InputError, match=r"expected \(4, y, x\)"):
        fit(first, second, "invariant").apply(np.zeros((3, 2, 2)))
    with pytest.raises(ValidationError, match="x increasing"):
        Curve(x=(1.0, 1.0), y=(0.0, 1.0))


@pytest.mark.data
def test_real_dates_come_nearer() -> None:
    """Taizhou, whose unchanged pixels are known: both ways bring them nearer to the first date."""
    root = Path(os.environ["GEOML_DATA"]) / "change/landsat_cd/Taizhou"
    first, second = (rasterio.open(root / name).read().astype(np.float32) for name in ("2000TM", "2003TM"))
    unchanged = np.asarray(Image.open(root / "unchanged.bmp").convert("L")) > 0
    assert unchanged.shape == first.shape[1:]
    sample = [d.reshape(6, -1).T[::7] for d in (first, second)]

    def distance(after: NDArray[np.float32]) -> float:
        return float(np.abs(after - first)[:, unchanged].mean())

    assert distance(fit(sample[0], sample[1], "invariant").apply(second)) < 0.35 * distance(second)
    assert distance(fit(sample[0], sample[1], "histogram").apply(second)) < 0.35 * distance(second)
