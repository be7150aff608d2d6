"""The promise of prediction sets on made ground that is exchangeable, and what is too little for one."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from geoml.nn.linear_heads import softmax
from geoml.nn.prediction_sets import LEAST, least, sets, threshold

Floats = NDArray[np.float64]


def ground(places: int, random: np.random.Generator) -> tuple[Floats, NDArray[np.int64], NDArray[np.int64]]:
    """Probabilities (n, 4), truth and place of pixels: what is hard lies together, and places differ in size."""
    sizes = random.integers(1, 60, places)
    place = np.repeat(np.arange(places), sizes)
    truth = random.integers(0, 4, places)[place]
    hard = random.normal(0, 1.0, (places, 4))[place] + random.normal(0, 0.5, (len(place), 4))
    return softmax(hard + 1.5 * (truth[:, None] == np.arange(4))), truth, place


@pytest.mark.parametrize(("places", "level"), [(25, 0.9), (100, 0.9), (60, 0.7)])
def test_a_place_still_to_come_is_held_as_often_as_was_promised(places: int, level: float) -> None:
    held = []
    for seed in range(200):
        random = np.random.default_rng(seed)
        probability, truth, place = ground(places, random)
        limit = threshold(probability[np.arange(len(truth)), truth], place, level)
        assert limit is not None
        probability, truth, place = ground(50, random)
        hit = sets(probability, limit)[np.arange(len(truth)), truth]
        held.append(np.mean([hit[place == p].mean() for p in range(50)]))
    # 200 draws: three standard errors of their mean are under 0.015
    assert level - 0.015 <= np.mean(held) <= level + 1 / (places + 1) + 0.015


def test_each_place_has_one_voice() -> None:
    true, place = np.array([0.9, 0.8, 0.7, 0.6] * 6), np.arange(24)
    again = np.repeat(np.arange(24), np.arange(1, 25) ** 2)
    assert threshold(true, place, 0.75) == threshold(true[again], place[again], 0.75)
    order = np.random.default_rng(0).permutation(len(again))
    assert threshold(true[again][order], place[again][order], 0.75) == threshold(true, place, 0.75)


def test_the_threshold_is_the_conformal_quantile() -> None:
    """Of single pixels: the ceil((n + 1) level)-th largest probability."""
    for n in (20, 37, 99, 100):
        true = np.random.default_rng(n).random(n)
        assert threshold(true, np.arange(n), 0.9) == np.sort(true)[::-1][int(np.ceil((n + 1) * 0.9 - 1e-9)) - 1]


def test_too_few_places_have_no_threshold() -> None:
    for n, level, there in ((19, 0.9, False), (20, 0.9, True), (98, 0.99, False), (99, 0.99, True), (20, 0.5, True)):
        place = np.repeat(np.arange(n), 50)
        assert (threshold(np.linspace(0, 1, 50 * n), place, level) is not None) == there
        assert (n >= least(level)) == there
    assert least(0.1) == LEAST


def test_no_set_is_empty() -> None:
    probability = np.array([[0.3, 0.4, 0.3], [0.9, 0.05, 0.05], [0.5, 0.5, 0.0]])
    assert sets(probability, 0.95).tolist() == [[False, True, False], [True, False, False], [True, False, False]]
    assert sets(probability, 0.3).sum(1).tolist() == [3, 1, 2]
    assert sets(probability, 0.0).all()
