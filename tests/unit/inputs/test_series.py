"""Steps put together, their months, and what a reader is told."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from geoml import testing
from geoml.engine.pixels import Pixels
from geoml.errors import InputError
from geoml.grid.plane import Plane, Window
from geoml.inputs.series import Input, month_of
from geoml.recipe import PredictRecipe, parse

WINDOW = Window(0, 0, 2, 3)
PLANE = Plane("EPSG:32621", 10.0)


def step(value: int, seen: list[list[int]], dtype: type = np.uint16, scale: float = 1.0) -> Pixels:
    count = np.array(seen, np.uint16)
    data: NDArray[np.generic] = np.where(count > 0, value, 0)[None].astype(dtype)
    return Pixels(data, count, (scale,), (0.0,), WINDOW, (), PLANE)


STEPS = [
    step(7, [[2, 0, 0], [1, 1, 0]]),
    step(30, [[0, 0, 0], [1, 0, 0]], np.uint8, 0.5),
    step(9, [[1, 0, 1], [0, 0, 0]]),
]


def made(*when: str) -> Input:
    query = {"catalog": "c", "bbox": [0, 0, 1, 1], "datetime": when}
    recipe = parse(PredictRecipe, {"model": "m", "query": query}, "made")
    return Input(testing.card("made", ["red"], ("a", "b"), dates=len(when)), recipe)


@pytest.mark.parametrize(
    ("when", "month"),
    [
        ("2023-01", 0),
        ("2023-12-31", 11),
        ("2023-02-27T12:00:00Z", 1),
        ("2023-12-01/2024-02-29", 0),
        ("2023-03-20/2023-04-30", 3),
    ],
)
def test_the_month_of_a_step_is_that_of_its_middle(when: str, month: int) -> None:
    assert month_of(when) == month


def test_a_step_has_two_ends() -> None:
    for when in ("../2023", "2023/.."):
        with pytest.raises(InputError, match="is open"):
            month_of(when)


def test_a_pixel_is_known_by_any_look_and_counts_its_looks() -> None:
    found = made("2023-01", "2023-05", "2023-12").together(STEPS)
    assert found.count.tolist() == [[2, 0, 1], [2, 1, 0]]
    assert found.looks is not None
    assert found.looks.astype(int).tolist() == [
        [[1, 0, 0], [1, 1, 0]], [[0, 0, 0], [1, 0, 0]], [[1, 0, 1], [0, 0, 0]],
    ]  # fmt: skip
    assert found.months == (0, 4, 11)
    assert found.data.dtype == np.uint16
    assert found.physical()[1].tolist() == [[0, 0, 0], [15, 0, 0]]


def test_the_picture_is_of_the_last_look_in_physical_values() -> None:
    series = made("2023-01", "2023-05", "2023-12")
    (name, picture), *more = series.pictures(series.together(STEPS)).items()
    assert (name, more) == ("preview", [])
    assert picture.data[0].tolist() == [[9, 0, 9], [15, 7, 0]]
    assert (picture.scale, picture.valid.tolist()) == ((1.0,), [[True, False, True], [True, True, False]])
