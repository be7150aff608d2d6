"""A cube as a forecast sees it: steps by number, motion at each, channels and targets of windows.

The same channels as those of a run, see `geoml.inputs.forecast`, made here of frames in memory for training and scores.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from geoml.cube.harmonics import at_time
from geoml.cube.latest import latest_known
from geoml.cube.motion import MotionField, fit_motion, moved, paths
from geoml.errors import NothingFound
from geoml.grid.plane import Window
from geoml.io.cards.forecast import ForecastTerms

Floats = NDArray[np.float32]

KEPT = 2**30
"""Bytes of frames in memory."""


class Frames(Protocol):
    """Steps of a grid by number, one step apart; physical values, NaN where nothing is known."""

    numbers: NDArray[np.int64]
    shape: tuple[int, int]

    def read(self, number: int) -> Floats | None:
        """(y, x) of a step; None if it is missing. Raises DataError for one that cannot be read."""
        ...

    def seconds_of(self, number: int) -> int:
        """Valid time of a step, since 1970."""
        ...


@dataclass(eq=False)
class SeenCube:
    """Channels (before they are normalised) and targets of windows of a cube.

    ``mean`` and ``std`` are those of the values as the model sees them.
    """

    frames: Frames
    terms: ForecastTerms
    mean: float = 0.0
    std: float = 1.0
    climatology: Floats | None = None
    """(feature, y, x) weights of `geoml.cube.harmonics` of the values as the model sees them."""
    wanted: frozenset[int] | None = None
    """Steps that may be foretold; None: all. Others are not known as targets."""
    _kept: OrderedDict[int, Floats | None] = field(default_factory=OrderedDict)
    _motions: dict[int, MotionField | None] = field(default_factory=dict)

    @property
    def whole(self) -> Window:
        return Window(0, 0, *self.frames.shape)

    def frame(self, number: int) -> Floats:
        """Physical values of a step; NaN everywhere where it is missing."""
        if number not in self._kept:
            self._kept[number] = self.frames.read(number)
            while sum(f.nbytes for f in self._kept.values() if f is not None) > KEPT and len(self._kept) > 1:
                self._kept.popitem(last=False)
        self._kept.move_to_end(number)
        found = self._kept[number]
        return np.full(self.frames.shape, np.nan, np.float32) if found is None else found

    def transformed(self, values: Floats) -> Floats:
        """As the model sees them, not normalised."""
        if self.terms.transform == "log":
            return np.log2(1 + np.maximum(values, 0) / np.float32(self.terms.faint))
        return values

    def physical(self, values: Floats) -> Floats:
        """Back in the unit."""
        if self.terms.transform == "log":
            with np.errstate(invalid="ignore", over="ignore"):  # what is unknown, and what no threshold needs to know
                values = np.float32(self.terms.faint) * (np.exp2(values) - 1)
        return values if self.terms.floor is None else np.maximum(values, np.float32(self.terms.floor))

    def history(self, at: int) -> range:
        return range(at - self.terms.history + 1, at + 1)

    def motion(self, at: int) -> MotionField | None:
        """Of the history up to a step; None if no two neighbours are known."""
        if at not in self._motions:
            try:
                self._motions[at] = fit_motion(np.stack([self.frame(n) for n in self.history(at)]), self.terms.faint)
            except NothingFound:
                self._motions[at] = None
        return self._motions[at]

    def advected(self, at: int, window: Window, numbers: tuple[int, ...]) -> Floats:
        """(lead, y, x) physical values of the last step as it moves on, NaN where they come from nowhere."""
        motion = self.motion(at)
        if motion is None:
            return np.full((len(numbers), *window.shape), np.nan, np.float32)
        around = window.expand(math.ceil(motion.fastest * numbers[-1]) + 2).intersect(self.whole)
        frame = self.frame(at)[around.slices(self.whole)]
        steps = enumerate(paths(motion, window, numbers[-1]), 1)
        return np.stack([moved(frame, around, back, window) for n, back in steps if n in numbers])

    def channels(self, at: int, window: Window) -> tuple[Floats, NDArray[np.bool_]]:
        """(channel, y, x) normalised, 0 where nothing is known, and where something is."""
        part = window.slices(self.whole)
        if self.terms.latest:
            value, age, past = (a[part] for a in self.latest(at))
            steps = [value, age * np.float32(self.std) + np.float32(self.mean)]  # which is taken back below
        else:
            steps, past = [self.transformed(self.frame(n)[part]) for n in self.history(at)], None
        if self.terms.background is not None:
            steps += [self.usual(n)[part] for n in self.history(at)] if past is None else [past]
            steps += [self.usual(at + n)[part] for n in self.terms.numbers]
        if self.terms.advected:
            steps += list(self.transformed(self.advected(at, window, self.terms.numbers)))
        values = np.stack(steps)
        known = np.isfinite(values)
        return np.where(known, self.normalised(values), np.float32(0)), known

    def latest(self, at: int) -> Floats:
        """(3, y, x) of all of the grid: as `geoml.cube.latest.latest_known` has it, values as the model sees them."""
        none = np.full(self.frames.shape, np.nan, np.float32)
        there = (n for n in reversed(self.history(at)) if n in self._there)
        usual = self.usual if self.terms.background is not None else lambda n: none
        return latest_known(((at - n, self.transformed(self.frame(n)), usual(n)) for n in there), self.frames.shape)

    @cached_property
    def _there(self) -> frozenset[int]:
        return frozenset(int(n) for n in self.frames.numbers)

    def usual(self, number: int) -> Floats:
        """(y, x) climatology of a step, as the model sees it."""
        said = self.terms.background
        assert said is not None
        assert self.climatology is not None
        return at_time(self.climatology, self.frames.seconds_of(number), said.annual, said.diurnal)

    def normalised(self, values: Floats) -> Floats:
        return (values - np.float32(self.mean)) / np.float32(self.std)

    def truth(self, at: int, window: Window) -> Floats:
        """(lead, y, x) physical values of the leads, NaN where nothing is known."""
        part = window.slices(self.whole)
        wanted = self.wanted
        return np.stack(
            [
                self.frame(n)[part] if wanted is None or n in wanted else np.full(window.shape, np.nan, np.float32)
                for n in (at + k for k in self.terms.numbers)
            ]
        )

    def target(self, at: int, window: Window) -> Floats:
        """(lead, y, x) normalised, NaN where nothing is known."""
        return self.normalised(self.transformed(self.truth(at, window)))

    def measure(self, numbers: NDArray[np.int64]) -> None:
        """Take mean and deviation of what the model sees in these steps. Raises NothingFound without a value."""
        total = square = count = 0.0
        for n in numbers:
            values = self.transformed(self.frame(int(n)))
            values = values[np.isfinite(values)].astype(np.float64)
            total, square, count = total + float(values.sum()), square + float((values**2).sum()), count + len(values)
        if not count:
            raise NothingFound(f"{self.terms.variable}: no value in the {len(numbers)} steps that are fitted on")
        self.mean = total / count
        self.std = max(math.sqrt(max(square / count - self.mean**2, 0.0)), 1e-6)
