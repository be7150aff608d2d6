from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
import torch

from geoml.nn.quantity_losses import LOSSES, SMALLEST, crps, gaussian, spread


def raw_of(mean: float, sigma: float) -> torch.Tensor:
    return torch.tensor([mean, math.log(math.expm1(sigma))]).reshape(1, 2, 1, 1)


@pytest.mark.parametrize(("mean", "sigma", "truth"), [(0.0, 1.0, 0.3), (1.5, 0.4, -0.2), (-2.0, 3.0, 5.0)])
def test_crps_is_the_integral_of_the_squared_difference_of_the_distributions(mean, sigma, truth):
    x = np.linspace(-40, 40, 400_001)
    difference = scipy.stats.norm(mean, sigma).cdf(x) - (x >= truth)
    expected = float((difference**2).sum() * (x[1] - x[0]))
    assert float(crps(raw_of(mean, sigma), torch.full((1, 1, 1), truth))) == pytest.approx(expected, rel=1e-3)


def test_crps_is_twice_the_mean_pinball_loss_of_all_quantiles():
    mean, sigma, truth = 0.7, 1.2, 2.0
    level = (np.arange(20_000) + 0.5) / 20_000
    off = truth - scipy.stats.norm(mean, sigma).ppf(level)
    pinball = np.maximum(level * off, (level - 1) * off).mean()
    assert float(crps(raw_of(mean, sigma), torch.full((1, 1, 1), truth))) == pytest.approx(2 * pinball, rel=1e-3)


def test_gaussian_is_the_density_less_the_highest_that_there_is():
    expected = scipy.stats.norm(0, SMALLEST).logpdf(0) - scipy.stats.norm(1.0, 0.5).logpdf(1.7)
    assert float(gaussian(raw_of(1.0, 0.5), torch.full((1, 1, 1), 1.7))) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("loss", LOSSES.values(), ids=list(LOSSES))
def test_value_and_spread_of_noise_are_learnt(loss):
    random = torch.Generator().manual_seed(0)
    target = 2 + 0.5 * torch.randn(1, 40, 40, generator=random)
    parameter = torch.zeros(1, 2, 1, 1, requires_grad=True)
    optimiser = torch.optim.Adam([parameter], 0.05)
    for _ in range(300):
        optimiser.zero_grad()
        loss(parameter.expand(1, 2, 40, 40), target).backward()
        optimiser.step()
    assert float(parameter[0, 0].detach()) == pytest.approx(float(target.mean()), abs=0.05)
    assert float(spread(parameter.detach())) == pytest.approx(float(target.std()), abs=0.05)
