"""What a pair asks of card and recipe; how its dates are moved is seen in `tests/e2e/test_change.py`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from geoml import testing
from geoml.cube.harmonise import fit
from geoml.engine.pixels import Pixels
from geoml.errors import InputError
from geoml.grid.plane import Window
from geoml.inputs import dated_pair, mosaic, stacked
from geoml.inputs.dated_pair import Input, harmonised, margin, moved
from geoml.recipe import PredictRecipe, parse


def made(dates: int = 2, **changes: Any) -> Input:
    query = {"catalog": "c", "bbox": [0, 0, 1, 1], "datetime": ["2020", "2022"]}
    recipe = parse(PredictRecipe, {"model": "m", "query": query, **changes}, "made")
    return Input(testing.card("made", ["red"], ("a", "b"), dates=dates), recipe)


def date(data: np.ndarray, count: np.ndarray) -> Pixels:
    return Pixels(data[None], count, (1.0,), (0.0,), Window(0, 0, *data.shape))


def test_pixels_hang_on_a_sample_where_dates_are_registered_or_harmonised() -> None:
    assert made().fits
    assert made(max_shift=0, harmonise="histogram").fits
    assert not made(max_shift=0).fits


def test_the_number_of_dates_is_that_of_what_reads_them() -> None:
    one, three = (testing.card("made", ["red"], ("a", "b"), dates=n) for n in (1, 3))
    with pytest.raises(InputError, match="a task that compares dates has two or more"):
        Input(one)
    with pytest.raises(InputError, match="a task that reads a mosaic has one"):
        mosaic.Input(three)
    assert isinstance(stacked.Input(one), mosaic.Input)
    assert isinstance(stacked.Input(three), dated_pair.Input)


def test_days_are_compared_with_the_earlier_of_two_dates() -> None:
    assert made().reference(["2020", ".."]) == "2020"
    with pytest.raises(InputError, match="takes 2 dates; expected the earlier date to compare each day with"):
        made().reference([".."])
    with pytest.raises(InputError, match="takes 3 dates; monitoring needs one or two"):
        made(dates=3).reference(["2020", "2021", ".."])


def test_a_pixel_needs_both_dates_and_counts_the_fewer_observations() -> None:
    value, counts = np.ones((1, 3), np.uint16), (np.array([[3, 1, 0]], np.uint16), np.array([[2, 4, 5]], np.uint16))
    found = made().together([date(value, c) for c in counts])
    assert found.count.tolist() == [[2, 1, 0]]
    assert found.looks is None
    assert list(made().pictures(found)) == ["before", "preview"]
    assert list(made(dates=3).pictures(made().together([date(value, counts[0])] * 3))) == [
        "before",
        "before1",
        "preview",
    ]


def test_a_date_is_moved_by_a_shift_above_the_limit_alone() -> None:
    random = np.random.default_rng(0)
    ground = random.integers(1, 99, (40, 40)).astype(np.uint16)
    seen = np.ones(ground.shape, np.uint16)
    first, later = date(ground[:, :36], seen[:, :36]), date(ground[:, 2:38], 3 * seen[:, 2:38])
    assert moved([first, later], [(0.0, -2.0)], limit=2.0)[1] is later
    found = moved([first, later], [(0.0, -2.0)], limit=1.0)[1]
    assert found.valid[:, 2:].all()
    assert not found.valid[:, :2].any()
    np.testing.assert_array_equal(found.data[0][found.valid], first.data[0][found.valid])
    assert set(found.count[found.valid]) == {3}
    assert (margin([(0.0, -2.0), None], 1.0), margin([(0.0, -2.0)], 2.0)) == (4, 0)


def test_the_later_date_gets_the_radiometry_of_the_first() -> None:
    random = np.random.default_rng(0)
    ground = random.uniform(1, 99, (60, 60)).astype(np.float32)
    seen = np.ones(ground.shape, np.uint16)
    seen[0, 0] = 0
    first, later = date(ground, seen), date(2 * ground + 5, seen)
    how = fit(first.data.reshape(1, -1).T, later.data.reshape(1, -1).T, "histogram")
    found = harmonised([first, later], [how])[1]
    np.testing.assert_allclose(found.data[0][1:], ground[1:], atol=0.5)
    assert found.data[0, 0, 0] == 0
    assert harmonised([first, later], ())[1] is later
