"""What was last known of each pixel: the youngest known value, its age, and what was usual then."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from geoml.cube.latest import latest_known

Floats = NDArray[np.float32]


@given(st.lists(st.lists(st.sampled_from([1.0, 2.0, np.nan]), min_size=4, max_size=4), max_size=6))
def test_it_is_what_a_loop_over_pixels_finds(steps: list[list[float]]) -> None:
    frames = [np.array(step, np.float32).reshape(2, 2) for step in steps]
    asked: list[int] = []

    def given_steps() -> Iterator[tuple[int, Floats, Floats]]:
        for age, frame in enumerate(frames):
            asked.append(age)
            yield age, frame, np.full((2, 2), 10 + age, np.float32)

    found = latest_known(given_steps(), (2, 2))
    for place in np.ndindex(2, 2):
        age = next((n for n, frame in enumerate(frames) if np.isfinite(frame[place])), None)
        if age is None:
            assert np.isnan(found[:, *place]).all()
        else:
            assert found[:, *place].tolist() == [frames[age][place], age, 10 + age]
    if np.isfinite(found[0]).all():
        assert len(asked) == int(found[1].max()) + 1, "no more is read than has to be"
