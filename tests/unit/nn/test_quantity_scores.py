from __future__ import annotations

import numpy as np
import pytest

from geoml.nn.quantity_scores import DEVIATIONS, QuantityScores


def test_scores_are_those_of_numpy():
    rng = np.random.default_rng(0)
    truth = rng.normal(10, 4, (50, 40)).astype(np.float32)
    value = truth + rng.normal(0.5, 1.5, truth.shape).astype(np.float32)
    spread = np.full(truth.shape, 1.5, np.float32)
    truth[:5], value[5:8] = np.nan, np.nan
    scores = QuantityScores(0.01)
    scores.update(value, spread, truth)
    found, known = scores.compute(), np.isfinite(truth) & np.isfinite(value)
    error = (value - truth)[known].astype(float)
    assert found["pixels"] == known.sum()
    assert found["mae"] == pytest.approx(np.abs(error).mean(), rel=1e-3)
    assert found["rmse"] == pytest.approx((error**2).mean() ** 0.5, rel=1e-3)
    assert found["bias"] == pytest.approx(error.mean(), rel=1e-3)
    variance = ((truth[known] - truth[known].mean()) ** 2).sum()
    assert found["r2"] == pytest.approx(1 - (error**2).sum() / variance, rel=1e-3)
    assert found["coverage"] == pytest.approx((np.abs(error) <= DEVIATIONS * 1.5).mean(), abs=2e-3)
    assert 0.8 < found["coverage"] < 0.95
    assert found["spread"] == pytest.approx(1.5)


def test_a_constant_explains_nothing():
    truth = np.arange(10, dtype=np.float32)
    scores = QuantityScores(0.1)
    scores.update(np.full(10, 4.5, np.float32), np.ones(10, np.float32), truth)
    assert scores.compute()["r2"] == pytest.approx(0)
    flat = QuantityScores(0.1)
    flat.update(truth, truth, np.full(10, 3, np.float32))
    assert flat.compute()["r2"] is None
