"""Speeds of what was followed: from a fit over so many seconds, and how sure they are.

Positions of one thing come one by one; each gets its velocity as soon as what comes after it is known. The line is
fitted by least squares over `WINDOW` seconds around a position, over `LEAST` at least, and reaches its neighbours where
frames are rarer. The standard deviation comes from that of the centres, which is how far they lie off such lines.
Errors drift, those of boxes as those of places of frames: what lies less than `TIED` seconds apart is one witness.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

WINDOW = 0.4
"""Seconds around a position over which its speed is fitted."""
LEAST = 0.3
"""Seconds that a fit spans at least: of two frames at 30 a second, speeds are noise."""
TIED = 0.3
"""Seconds within which errors of centres are one: of parked cars in a film of 30 frames a second they are."""
MOVING = 2.0
"""Standard deviations of its speed by which a thing is faster than one that stands."""
BEFORE = 4.0
"""Degrees of freedom that what is known of other things counts."""


@dataclass(slots=True)
class Scatter:
    """How far centres lie off lines, in shares of the size of things: ``squares`` of ``free`` degrees of freedom."""

    squares: float = 0.0
    free: float = 0.0

    def add(self, squares: float, free: float) -> None:
        self.squares += squares
        self.free += free

    def variance(self, expected: float) -> float:
        """Of a coordinate; ``expected`` is what is thought without this."""
        return (BEFORE * expected + self.squares) / (BEFORE + self.free)


@dataclass(frozen=True, slots=True)
class Velocity:
    """``x``, ``y`` in m/s and ``sd``, their standard deviation along any axis; NaN where nothing can be said."""

    x: float = math.nan
    y: float = math.nan
    sd: float = math.nan

    @property
    def speed(self) -> float:
        """m/s."""
        return math.hypot(self.x, self.y)

    @property
    def moving(self) -> bool:
        """Whether it is sure that the thing does not stand."""
        return self.speed > MOVING * self.sd

    @property
    def heading(self) -> float:
        """Degrees from the y axis (north) to the x axis (east), 0 to 360."""
        return math.degrees(math.atan2(self.x, self.y)) % 360


@dataclass(slots=True)
class Path:
    """The last positions of one thing, as far as speeds still hang on them.

    ``all`` is the scatter of all things together, ``noise`` the share of the size that centres are thought to be off.
    """

    all: Scatter
    noise: float
    own: Scatter = field(default_factory=Scatter)
    _times: deque[float] = field(default_factory=deque)
    _places: deque[tuple[float, float]] = field(default_factory=deque)
    _areas: deque[float] = field(default_factory=deque)
    _next: int = 0
    """Index of the first position without a velocity."""

    def add(self, time: float, x: float, y: float, area: float) -> list[Velocity]:
        """Take the next position (seconds, metres, m²); the velocities that are now known, oldest first."""
        self._times.append(time)
        self._places.append((x, y))
        self._areas.append(area)
        return list(self._known(ended=False))

    def end(self) -> list[Velocity]:
        """The velocities of the positions that are left, when none is to come."""
        return list(self._known(ended=True))

    def _known(self, ended: bool) -> Iterator[Velocity]:
        times, last = self._times, self._times[-1]
        while self._next < len(times):
            here = times[self._next]
            late = last >= here + WINDOW / 2 and self._next + 1 < len(times)
            if not (ended or (late and (last - times[0] >= LEAST))):
                return
            first, after = self._around(self._next)
            yield self._fitted(first, after)
            self._next += 1
            while self._next > 1 and times[1] <= times[min(self._next, len(times) - 1)] - LEAST:
                self._times.popleft()
                self._places.popleft()
                self._areas.popleft()
                self._next -= 1

    def _around(self, at: int) -> tuple[int, int]:
        """The first position of a fit and the one after its last."""
        times, here = self._times, self._times[at]
        first = after = at
        while first > 0 and (first == at or times[first - 1] >= here - WINDOW / 2 - 1e-9):
            first -= 1
        while after < len(times) and (after <= at + 1 or times[after] <= here + WINDOW / 2 + 1e-9):
            after += 1
        while times[after - 1] - times[first] < LEAST - 1e-9 and (first > 0 or after < len(times)):
            left = here - times[first - 1] if first > 0 else math.inf
            right = times[after] - here if after < len(times) else math.inf
            first, after = (first - 1, after) if left < right else (first, after + 1)
        return first, after

    def _fitted(self, first: int, after: int) -> Velocity:
        time = [self._times[k] for k in range(first, after)]
        count = len(time)
        if count < 2 or time[-1] - time[0] < LEAST - 1e-9:
            return Velocity()
        place = [self._places[k] for k in range(first, after)]  # a dozen numbers: arrays would cost more than they save
        area = sum(self._areas[k] for k in range(first, after)) / count
        middle = sum(time) / count, sum(p[0] for p in place) / count, sum(p[1] for p in place) / count
        off = [(t - middle[0], p[0] - middle[1], p[1] - middle[2]) for t, p in zip(time, place, strict=True)]
        total = sum(t * t for t, _, _ in off)
        x, y = sum(t * a for t, a, _ in off) / total, sum(t * b for t, _, b in off) / total
        squares = sum((a - t * x) ** 2 + (b - t * y) ** 2 for t, a, b in off) / area
        for scatter in (self.own, self.all):
            scatter.add(squares, 2.0 * (count - 2))
        share = self.own.variance(self.all.variance(self.noise**2))
        tied = max(1.0, count / (1 + (time[-1] - time[0]) / TIED))
        return Velocity(x, y, math.sqrt(share * area * tied / total))
