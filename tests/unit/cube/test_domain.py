"""How like the training data pixels are: against scipy's normal densities, and wherever a block is cut."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import multivariate_normal

from geoml.cube.domain import LEVEL, fit, likeness, log_density
from geoml.io.cards.domain import NODATA, OUTSIDE, STEPS, Domain, describe, verdict


def together(count: int, slope: float, seed: int = 0) -> NDArray[np.float64]:
    """(count, 2) values around 0.2 that rise together (slope 1) or against each other (-1)."""
    random = np.random.default_rng(seed)
    first = random.normal(0, 0.05, count)
    return 0.2 + np.column_stack([first, slope * first + random.normal(0, 0.005, count)])


RECORD = fit(together(20_000, 1.0), together(20_000, 1.0, seed=1), months=(5,), platforms=("landsat-8",))


def unlike(values: NDArray[Any], record: Domain = RECORD) -> NDArray[np.bool_]:
    found = likeness(record, values.T[:, None], np.ones((1, len(values)), bool), (1, 1), (0, 0))
    return found[0] < OUTSIDE


def test_as_many_held_out_pixels_are_unlike_as_the_record_says() -> None:
    assert unlike(together(20_000, 1.0, seed=1)).mean() == pytest.approx(LEVEL, abs=0.001)
    assert unlike(together(20_000, 1.0, seed=2)).mean() == pytest.approx(LEVEL, abs=0.005)


def test_a_joint_shift_is_seen_where_every_band_alone_is_as_it_was() -> None:
    here, there = together(20_000, 1.0), together(20_000, -1.0)
    np.testing.assert_allclose(np.sort(here, axis=0)[::999], np.sort(there, axis=0)[::999], atol=0.03)
    assert unlike(there).mean() > 0.6


def test_the_density_is_that_of_the_likeliest_normal_of_scipy() -> None:
    train = np.concatenate([together(4000, 1.0), together(4000, -0.5) + 1.0, together(4000, 0.2) - 2.0])
    record = fit(train, train)
    spread, center = np.array(record.spread), np.array(record.center)
    each = []
    rows, cols = np.tril_indices(2)
    for constant, triangle, shift in zip(record.constants, record.factors, record.shifts, strict=True):
        factor = np.zeros((2, 2))
        factor[rows, cols] = triangle
        covariance = np.linalg.inv(factor.T @ factor)
        normal = multivariate_normal(np.linalg.solve(factor, shift), covariance)
        weight = constant + np.log(2 * np.pi) - np.log(np.linalg.det(factor))  # of two bands: d / 2 log 2 pi
        each.append(normal.logpdf((train - center) / spread) + weight)
    np.testing.assert_allclose(log_density(record, train.T), np.max(each, axis=0), rtol=1e-3, atol=1e-2)
    weights = [
        c + np.log(2 * np.pi) - np.log(f[0] * f[2]) for c, f in zip(record.constants, record.factors, strict=True)
    ]
    assert np.exp(weights).sum() == pytest.approx(1, abs=1e-3)


@settings(max_examples=25, deadline=None)
@given(cuts=st.tuples(st.integers(1, 299), st.integers(1, 399)), seed=st.integers(0, 9))
def test_a_pixel_gets_the_same_number_wherever_its_block_is_cut(cuts: tuple[int, int], seed: int) -> None:
    random = np.random.default_rng(seed)
    data = random.integers(500, 4000, (4, 300, 400)).astype(np.uint16)
    valid = random.random((300, 400)) < 0.8
    scale, offset = (1e-4,) * 4, (0.0,) * 4
    whole = likeness(RECORD, data, valid, scale, offset)
    y, x = cuts
    parts = [
        [likeness(RECORD, data[:, rows, cols], valid[rows, cols], scale, offset) for cols in (slice(x), slice(x, None))]
        for rows in (slice(y), slice(y, None))
    ]
    np.testing.assert_array_equal(np.block(parts), whole)
    assert ((whole == NODATA) == ~valid).all()


def test_stored_numbers_count_by_their_scale_and_offset() -> None:
    values = together(1000, 1.0)
    stored = np.rint((values + 0.1) / 2e-5).astype(np.uint16).T[:, None]
    physical = stored * 2e-5 - 0.1
    valid = np.ones((1, 1000), bool)
    one = likeness(RECORD, stored, valid, (2e-5, 2e-5), (-0.1, -0.1))
    two = likeness(RECORD, physical, valid, (1, 1), (0, 0))
    assert np.abs(one.astype(int) - two).max() <= 1


def test_of_two_dates_the_less_like_counts() -> None:
    here, there = together(500, 1.0), together(500, -1.0)
    valid = np.ones((1, 500), bool)
    each = [likeness(RECORD, v.T[:, None], valid, (1, 1), (0, 0)) for v in (here, there)]
    both = likeness(RECORD, np.concatenate([here.T, there.T])[:, None], valid, (1,) * 4, (0,) * 4)
    np.testing.assert_array_equal(both, np.minimum(*each))


def test_of_a_series_only_its_looks_count() -> None:
    inside, outside = together(2, 1.0, 4).T[:, None], np.full((2, 1, 2), 1e4)
    data, valid = np.concatenate([inside, outside, inside]), np.ones((1, 2), bool)
    looks = np.array([[[True, True]], [[False, True]], [[True, False]]])
    found = likeness(RECORD, data, valid, (1,) * 6, (0,) * 6, looks)
    alone = likeness(RECORD, inside, valid, (1, 1), (0, 0))
    assert alone.min() > OUTSIDE
    assert found.tolist() == [[alone[0, 0], 0]]


def test_the_scale_has_its_ends_where_it_says() -> None:
    held = together(20_000, 1.0, seed=1)
    found = likeness(RECORD, held.T[:, None], np.ones((1, len(held)), bool), (1, 1), (0, 0))[0]
    density = log_density(RECORD, held.T)
    assert (found == STEPS).mean() == pytest.approx(0.5, abs=0.01)
    assert (found < OUTSIDE).tolist() == (density < RECORD.threshold).tolist()


def test_numbers_beyond_all_reason_are_unlike() -> None:
    with np.errstate(over="ignore"):
        values = np.array([[np.nan, 0.2], [0.2, np.inf], [1e30, -1e30], [-np.inf, np.inf], [65535, 65535]])
    assert unlike(values).all()


@pytest.mark.parametrize("count", [1, 3, 1000])
def test_bands_without_spread_and_few_pixels_have_a_record_too(count: int) -> None:
    train = np.column_stack([np.full(count, 7.0), np.arange(count) % 2])
    record = fit(train, train)
    assert not unlike(train, record).any()
    assert unlike(train + 100, record).all()


def test_a_record_comes_back_from_json_to_the_last_digit() -> None:
    back = Domain.model_validate(json.loads(RECORD.model_dump_json()))
    assert back == RECORD
    assert len(RECORD.model_dump_json()) < 2000


@pytest.mark.parametrize(("share", "word"), [(0.0, "inside"), (0.1, "inside"), (0.101, "partly"), (0.51, "outside")])
def test_verdicts_have_stated_bounds(share: float, word: str) -> None:
    assert verdict(share) == word


def test_what_is_said_never_rounds_to_all_or_nothing() -> None:
    assert "(0 % of the pixels" in describe({"outside": 0.0, "verdict": "inside"})
    assert "(<0.1 % of the pixels" in describe({"outside": 1e-6, "verdict": "inside"})
    assert "mostly unlike the training data of the model (>99.9 % of" in describe(
        {"outside": 0.99999, "verdict": "outside"}
    )
    assert "not known" in describe(None)
