"""Scores of forecasts against two other programs, and what they promise by themselves."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scoringrules
import xarray as xr
from numpy.typing import NDArray

from geoml.nn.forecast.scores import LeadScores, coverage, crps_of_quantiles, fair_crps, pinball, pit

LEVELS = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)
Floats = NDArray[np.float64]


def made(n: int = 500, members: int = 9) -> tuple[Floats, Floats, Floats]:
    """(level, n) quantiles, (n,) truth, (member, n) ensemble."""
    random = np.random.default_rng(3)
    truth = random.gamma(2.0, 10.0, n)
    members_of = random.gamma(2.0, 10.0, (members, n))
    return np.sort(random.gamma(2.0, 10.0, (len(LEVELS), n)), 0), truth, members_of


def test_pinball_is_that_of_scores_and_scoringrules() -> None:
    from scores.continuous import quantile_score

    quantiles, truth, _ = made()
    found = pinball(quantiles, truth, LEVELS)
    for k, level in enumerate(LEVELS):
        np.testing.assert_allclose(found[k], scoringrules.quantile_score(truth, quantiles[k], level), rtol=1e-6)
        mean = quantile_score(xr.DataArray(quantiles[k]), xr.DataArray(truth), alpha=level)
        assert found[k].mean() == pytest.approx(float(mean), rel=1e-6)
    whole = np.mean([2 * scoringrules.quantile_score(truth, q, a) for q, a in zip(quantiles, LEVELS, strict=True)], 0)
    np.testing.assert_allclose(crps_of_quantiles(quantiles, truth, LEVELS), whole, rtol=1e-6)


def test_fair_crps_is_that_of_scores_and_scoringrules() -> None:
    from scores.probability import crps_for_ensemble

    _, truth, members = made()
    found = fair_crps(members, truth)
    np.testing.assert_allclose(found, scoringrules.crps_ensemble(truth, members.T, estimator="fair"), rtol=1e-6)
    fields = xr.DataArray(members, dims=("member", "n")), xr.DataArray(truth, dims=("n",))
    theirs = crps_for_ensemble(*fields, "member", method="fair", preserve_dims=["n"])
    np.testing.assert_allclose(found, theirs.to_numpy(), rtol=1e-6)


def test_coverage_is_the_share_between_the_ends() -> None:
    from scores.continuous import quantile_interval_score

    quantiles, truth, _ = made()
    share, width = coverage(quantiles[0], quantiles[-1], truth)
    parts = quantile_interval_score(
        xr.DataArray(quantiles[0]), xr.DataArray(quantiles[-1]), xr.DataArray(truth), 0.05, 0.95
    )
    assert width == pytest.approx(float(parts["interval_width_penalty"]), rel=1e-6)
    assert share == np.mean((quantiles[0] <= truth) & (truth <= quantiles[-1]))
    assert coverage(np.full(3, np.nan), np.ones(3), np.ones(3)) == (None, None)


def test_the_pit_of_the_true_quantiles_is_the_distance_of_the_levels() -> None:
    truth = np.arange(1, 20_001) / 20_001
    found = pit(np.tile(np.array(LEVELS)[:, None], (1, len(truth))), truth)
    np.testing.assert_allclose(found, np.diff([0, *LEVELS, 1]), atol=1e-3)
    assert found.sum() == pytest.approx(1)


def test_what_is_not_known_counts_nowhere_and_parts_are_the_whole() -> None:
    quantiles, truth, _ = made(60)
    q, y = quantiles.T.reshape(30, 2, -1), truth.reshape(30, 2)
    holes = y.copy()
    holes[::3, 1] = np.nan

    def scored(*parts: tuple[Floats, Floats]) -> dict[str, Any]:
        total = LeadScores(("PT1H", "PT3H"), LEVELS)
        for part in parts:
            total.update(*part)
        return total.compute()

    found = scored((q, holes))
    assert found["leads"]["PT3H"] == scored((q[np.isfinite(holes[:, 1])], y[np.isfinite(holes[:, 1])]))["leads"]["PT3H"]
    assert found["leads"]["PT1H"] == scored((q, y))["leads"]["PT1H"]
    assert scored((q[20:], holes[20:]), (q[:20], holes[:20])) == found
    assert set(found["leads"]["PT1H"]["coverage"]) == {"90", "80", "50"}
    assert scored((q, np.full_like(y, np.nan)))["crps"] is None
