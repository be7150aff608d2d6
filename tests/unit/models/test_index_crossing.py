"""Crossings of a threshold on made dates whose water is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

from geoml import models
from geoml.errors import InputError

SIDE = 60

Array = NDArray[np.float64]


def scene(index: Array, seed: int = 0) -> Array:
    """(2, y, x) green and nir of any brightness with a given NDWI."""
    bright = np.random.default_rng(seed).uniform(0.1, 0.6, index.shape)
    return np.stack([bright * (1 + index), bright * (1 - index)])


def ponds(noise: float = 0.02) -> tuple[Array, Array, NDArray[np.int64]]:
    """NDWI of two dates: 1 where water came, 2 where it went. Half of all pixels move by 0.25 as well."""
    random = np.random.default_rng(1)
    water = np.zeros((2, SIDE, SIDE), bool)
    water[:, 5:25, 5:25] = True
    water[1, 30:40, 10:30], water[0, 45:55, 30:50] = True, True
    index = np.where(water, 0.4, -0.5)
    index[1, :, ::2] += np.where(water[1, :, ::2], 0.25, -0.25)  # no pond came or went by that
    index += noise * random.normal(size=index.shape)
    truth = np.where(water[1] & ~water[0], 1, np.where(water[0] & ~water[1], 2, 0))
    return index[0], index[1], truth


def columns(first: Array, second: Array) -> Tensor:
    return torch.from_numpy(np.concatenate([first, second]).reshape(4, -1).T.astype(np.float32).copy())


def settled(first: Array, second: Array, name: str = "index_crossing", **options: float | None) -> nn.Module:
    module = models.build(name, {"bands": 2, **options})
    models.find(name).calibrate(module, columns(first, second))
    return module.eval()


def classes(module: nn.Module, first: Array, second: Array) -> NDArray[np.int64]:
    with torch.no_grad():
        x = torch.from_numpy(np.concatenate([first, second])[None].astype(np.float32))
        return module(x)[0].argmax(0).numpy()


@pytest.mark.parametrize("threshold", [None, 0.0, 0.1])
def test_water_that_came_and_went_is_found_and_nothing_else(threshold: float | None) -> None:
    before, after, truth = ponds()
    dates = scene(before), scene(after, seed=5)
    module = settled(*dates, threshold=threshold, classes=3)
    assert np.array_equal(classes(module, *dates), truth)
    assert np.array_equal(classes(module, *dates[::-1]), np.array([0, 2, 1])[truth])
    assert np.array_equal(classes(settled(*dates, threshold=threshold), *dates) == 1, truth > 0)
    assert module.doubt(columns(*dates)) == ""
    with torch.no_grad():
        score = torch.softmax(module(torch.from_numpy(np.concatenate(dates)[None].astype(np.float32))), 1)[0, 0]
    assert np.array_equal(score.numpy() < 0.5, truth > 0)


def test_a_magnitude_takes_what_only_moved_for_change() -> None:
    before = np.full((SIDE, SIDE), -0.4)
    after = before.copy()
    after[:, ::3] = -0.9  # land all the same
    truth = np.zeros((SIDE, SIDE), bool)
    truth[30:40, 10:20] = True
    after[truth] = 0.3
    dates = scene(before), scene(after)
    moved = classes(settled(*dates, "index_difference"), *dates) > 0
    assert moved[~truth].mean() > 0.3
    assert np.array_equal(classes(settled(*dates, threshold=0.0), *dates) > 0, truth)


@settings(max_examples=30, deadline=None)
@given(
    threshold=st.sampled_from([-0.25, 0.0, 0.125, 0.5]),
    margin=st.sampled_from([0.0, 0.0625, 0.25]),
    seed=st.integers(0, 1000),
)
def test_the_rule_is_what_it_says(threshold: float, margin: float, seed: int) -> None:
    """On indices that binary fractions hold exactly, many of them the threshold itself: not above is below."""
    random = np.random.default_rng(seed)
    index = random.integers(-8, 9, (2, 12, 12)) / 8
    dates = [np.stack([1 + i, 1 - i]) for i in index]
    module = settled(*dates, threshold=threshold, margin=margin, classes=3)
    above = index > threshold
    far = (np.abs(index - threshold) > margin).all(0) if margin else np.ones((12, 12), bool)
    expected = np.where(far & above[1] & ~above[0], 1, np.where(far & above[0] & ~above[1], 2, 0))
    assert np.array_equal(classes(module, *dates), expected)


def test_equal_dates_cross_nothing_whatever_the_threshold() -> None:
    before, _, _ = ponds(noise=0.3)
    first = scene(before)
    for threshold in (None, 0.0, float(np.median(before))):
        assert classes(settled(first, first, threshold=threshold), first, first).sum() == 0


def test_an_index_without_two_sides_is_told_unless_a_threshold_is_given() -> None:
    """No water on either date: Otsu parts land from land, and noise crosses that in either direction."""
    random = np.random.default_rng(0)
    dates = [scene(-0.4 + 0.05 * random.normal(size=(SIDE, SIDE))) for _ in range(2)]
    module = settled(*dates)
    assert classes(module, *dates).mean() > 0.2
    assert "one mode" in module.doubt(columns(*dates))
    module = settled(*dates, threshold=0.0)
    assert classes(module, *dates).sum() == 0
    assert module.doubt(columns(*dates)) == ""


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"threshold": float("nan")}, "threshold"),
        ({"threshold": "water"}, "threshold"),
        ({"margin": -0.1}, "margin"),
        ({"margin": float("inf")}, "margin"),
        ({"second": 0}, "second"),
    ],
)
def test_what_cannot_be_is_refused(wrong: dict[str, object], says: str) -> None:
    with pytest.raises(InputError, match=says):
        models.build("index_crossing", {"bands": 2, **wrong})
