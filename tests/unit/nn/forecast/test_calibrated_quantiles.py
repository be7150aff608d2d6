"""Quantiles that never cross, their loss, and shifts that make intervals hold."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from geoml.errors import InputError
from geoml.nn.forecast.calibration import conformal_shifts, symmetric_shifts
from geoml.nn.forecast.levels import LEVELS, check_levels
from geoml.nn.forecast.quantiles import pinball_loss, rising
from geoml.nn.forecast.scores import pinball


@given(st.integers(0, 10_000))
def test_quantiles_never_cross(seed: int) -> None:
    raw = 10 * torch.randn(2, 3, 7, 1, 4, generator=torch.Generator().manual_seed(seed))
    found = rising(raw)
    assert bool((found.diff(dim=2) >= 0).all())
    assert torch.equal(found[:, :, 3], raw[:, :, 3])


def test_the_loss_is_the_mean_pinball_of_what_is_known() -> None:
    random = torch.Generator().manual_seed(0)
    found, truth = torch.randn(5, 2 * 7, 1, 3, generator=random), torch.randn(5, 2, 1, 3, generator=random)
    truth[0], truth[1, 0, 0, 1] = float("nan"), float("nan")
    each = pinball(found.unflatten(1, (2, 7)).movedim(2, 0).double().numpy(), truth.double().numpy(), LEVELS)  # type: ignore[no-untyped-call]
    assert float(pinball_loss(found, truth, LEVELS)) == pytest.approx(2 * np.nanmean(each), rel=1e-5)
    other = found.clone()
    other[0] += 100
    assert float(pinball_loss(other, truth, LEVELS)) == float(pinball_loss(found, truth, LEVELS))
    assert float(pinball_loss(found, torch.full_like(truth, float("nan")), LEVELS)) == 0


@pytest.mark.parametrize("levels", [(), (0.1, 0.9), (0.1, 0.5), (0.9, 0.5, 0.1), (0.0, 0.5, 1.0), (0.1, 0.5, 0.8)])
def test_levels_that_are_none_are_refused(levels: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match="levels"):
        check_levels(levels)


def test_shifts_make_intervals_hold_by_lead_and_season() -> None:
    random = np.random.default_rng(5)
    season = random.integers(0, 2, (4000, 2))
    truth = random.normal(0, np.where(season == 1, 3.0, 1.0) * np.array([1.0, 2.0]))
    truth[::7, 0] = np.nan
    narrow = np.zeros((4000, 2, 7)) + 0.1 * np.array([-3, -2, -1, 0, 1, 2, 3])
    shifts = conformal_shifts(narrow[:2000], truth[:2000], LEVELS, season[:2000], 4)
    assert shifts.shape == (4, 2, 7)
    shifted = narrow + shifts[season, np.arange(2)]
    for one in (0, 1):
        for lead in (0, 1):
            mine = (season[2000:, lead] == one) & np.isfinite(truth[2000:, lead])
            q, y = shifted[2000:, lead][mine], truth[2000:, lead][mine]
            assert np.mean((q[:, 0] <= y) & (y <= q[:, -1])) == pytest.approx(0.9, abs=0.03)
            assert np.mean((q[:, 2] <= y) & (y <= q[:, 4])) == pytest.approx(0.5, abs=0.05)
    pooled = conformal_shifts(narrow[:2000], truth[:2000], LEVELS)
    np.testing.assert_array_equal(shifts[3], pooled[0])  # a season that was never seen
    assert not conformal_shifts(narrow[:9], np.full((9, 2), np.nan), LEVELS).any()


def test_symmetric_shifts_hold_the_interval_and_leave_the_median() -> None:
    random = np.random.default_rng(6)
    truth = random.normal(0, 2.0, (4000, 1))
    narrow = np.zeros((4000, 1, 7)) + 0.1 * np.array([-3, -2, -1, 0, 1, 2, 3])
    shifts = symmetric_shifts(narrow[:2000], truth[:2000], LEVELS)
    assert shifts[0, 3] == 0
    np.testing.assert_array_equal(shifts[0], -shifts[0, ::-1])
    q, y = narrow[2000:, 0] + shifts, truth[2000:, 0]
    assert np.mean((q[:, 0] <= y) & (y <= q[:, -1])) == pytest.approx(0.9, abs=0.03)
