"""What is told of the order and the unit of bands, on made pixels with a known profile."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from geoml.cube.profile import LOOKS, fit, likeness, refuse, usual
from geoml.errors import ModelError

BANDS = ("blue", "green", "red", "nir", "swir16")
CENTER = np.array([-1.1, -1.0, -1.05, -0.5, -0.7])


def pixels(count: int = 2000, seed: int = 0, bright: float = 0.0) -> NDArray[np.float64]:
    """Reflectances: a brightness that all bands share, one of vegetation, and a little of their own."""
    random = np.random.default_rng(seed)
    shared, green = random.normal(0, 0.15, (2, count, 1))
    ways = np.array([-0.3, 0.1, -0.6, 0.9, 0.2])
    own = random.normal(0, 0.03, (count, len(BANDS)))
    return np.asarray(10 ** (CENTER + bright + shared + green * ways + own))


PROFILE = fit(pixels(seed=1), "made")


def test_the_right_order_is_usual_and_no_other_is_nearer() -> None:
    found = likeness(PROFILE, pixels())
    assert found.order == (0, 1, 2, 3, 4)
    assert found.distance == found.best == pytest.approx(len(BANDS) / 2, rel=0.1)  # what a Gaussian has in the mean
    assert found.times == pytest.approx(1, rel=0.1)
    assert refuse(PROFILE, pixels(), BANDS) == ""


@given(st.permutations(range(5)))
def test_every_other_order_is_refused_and_named(order: list[int]) -> None:
    moved = pixels()[:, order]
    if order == sorted(order):
        assert refuse(PROFILE, moved, BANDS) == ""
        return
    with pytest.raises(ModelError, match="bands: the values seem to be in another order") as caught:
        refuse(PROFILE, moved, BANDS)
    for place, holds in enumerate(order):
        said = f"{BANDS[place]} holds {BANDS[holds]}"
        assert (said in str(caught.value)) == (place != holds)


@pytest.mark.parametrize("times", [1e4, 255, 1e-4])
def test_another_unit_is_refused_with_how_many_times(times: float) -> None:
    with pytest.raises(ModelError, match=r"scale: values are .* times those of the training data.*from 0 to 1"):
        refuse(PROFILE, pixels() * times, BANDS)


def test_brighter_and_darker_scenes_are_no_other_unit() -> None:
    for bright in (-0.4, 0.4):
        assert "scale" not in refuse(PROFILE, pixels(bright=bright), BANDS)


def test_what_no_order_makes_usual_is_a_doubt_and_no_refusal() -> None:
    strange = 10 ** (CENTER + np.random.default_rng(0).normal(0, 0.4, (500, 5)))
    found = likeness(PROFILE, strange)
    assert found.best > usual(5)
    assert "level: the bands do not relate to each other" in refuse(PROFILE, strange, BANDS)


def test_nothing_is_said_of_few_looks() -> None:
    assert refuse(PROFILE, pixels(LOOKS - 1)[:, ::-1], BANDS) == ""
