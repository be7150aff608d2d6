"""The null of a magnitude against the distribution that the numbers were drawn from."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from geoml.errors import InputError
from geoml.nn.empirical_null import null_above
from geoml.nn.otsu import otsu


@settings(max_examples=25, deadline=None)
@given(
    shape=st.floats(0.7, 12),
    scale=st.floats(1e-3, 1e3),
    changed=st.sampled_from([0.0, 0.02, 0.1]),
    far=st.floats(3, 20),
    seed=st.integers(0, 2**16),
)
def test_what_changed_takes_no_part_in_the_null(
    shape: float, scale: float, changed: float, far: float, seed: int
) -> None:
    random = np.random.default_rng(seed)
    truth = stats.gamma(shape, scale=scale)
    x = truth.rvs(20_000, random_state=random)
    x[: int(changed * len(x))] = truth.ppf(0.999) * far
    threshold = float(truth.ppf(0.8))
    # changed pixels push every quantile of the others up a little
    assert null_above(torch.from_numpy(x), threshold) == pytest.approx(0.2, abs=0.02 + 0.6 * changed)
    assert null_above(torch.from_numpy(x), float(truth.ppf(0.99999))) < 0.01


@pytest.mark.parametrize("bands", [1, 2, 4, 12])
def test_lengths_of_normal_differences_are_explained(bands: int) -> None:
    """The magnitudes of a pair of dates with noise and no change, whose law is a chi and no gamma distribution."""
    x = np.linalg.norm(np.random.default_rng(bands).normal(size=(bands, 50_000)), axis=0)
    magnitude = torch.from_numpy(x)
    threshold = otsu(magnitude).threshold
    assert null_above(magnitude, threshold) == pytest.approx(stats.chi(bands).sf(threshold), rel=0.3)


def test_scale_does_not_matter() -> None:
    x = torch.from_numpy(np.random.default_rng(0).exponential(size=1000))
    assert null_above(1e6 * x, 2e6) == pytest.approx(null_above(x, 2.0), rel=1e-4)


def test_where_half_is_nothing_the_null_is_nothing() -> None:
    x = torch.zeros(1000)
    x[:100] = torch.linspace(1, 2, 100)
    assert null_above(x, 0.5) == 0.0
    assert null_above(x, -0.5) == 1.0
    x[:600] = torch.linspace(1, 2, 600)
    assert 0 < null_above(x, 1.5) < 1


def test_one_number_stands_for_itself() -> None:
    assert null_above(torch.full((500,), 3.0), 2.5) > 0.99
    assert null_above(torch.full((500,), 3.0), 3.5) < 0.01


def test_no_numbers_are_refused() -> None:
    with pytest.raises(InputError, match="no numbers"):
        null_above(torch.empty(0), 1.0)
