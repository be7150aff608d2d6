"""Ground is in one fold, every class is learnt from whatever is held out, and all classes and places count alike."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from geoml.engine.learn.folds import Index, folds, weights


@st.composite
def grounds(draw: st.DrawFn) -> tuple[Index, Index]:
    """Class and ground of places; every class lies on two pieces of ground at least."""
    classes, pieces = draw(st.integers(2, 6)), draw(st.integers(2, 12))
    places = [
        (k, g)
        for k in range(classes)
        for g in draw(st.lists(st.integers(0, pieces - 1), min_size=2, max_size=12, unique=draw(st.booleans())))
    ]
    label, ground = (np.array(v) for v in zip(*places, strict=True))
    assume(all(len(np.unique(ground[label == k])) > 1 for k in range(classes)))
    return label, 7 * ground - 3


@given(grounds(), st.integers(2, 10), st.integers(0, 5))
def test_ground_is_whole_and_every_class_is_learnt_from(made: tuple[Index, Index], most: int, seed: int) -> None:
    label, ground = made
    fold = folds(label, ground, most, seed)
    for piece in np.unique(ground):
        assert len(np.unique(fold[ground == piece])) == 1
    assert np.unique(fold).tolist() == list(range(fold.max() + 1))
    assert fold.max() >= 1
    for f in range(fold.max() + 1):
        assert set(label[fold != f]) == set(label)
    np.testing.assert_array_equal(fold, folds(label, ground, most, seed))


@given(grounds(), st.integers(2, 10))
def test_there_are_as_many_as_the_rarest_class_allows(made: tuple[Index, Index], most: int) -> None:
    label, _ = made
    ground = np.arange(len(label))  # each place by itself
    allowed = min(most, np.bincount(label)[np.unique(label)].min())
    fold = folds(label, ground, most, 0)
    assert fold.max() + 1 == allowed
    for k in np.unique(label):
        counts = np.bincount(fold[label == k], minlength=allowed)
        assert np.ptp(counts) <= 1, "classes are spread evenly"


def test_three_classes_on_three_shared_pieces_need_three_folds() -> None:
    label, ground = np.array([0, 0, 1, 1, 2, 2]), np.array([0, 1, 1, 2, 2, 0])
    assert folds(label, ground, 5, 0).max() == 2, "with two of them one class would be held out whole"


def test_seeds_give_other_folds() -> None:
    label, ground = np.repeat([0, 1], 30), np.arange(60)
    assert len({tuple(folds(label, ground, 5, seed)) for seed in range(5)}) == 5


@given(st.integers(0, 99))
def test_all_classes_count_alike_and_in_a_class_all_places(seed: int) -> None:
    random = np.random.default_rng(seed)
    place = np.repeat(np.arange(12), random.integers(1, 30, 12))
    label = (np.arange(12) % 3)[place]
    found = weights(label, place)
    assert found.mean() == pytest.approx(1)
    by_class = np.bincount(label, found)
    np.testing.assert_allclose(by_class, by_class.mean())
    by_place = np.bincount(place, found)
    for k in range(3):
        np.testing.assert_allclose(by_place[k::3], by_place[k])
