"""The steps of a cube by number, and intervals of time as ranges of them."""

from __future__ import annotations

import datetime as dt
from collections import Counter

import numpy as np
from numpy.typing import NDArray

from geoml.data.recipe import resolve
from geoml.errors import InputError
from geoml.forecasting.recipe import CubeSource, ForecastRecipe, TimeSplit
from geoml.io.cards.forecast import ForecastTerms
from geoml.io.cubes.cube import Cube, open_cube
from geoml.io.cubes.spec import load_cube_spec

SMALL = 3.0
"""Values up to which fit into 16 bits in steps of a ten-thousandth."""


class CubeFrames:
    """`geoml.forecasting.grids.seen.Frames` of a cube of everyday time and a step of seconds.

    A step has the number of whole steps since 1970.
    """

    def __init__(self, cube: Cube) -> None:
        self.cube, self.seconds = cube, step_seconds(cube)
        ticks = np.asarray(cube.times, "datetime64[s]").astype(np.int64)
        # each may be a little off its place
        self.phase = int(Counter((ticks % self.seconds).tolist()).most_common(1)[0][0])
        self.numbers: NDArray[np.int64] = (ticks - self.phase + self.seconds // 2) // self.seconds
        self._at = {int(n): k for k, n in enumerate(self.numbers)}
        self.shape = cube.shape

    def read(self, number: int) -> NDArray[np.float32] | None:
        """(y, x) of a step; None if it is missing. Raises what `Cube.read` raises."""
        step = self._at.get(number)
        return None if step is None else self.cube.read(step)

    def step(self, number: int) -> int | None:
        """Position in the cube."""
        return self._at.get(number)

    def seconds_of(self, number: int) -> int:
        """Valid time of a step, since 1970."""
        return number * self.seconds + self.phase

    def time(self, number: int) -> dt.datetime:
        """Valid time of a step, in UTC."""
        return dt.datetime.fromtimestamp(self.seconds_of(number), dt.UTC)

    def number(self, time: dt.datetime, *, between: bool = False) -> int:
        """The step at a time, or the last one before it. Raises InputError for a time between two steps, unless that
        is allowed."""
        away = int(time.timestamp()) - self.phase
        if not between and away % self.seconds:
            below = self.time(away // self.seconds)
            raise InputError(
                f"reference-time: {time:%FT%TZ} lies between steps of {self.cube.spec.step}; try {below:%FT%TZ}"
            )
        return away // self.seconds

    def targets(self, split: TimeSplit, part: str) -> frozenset[int]:
        """Steps that are there in a part of a split."""
        return frozenset(int(n) for n in self.numbers if any(a <= self.time(int(n)) <= b for a, b in split.of(part)))

    def references(self, split: TimeSplit, part: str, terms: ForecastTerms, every: int = 1) -> list[int]:
        """Steps that are there at reference times of a part of a split, with the longest lead before the end of all.

        Where the model sees what was last known, those from which some step of the part is foretold.
        """
        if terms.latest:
            mine = self.targets(split, part)
            return [int(n) for n in self.numbers if any(int(n) + k in mine for k in terms.numbers)][::every]
        last = int(self.numbers[-1]) - terms.numbers[-1]
        first = int(self.numbers[0]) + terms.history - 1
        inside = [
            int(n)
            for n in self.numbers
            if first <= n <= last and any(a <= self.time(int(n)) <= b for a, b in split.of(part))
        ]
        return inside[::every]


def step_seconds(cube: Cube) -> int:
    """Of a step. Raises InputError for months, years, and days of another calendar."""
    seconds = cube.spec.duration.seconds
    if not seconds or cube.calendar != "standard":
        raise InputError(
            f"cube: steps of {cube.spec.step} in the calendar {cube.calendar}; grids are forecast in steps of seconds"
            " to days of everyday time"
        )
    return int(seconds)


def resolution_of(cube: Cube) -> float:
    """Of stored values, in the unit: finer for those that are small, such as indices and shares."""
    return 1e-4 if max(map(abs, cube.spec.plausible)) <= SMALL else 0.01


def opened(source: CubeSource) -> Cube:
    """The cube of a recipe. Raises what `open_cube` and `load_cube_spec` raise."""
    return open_cube(resolve(source.path), load_cube_spec(source.cube), source.factor)


def source_of(recipe: ForecastRecipe) -> CubeSource:
    """The cube of a recipe. Raises InputError for another source."""
    if not isinstance(recipe.source, CubeSource):
        raise InputError(f"source: kind {recipe.source.kind}; expected a cube")
    return recipe.source
