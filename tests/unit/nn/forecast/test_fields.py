"""Scores of fields beside those of the package scores."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from scores.categorical import BinaryContingencyManager
from scores.spatial import fss_2d

from geoml.nn.forecast.fields import FieldScores, contingency, csi, fractions, fss
from geoml.nn.forecast.scores import crps_of_quantiles

RANDOM = np.random.default_rng(0)
FORECAST, TRUTH = (RANDOM.gamma(0.4, 3, (3, 40, 50)).astype(np.float32) for _ in range(2))


def test_csi_is_that_of_scores_and_pools_counts() -> None:
    counts = np.sum([contingency(f, t, 1.0) for f, t in zip(FORECAST, TRUTH, strict=True)], axis=0)
    of = BinaryContingencyManager(xr.DataArray(FORECAST >= 1.0), xr.DataArray(TRUTH >= 1.0)).transform()
    assert csi(*map(int, counts)) == pytest.approx(float(of.critical_success_index()), abs=1e-6)
    assert csi(0, 0, 0) is None


@pytest.mark.parametrize("side", [1, 5, 11])
def test_fss_is_that_of_scores(side: int) -> None:
    mine = fss(*fractions(FORECAST[0], TRUTH[0], 1.0, side))
    theirs = fss_2d(
        xr.DataArray(FORECAST[0], dims=("y", "x")), xr.DataArray(TRUTH[0], dims=("y", "x")), event_threshold=1.0,
        window_size=(side, side), spatial_dims=("y", "x"), threshold_operator=np.greater_equal,
    )  # fmt: skip
    assert mine == pytest.approx(float(theirs), abs=1e-6)


def test_dry_fields_have_no_fss_and_gaps_are_masked_in_both() -> None:
    dry = np.zeros((20, 20), np.float32)
    assert fss(*fractions(dry, dry, 1.0, 5)) is None
    gap = TRUTH[0].copy()
    gap[:, 25:] = np.nan
    masked = fss(*fractions(FORECAST[0], gap, 1.0, 1))
    assert masked == pytest.approx(fss(*fractions(FORECAST[0, :, :25], TRUTH[0, :, :25], 1.0, 1)), abs=1e-12)
    assert contingency(FORECAST[0], gap, 1.0) == contingency(FORECAST[0, :, :25], TRUTH[0, :, :25], 1.0)


def test_sums_of_fields_are_the_scores_of_all() -> None:
    levels = (0.1, 0.5, 0.9)
    spread = np.array([-1.0, 0.0, 1.0])[:, None, None, None]
    quantiles = np.maximum(FORECAST + spread, 0).astype(np.float32)
    quantiles[:, 0, :5] = np.nan
    found = FieldScores(levels, (1.0,), (5,), 0.1)
    for k in range(3):
        found.update(quantiles[:, k], TRUTH[k])
    told = found.compute()
    known = np.isfinite(quantiles[1])
    q, y = quantiles[:, known].astype(float), TRUTH[known].astype(float)
    assert told["n"] == known.sum()
    assert told["unsaid"] == pytest.approx(5 * 50 / TRUTH.size)
    assert told["mae"] == pytest.approx(np.abs(y - q[1]).mean())
    assert told["rmse"] == pytest.approx(np.sqrt(((y - q[1]) ** 2).mean()))
    assert told["bias"] == pytest.approx((q[1] - y).mean())
    assert told["crps"] == pytest.approx(crps_of_quantiles(q, y, levels).mean())
    assert told["coverage"]["80"] == pytest.approx(((q[0] <= y) & (y <= q[2])).mean())
    wet = (y >= 0.1) | (q[2] >= 0.1)
    assert told["coverage_wet"]["80"] == pytest.approx(((q[0] <= y) & (y <= q[2]))[wet].mean())
    assert FieldScores(levels).compute()["mae"] is None
