"""Which level of a pyramid tells of which boxes: every size by one at least, in pixels of the plane."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geoml import testing
from geoml.io.cards.detection import Detection, FoundClass, Sizes
from geoml.outputs._objects.levels import SHARED, gaps, learnt, levels_of_sizes
from geoml.outputs.objects import Output
from geoml.recipe import PredictRecipe, parse
from geoml.vector.boxes import edges

GSD = 0.5


def card(sizes: Sizes | None = None, **changes: Any) -> Any:
    one = FoundClass(threshold=0.3, chosen="f1", calibration=None, candidates=0, matched=0, truth=0, found=0, hits=0)
    known = Detection(least=0.05, square=9, sizes=sizes, classes={"car": one, "house": one}) if sizes else None
    given_card = {"task": "detection", "chip_size": 96, "radius": 30, "gsd": GSD, "detection": known}
    return testing.card("made", ["red"], ["car", "house"], **{**given_card, **changes})


def output(*factors: int, **changes: Any) -> Output:
    query = {"catalog": "c", "bbox": [0, 0, 1, 1], "datetime": "2024"}
    recipe = parse(PredictRecipe, {"model": "m", "query": query, "pyramid": factors}, "made")
    return Output(card(Sizes(least=4, most=20, seen=30.5), **changes), recipe)


def boxes(longer: list[float], shorter: float = 1.0) -> dict[str, np.ndarray]:
    """Boxes of sides in pixels of a level, at places of it."""
    n = len(longer)
    half = np.array(longer, np.float32) / 2
    place = np.arange(-2, n - 2)
    return {
        "y": place, "x": place * 7, "north": half, "south": half, "west": np.full(n, shorter / 2, np.float32),
        "east": np.full(n, shorter / 2, np.float32), "score": np.full(n, 0.5, np.float32),
        "class": np.ones(n, np.int64), "valid": np.ones(n, np.float32),
    }  # fmt: skip


def test_a_network_knows_what_it_learnt_and_no_more_than_it_sees() -> None:
    assert learnt(card(Sizes(least=4, most=20, seen=30.5))) == (4, 20)
    assert learnt(card(Sizes(least=4, most=99, seen=30.5))) == (4, 30.5)
    assert learnt(card()) == (0, 30.5)
    assert learnt(card(radius=None)) == (0, 48)


CARD = card(Sizes(least=4, most=20, seen=30.5))
factors = st.lists(st.integers(2, 64), max_size=4, unique=True).map(sorted)


@given(factors, st.floats(0.1, 20), st.floats(1, 30), st.floats(0.9, 1.1), st.floats(0.9, 1.1))
def test_no_size_falls_between_two_levels_that_measure_it_differently(
    some: list[int], least: float, times: float, fine: float, coarse: float
) -> None:
    most = least * times
    sizes = CARD.detection.model_copy(update={"sizes": Sizes(least=least, most=most, seen=most)})
    levels = levels_of_sizes(CARD.model_copy(update={"detection": sizes}), some)
    every = list(levels.values())
    assert (every[0].above, every[-1].below) == (0, np.inf), "as a run without a pyramid does"
    for before, after in pairwise(every):
        assert before.above < after.above <= before.below < after.below
        for side in np.linspace(before.above, after.below if np.isfinite(after.below) else 2 * after.above, 50):
            told = [before.above < side * fine <= before.below, after.above < side * coarse <= after.below]
            inside = before.above < side * min(fine, coarse) and side * max(fine, coarse) <= after.below
            assert any(told) or not inside or after.above > SHARED * before.largest  # what lies in a gap is guessed
    alike = [(a.largest, b.smallest) for a, b in pairwise(every) if a.largest < b.smallest]
    assert len(gaps(levels)) == len(alike)


def test_boxes_of_a_level_are_where_and_as_large_as_in_pixels_of_the_plane() -> None:
    made = output(4)
    found = boxes([8.0, 8.5, 30.0, 40.0, 200.0], shorter=5.0)
    told = made.at_level(found, 4)
    assert told["level"].tolist() == [4.0] * 4
    assert found["y"][1:].tolist() == [-1, 0, 1, 2]
    # the middle of pixel k lies at 4 k + 2 of the plane, whose pixels are known by where they begin
    assert (told["y"] + 0.5).tolist() == [-2, 2, 6, 10]
    shape = edges({**told, "y": told["y"] + 0.5, "x": told["x"] + 0.5})
    again = edges({**found, "y": found["y"] + 0.5, "x": found["x"] + 0.5})[1:] * 4
    np.testing.assert_array_equal(shape, again)
    assert told["class"].tolist() == [1] * 4
    assert made.at_level(found, 1)["y"].tolist() == [-2, -1, 0, 1], "40 pixels of 0.5 m are what it learnt"


def test_a_run_says_what_its_levels_know_and_what_none_does() -> None:
    assert output().levels() == []
    assert output(2).levels() == [
        {"factor": 1, "gsd": 0.5, "least_m": 4, "most_m": 20}, {"factor": 2, "gsd": 1, "least_m": 8, "most_m": 40},
    ]  # fmt: skip
    assert output(2, 4).warnings() == []
    (said,) = output(2, 16).warnings()
    assert said.startswith("pyramid: objects of 40 to 64 m lie between what levels 2 and 16 learnt")


@pytest.mark.parametrize("factor", [2, 3, 64])
def test_a_level_owns_its_peaks_by_pixels_of_the_plane(factor: int) -> None:
    """Floors of places lie in the coarse pixel, below zero too, or two blocks would own one."""
    found = boxes([3000.0 / factor] * 9)
    told = output(factor).at_level(found, factor)
    for axis in "yx":
        assert (np.floor(told[axis]) // factor).astype(int).tolist() == found[axis].tolist()
