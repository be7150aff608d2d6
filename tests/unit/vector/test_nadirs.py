"""Each place belongs to one photo, that whose camera stood nearest above it."""

from __future__ import annotations

import numpy as np
import pytest
import shapely

from geoml.errors import InputError
from geoml.vector.nadirs import owner


def test_the_nearest_nadir_of_those_that_show_a_place_owns_it() -> None:
    random = np.random.default_rng(0)
    nadirs = random.uniform(0, 100, (12, 2))
    sides = random.uniform(10, 40, 12)
    outlines = shapely.box(*(nadirs - sides[:, None]).T, *(nadirs + sides[:, None]).T)
    places = random.uniform(-20, 120, (500, 2))
    found = owner(places, nadirs, outlines)
    for place, photo in zip(places, found, strict=True):
        shown = [k for k in range(12) if outlines[k].intersects(shapely.Point(place))]
        best = min(shown, key=lambda k: np.hypot(*(place - nadirs[k])), default=-1)
        assert photo == best


def test_equally_near_is_the_first_and_nothing_is_nothing() -> None:
    outlines = shapely.box([0, 0], [0, 0], [10, 10], [10, 10])
    nadirs = np.array([[4.0, 5.0], [6.0, 5.0]])
    assert owner(np.array([[5.0, 1.0], [50.0, 1.0]]), nadirs, outlines).tolist() == [0, -1]
    assert owner(np.zeros((0, 2)), nadirs, outlines).tolist() == []
    with pytest.raises(InputError, match="nadirs"):
        owner(np.zeros((0, 2)), nadirs, outlines[:1])
