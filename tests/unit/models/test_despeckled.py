"""Speckle on made ground: flat ground becomes flat, edges stay, and power is neither made nor lost."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import uniform_filter
from torch import Tensor

from geoml import models
from geoml.errors import InputError
from geoml.models.despeckled import boxcar, decibels, lee, power

LOOKS = 4.0


def speckled(truth: np.ndarray) -> Tensor:
    """(1, 1, y, x) multiplied by gamma noise of mean 1 and variance 1 / looks."""
    noise = np.random.default_rng(0).gamma(LOOKS, 1 / LOOKS, truth.shape)
    return torch.from_numpy((truth * noise).astype(np.float32))[None, None]


def step() -> np.ndarray:
    """Water beside land, in power."""
    truth = np.full((96, 96), 0.1)
    truth[:, 48:] = 0.005
    return truth


def test_decibels_and_power_are_inverse() -> None:
    values = torch.tensor([-30, -12.5, 0, 3])
    torch.testing.assert_close(decibels(power(values)), values, atol=1e-5, rtol=0)
    assert decibels(torch.zeros(1)).isfinite().all()


def test_a_mean_of_power_is_that_of_scipy_and_not_that_of_decibels() -> None:
    image = speckled(np.full((64, 64), 0.1))
    expected = uniform_filter(image[0, 0].numpy(), 5, mode="nearest")
    np.testing.assert_allclose(boxcar(image, 5)[0, 0], expected, rtol=1e-4)
    assert power(decibels(image).mean()) < 0.95 * image.mean()


def test_flat_ground_becomes_flat_and_an_edge_stays() -> None:
    truth, image = torch.from_numpy(step()), speckled(step())
    found, plain = lee(image, 7, LOOKS)[0, 0], boxcar(image, 7)[0, 0]
    flat = (slice(8, 88), slice(8, 36))
    assert found[flat].std() < 0.4 * image[0, 0][flat].std()
    assert found[flat].mean() == pytest.approx(image[0, 0][flat].mean().item(), rel=0.02)
    beside = (slice(8, 88), slice(48, 51))
    assert (found - truth)[beside].abs().mean() < 0.5 * (plain - truth)[beside].abs().mean()


def test_nothing_varies_where_nothing_varied() -> None:
    flat = torch.full((1, 2, 9, 9), 0.01)
    torch.testing.assert_close(lee(flat, 3, LOOKS), flat)
    assert not lee(torch.zeros(1, 1, 9, 9), 3, LOOKS).any()


def test_the_network_behind_sees_the_filtered_bands() -> None:
    segnet = {"architecture": "segnet", "config": {"channels": [4, 8], "convolutions": [1, 1]}}
    made = models.build("despeckled", {**segnet, "bands": 2, "classes": 2, "size": 5, "looks": LOOKS}).eval()
    mean, std = torch.tensor([-11.0, -18.0]).view(-1, 1, 1), torch.tensor([4.0, 5.0]).view(-1, 1, 1)
    made.describe(mean.flatten().tolist(), std.flatten().tolist(), [None, None])
    image = torch.cat([speckled(step()), speckled(0.2 * step())], 1)
    with torch.no_grad():
        found = made((decibels(image) - mean) / std)
        expected = made.net((decibels(lee(image, 5, LOOKS)) - mean) / std)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [({"size": 4}, "odd"), ({"looks": 0}, "above zero"), ({"architecture": "despeckled"}, "another model")],
)
def test_what_does_not_fit_is_refused(wrong: dict[str, object], says: str) -> None:
    with pytest.raises(InputError, match=says):
        models.build("despeckled", {"architecture": "segnet", "bands": 2, "classes": 2, **wrong})
