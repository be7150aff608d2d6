"""Pictures whose places are known in truth: the network finds scale, heading and place from ties and poor positions."""

from __future__ import annotations

import numpy as np
import pytest

from geoml.geolocation.matching.network import Tie, adjust
from geoml.grid.homography import apply, middle

SHAPE = (480, 640)


def flight(noise: float, seed: int = 0):
    """Twelve frames of 64 x 48 m in any heading over a field, truths, places and ties with ``noise`` pixels."""
    rng = np.random.default_rng(seed)
    places = np.array([(25.0 * (k % 4), 20.0 * (k // 4)) for k in range(12)])
    truths = []
    for place in places:
        scale, angle = 0.1 * rng.uniform(0.8, 1.25), rng.uniform(0, 2 * np.pi)
        c, s = scale * np.cos(angle), scale * np.sin(angle)
        linear = np.array([[c, s], [s, -c]])  # y of a picture is down
        shift = place - linear @ middle(SHAPE)[0]
        truths.append(np.array([[*linear[0], shift[0]], [*linear[1], shift[1]], [0, 0, 1]]))
    ties = []
    for i in range(12):
        for j in range(i + 1, 12):
            if np.hypot(*(places[i] - places[j])) < 33:
                source = rng.uniform(0, 1, (30, 2)) * (640, 480)
                target = apply(np.linalg.inv(truths[j]) @ truths[i], source) + rng.normal(0, noise, (30, 2))
                ties.append(Tie(i, j, source, target))
    return truths, places, ties


def test_exact_ties_and_places_give_the_truth() -> None:
    truths, places, ties = flight(0.0)
    network = adjust([SHAPE] * 12, places, ties)
    for found, truth in zip(network.matrices, truths, strict=True):
        assert found == pytest.approx(truth, abs=1e-6)
    assert network.residual == pytest.approx(np.zeros(12), abs=1e-6)


def test_noise_does_not_shrink_it_and_a_wrong_position_is_seen() -> None:
    truths, places, ties = flight(3.0)
    positions = places + np.random.default_rng(1).normal(0, 2.0, places.shape)
    positions[5] += (60, 0)
    network = adjust([SHAPE] * 12, positions, ties, sigma=2.0)
    ratio = [np.hypot(*f[:2, 0]) / np.hypot(*t[:2, 0]) for f, t in zip(network.matrices, truths, strict=True)]
    assert np.mean(ratio) == pytest.approx(1, abs=0.15)
    assert int(network.residual.argmax()) == 5
    assert network.residual[5] > 40


def test_a_wrong_tie_is_outvoted() -> None:
    _, places, ties = flight(0.0)
    bad = Tie(ties[3].first, ties[3].second, ties[3].source, ties[3].target + np.array([120, -80]))
    network = adjust([SHAPE] * 12, places, [*ties[:3], bad, *ties[4:]])
    middles = np.array([apply(m, middle(SHAPE))[0] for m in network.matrices])
    assert np.abs(middles - places).max() < 2.0


def test_what_hangs_together_is_placed_and_the_rest_is_not() -> None:
    _, places, ties = flight(0.0)
    kept = [t for t in ties if t.first < 10 and t.second < 10]
    network = adjust([SHAPE] * 12, places, kept)
    assert [m is None for m in network.matrices] == [False] * 10 + [True, True]
    assert np.isnan(network.residual[10:]).all()
