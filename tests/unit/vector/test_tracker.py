"""Things that move keep their ids, however finely time is cut, whatever else is near, and after gaps."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from geoml.errors import InputError
from geoml.vector.motion import Motion
from geoml.vector.tracker import Seen, Tracker, nearest


def seen(centre: NDArray[np.float64], sure: bool | list[bool] | NDArray[np.bool_] = True, kind: int = 0) -> Seen:
    """Cars of 4.5 x 2 m."""
    n = len(centre)
    return Seen(centre, np.tile([4.5, 2.0], (n, 1)), np.broadcast_to(sure, n), np.full(n, kind))


def queue(time: float) -> NDArray[np.float64]:
    """Two lanes of six cars, 12 m apart, in opposite directions, and two that stand."""
    east = np.column_stack([np.arange(6) * 12.0 + 9.0 * time, np.zeros(6)])
    west = np.column_stack([60 - np.arange(6) * 12.0 - 7.0 * time, np.full(6, 4.0)])
    return np.concatenate([east, west, [[20.0, 8.0], [27.0, 8.0]]])


@pytest.mark.parametrize("fps", [30, 10, 4, 3, 2])
def test_one_setting_holds_from_thirty_to_two_frames_a_second(fps: int) -> None:
    random = np.random.default_rng(fps)
    tracker, first = Tracker(), None
    for k in range(4 * fps):
        order = random.permutation(14)
        places = queue(k / fps) + random.normal(0, 0.1, (14, 2))
        ids = np.empty(14, np.int64)
        ids[order] = tracker.step(k / fps, seen(places[order]))
        first = ids if first is None else first
        np.testing.assert_array_equal(ids, first)
    assert tracker.count == 14


def test_the_nearest_of_the_frame_before_is_not_enough() -> None:
    """What the tracker above is better than: at two frames a second the queue moves by nearly a car's distance."""
    ids, count = np.zeros(0, np.int64), 0
    before = np.zeros((0, 2))
    for k in range(8):
        places = queue(k / 2 * 1.5)
        ids, count = nearest(before, places, ids, count)
        before = places
    assert count > 14


def test_ids_begin_with_one_in_the_first_frame_and_are_never_negative() -> None:
    tracker = Tracker()
    assert tracker.step(0.0, seen(queue(0))).tolist() == list(range(1, 15))
    assert tracker.step(0.1, seen(np.zeros((0, 2)))).tolist() == []
    assert tracker.step(0.2, seen(queue(0.2))).tolist() == list(range(1, 15))


def test_what_is_not_sure_goes_on_with_a_track_and_begins_none() -> None:
    tracker = Tracker()
    assert tracker.step(0.0, seen(np.array([[0.0, 0], [50, 0]]), [True, False])).tolist() == [1, 0]
    assert tracker.step(0.5, seen(np.array([[5.0, 0], [50, 0]]), [False, False])).tolist() == [1, 0]
    # a sure one has the first choice, though the other is nearer to what is expected
    ids = tracker.step(1.0, seen(np.array([[10.0, 0], [10.8, 0]]), [False, True]))
    assert ids.tolist() == [0, 1]


def test_a_gap_is_bridged_for_so_many_seconds_and_no_longer() -> None:
    for pause, expected in ((1.5, [1]), (2.5, [2])):
        tracker = Tracker(Motion(gap=2.0))
        for k in range(6):
            assert tracker.step(k / 10, seen(np.array([[k * 0.8, 0.0]]))).tolist() == [1]
        time = 0.5 + pause
        assert tracker.step(time, seen(np.array([[time * 8.0, 0.0]]))).tolist() == expected
    assert tracker.waiting.tolist() == [2]  # what is over is not held


def test_size_and_class_tell_two_apart_that_pass() -> None:
    """A lorry and a car at one place in the next moment: each goes on as what it is."""
    tracker = Tracker()
    size = np.array([[12.0, 2.5], [4.0, 1.8]])

    def both(time: float, order: list[int]) -> NDArray[np.int64]:
        centre = np.array([[10.0 * time, 0.0], [30 - 10.0 * time, 0.0]])
        return tracker.step(time, Seen(centre[order], size[order], np.ones(2, bool), np.array([1, 0])[order]))

    assert both(0.0, [0, 1]).tolist() == [1, 2]
    assert both(0.5, [0, 1]).tolist() == [1, 2]
    for time in (1.0, 1.5, 2.0, 2.5):
        assert both(time, [1, 0]).tolist() == [2, 1]


@given(st.integers(0, 10_000))
def test_the_order_of_detections_does_not_matter(seed: int) -> None:
    random = np.random.default_rng(seed)
    places = random.uniform(0, 80, (3, 12, 2))
    sure = random.random((3, 12)) >= 0.5
    order = random.permutation(12)
    one, other = Tracker(), Tracker()
    for k in range(3):
        a = one.step(k / 5, seen(places[k], sure[k]))
        b = np.empty(12, np.int64)
        b[order] = other.step(k / 5, seen(places[k][order], sure[k][order]))
        # the same partition: numbers of new ones follow the order
        pairs = set(zip(a.tolist(), b.tolist(), strict=True))
        assert len(pairs) == len({x for x, _ in pairs}) == len({y for _, y in pairs})


def test_lengths_scale_with_everything() -> None:
    """A tenth of all lengths and of the motion gives the same ids: there is no constant of pixels or of cars."""
    random = np.random.default_rng(1)
    usual, small = Motion(), Motion(wander=Motion.wander / 100, speed=Motion.speed / 10)
    big, tiny = Tracker(usual), Tracker(small)
    for k in range(20):
        places = queue(k / 3) + random.normal(0, 0.3, (14, 2))
        mine = tiny.step(
            k / 3, Seen(places / 10, np.tile([0.45, 0.2], (14, 1)), np.ones(14, bool), np.zeros(14, np.int64))
        )
        np.testing.assert_array_equal(big.step(k / 3, seen(places)), mine)


def test_ten_thousand_things_need_no_square_of_memory() -> None:
    """A satellite's film: of all pairs there would be 100 million."""
    random = np.random.default_rng(0)
    places = np.stack(np.meshgrid(np.arange(100), np.arange(100)), -1).reshape(-1, 2) * 40.0
    step = random.normal(0, 5, places.shape)
    tracker = Tracker()
    first = tracker.step(0.0, seen(places))
    tracemalloc.start()
    second = tracker.step(0.5, seen(places + 0.5 * step))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (first == second).mean() > 0.999
    assert peak < 60e6


@pytest.mark.parametrize("time", [0.0, -1.0, float("nan")])
def test_time_goes_on(time: float) -> None:
    tracker = Tracker()
    tracker.step(0.0, seen(queue(0)))
    with pytest.raises(InputError, match="time:"):
        tracker.step(time, seen(queue(0)))


def test_numbers_that_are_none_are_refused() -> None:
    bad = np.array([[np.nan, 0.0]])
    with pytest.raises(InputError, match="not finite"):
        seen(bad)
    with pytest.raises(InputError, match="size"):
        Seen(np.zeros((1, 2)), np.array([[1.0, 0.0]]), np.ones(1, bool), np.zeros(1, np.int64))
    with pytest.raises(InputError, match="shapes"):
        Seen(np.zeros((1, 2)), np.ones((2, 2)), np.ones(1, bool), np.zeros(1, np.int64))
