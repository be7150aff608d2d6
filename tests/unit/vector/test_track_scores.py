"""HOTA, MOTA and IDF1 are those of TrackEval, on made sequences with all kinds of mistakes."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from trackeval.metrics import CLEAR, HOTA, Identity

from geoml.errors import InputError
from geoml.vector.track_scores import ScoredFrame, TrackScores, overlaps, track_scores


def oracle(moments: list[ScoredFrame]) -> TrackScores:
    true = np.unique(np.concatenate([m.true for m in moments]))
    found = np.unique(np.concatenate([m.found for m in moments]))
    data = {
        "num_timesteps": len(moments),
        "num_gt_ids": len(true),
        "num_tracker_ids": len(found),
        "num_gt_dets": sum(len(m.true) for m in moments),
        "num_tracker_dets": sum(len(m.found) for m in moments),
        "gt_ids": [np.searchsorted(true, m.true) for m in moments],
        "tracker_ids": [np.searchsorted(found, m.found) for m in moments],
        "similarity_scores": [m.alike for m in moments],
    }
    quiet = {"PRINT_CONFIG": False}
    hota, clear = HOTA().eval_sequence(data), CLEAR(quiet).eval_sequence(data)
    means = [float(np.mean(hota[key])) for key in ("HOTA", "DetA", "AssA")]
    return TrackScores(*means, clear["MOTA"], Identity(quiet).eval_sequence(data)["IDF1"], int(clear["IDSW"]))


def made(seed: int) -> list[ScoredFrame]:
    """Boxes that move, with some missing, some false, some whose id changes, some frames without either."""
    random = np.random.default_rng(seed)
    n, frames = random.integers(1, 12), random.integers(1, 25)
    place, step, names = random.uniform(0, 100, (n, 2)), random.normal(0, 4, (n, 2)), random.permutation(1000)[:n]

    def boxes(middle: NDArray[np.float64], off: float) -> NDArray[np.float64]:
        return np.column_stack([middle + random.normal(0, off, middle.shape), np.full((len(middle), 2), 12.0)])

    moments = []
    for frame in range(frames):
        place = place + step
        if random.random() < 0.2:
            names = np.where(random.random(n) < 0.4, random.integers(1000, 2000) * 100 + np.arange(n), names)
        empty = random.random(2) < 0.1
        true = np.flatnonzero(random.random(n) < 0.85 * ~empty[0])
        right = np.flatnonzero(random.random(n) < 0.8 * ~empty[1])
        false = int(random.integers(0, 3)) * int(~empty[1])
        found = np.concatenate([boxes(place[right], 1.5), boxes(random.uniform(0, 100, (false, 2)), 0)])
        ids = np.concatenate([names[right], 10**7 + frame * 5 + np.arange(false)])
        moments.append(ScoredFrame(true, ids, overlaps(boxes(place[true], 0), found)))
    return moments


@settings(max_examples=150)
@given(st.integers(0, 2**31))
def test_scores_are_those_of_trackeval(seed: int) -> None:
    moments = made(seed)
    if not any(len(m.true) for m in moments) or not any(len(m.found) for m in moments):
        return
    ours, theirs = asdict(track_scores(moments)), asdict(oracle(moments))
    assert ours == pytest.approx(theirs, abs=1e-9)


def test_the_truth_scores_one() -> None:
    boxes = np.array([[0.0, 0, 10, 10], [30, 0, 10, 10]])
    ids = np.array([5, 7])
    moments = [ScoredFrame(ids, ids, overlaps(boxes + k, boxes + k)) for k in range(4)]
    assert track_scores(moments) == TrackScores(1.0, 1.0, 1.0, 1.0, 1.0, 0)


def test_a_switch_costs_association_alone() -> None:
    boxes = np.array([[0.0, 0, 10, 10], [30, 0, 10, 10]])
    alike = overlaps(boxes, boxes)
    moments = [ScoredFrame(np.array([1, 2]), np.array([1, 2] if k < 2 else [2, 1]), alike) for k in range(4)]
    found = track_scores(moments)
    assert (found.deta, found.switches) == (1.0, 2)
    assert found.mota == pytest.approx(0.75)
    assert found.idf1 == pytest.approx(0.5)
    assert found.assa == pytest.approx(1 / 3)


def test_nothing_found_and_nothing_true_score_nothing() -> None:
    none = np.zeros(0, np.int64)
    one = np.array([1])
    assert track_scores([ScoredFrame(one, none, np.zeros((1, 0)))]).hota == 0
    assert track_scores([ScoredFrame(none, one, np.zeros((0, 1)))]).mota == 0
    assert track_scores([]).idf1 == 0


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(InputError, match="twice"):
        track_scores([ScoredFrame(np.array([1, 1]), np.array([1]), np.zeros((2, 1)))])
    with pytest.raises(InputError, match="alike"):
        track_scores([ScoredFrame(np.array([1]), np.array([1]), np.zeros((2, 1)))])
