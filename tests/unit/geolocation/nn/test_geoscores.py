"""Scores of geolocation against arithmetic by hand, scikit-like definitions and scipy's bootstrap."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from geoml.errors import InputError
from geoml.geolocation.nn import geoscores

KM = hnp.arrays(float, st.integers(1, 60), elements=st.floats(0, 20_000, width=32))


def test_the_levels_are_closed_and_the_geoscore_is_that_of_the_paper():
    scores = geoscores.summary(np.array([0.0, 1.0, 1.0001, 25.0, 750.0, 750.1, 1492.7, 20_000.0]))
    assert scores["within_1"] == 2 / 8
    assert scores["within_25"] == 4 / 8
    assert scores["within_750"] == 5 / 8
    assert scores["median_km"] == pytest.approx(387.5)
    assert geoscores.geoscore(np.array([0.0, 1492.7])) == pytest.approx([5000.0, 5000 / np.e])


@settings(max_examples=25)
@given(KM)
def test_shares_rise_with_the_level_and_a_score_lies_in_its_range(km):
    scores = geoscores.summary(km)
    shares = [scores[f"within_{level:g}"] for level in geoscores.LEVELS_KM]
    assert shares == sorted(shares)
    assert 0 <= scores["geoscore"] <= 5000


@pytest.mark.parametrize("km", [[], [-1.0], [np.nan], [[1.0]]])
def test_no_errors_or_impossible_ones_are_refused(km):
    with pytest.raises(InputError, match="km"):
        geoscores.summary(np.array(km))


def test_intervals_agree_with_scipys_bootstrap_and_repeat():
    km = np.random.default_rng(3).gamma(2.0, 300.0, 200)
    ours = geoscores.bootstrap(km, 500, seed=1)
    theirs = scipy.stats.bootstrap((km,), np.mean, n_resamples=500, method="percentile", rng=1).confidence_interval
    assert ours["mean_km"] == pytest.approx((theirs.low, theirs.high), rel=0.03)
    assert ours == geoscores.bootstrap(km, 500, seed=1)


def test_a_macro_average_counts_every_continent_once():
    km = np.array([0.0] * 9 + [1000.0])
    total = geoscores.macro_within(km, np.array([7] * 9 + [2]), 750.0)
    assert total == 0.5
    with pytest.raises(InputError, match="groups"):
        geoscores.macro_within(km, np.array([1]), 750.0)


def test_risk_at_a_coverage_is_that_of_the_surest_pictures():
    curve = geoscores.risk_coverage(np.array([0.9, 0.8, 0.7, 0.6]), np.array([False, False, True, True]))
    assert curve.risk == pytest.approx([0, 0, 1 / 3, 1 / 2])
    assert curve.at(0.5) == 0
    assert curve.at(1.0) == 0.5
    assert curve.area == pytest.approx((0 + 0 + 1 / 3 + 1 / 2) / 4)


@settings(max_examples=25)
@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=1, max_size=30), st.randoms())
def test_the_curve_does_not_depend_on_the_order_of_equally_sure_pictures(rows, random):
    shuffled = rows.copy()
    random.shuffle(shuffled)
    a, b = (
        geoscores.risk_coverage(np.array([c for c, _ in r], float), np.array([w for _, w in r]))
        for r in (rows, shuffled)
    )
    assert a.risk == pytest.approx(b.risk)
    assert a.risk[-1] == pytest.approx(np.mean([w for _, w in rows]))


def test_a_threshold_keeps_the_precision_and_never_cuts_through_equals():
    confidence = np.array([0.9, 0.8, 0.8, 0.5, 0.4])
    right = np.array([True, True, False, True, False])
    assert geoscores.threshold(confidence, right, 1.0) == 0.9
    assert geoscores.threshold(confidence, right, 0.75) == 0.5
    assert geoscores.threshold(confidence, right, 0.6) == 0.4
    assert geoscores.threshold(confidence, np.zeros(5, bool), 0.5) is None


def test_a_calibrated_forecast_has_no_gap_and_a_boastful_one_has():
    rng = np.random.default_rng(0)
    p = rng.random(20_000)
    honest = geoscores.reliability(p, rng.random(20_000) < p)
    assert honest["error"] < 0.02
    assert sum(honest["count"]) == 20_000
    assert geoscores.reliability(np.full(100, 0.9), np.arange(100) < 50)["error"] == pytest.approx(0.4)
    with pytest.raises(InputError, match="forecast"):
        geoscores.reliability(np.array([1.2]), np.array([True]))
