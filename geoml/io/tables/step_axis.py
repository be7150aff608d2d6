"""An axis of equal steps, of seconds or of the calendar."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from geoml.errors import InputError
from geoml.io.tables.durations import DAY, StepDuration, zone_of

OFF = 0.1
"""Share of a step that a time may be off its axis."""


@dataclass(frozen=True)
class StepAxis:
    """Steps by number. Those of days and months begin at midnight in ``zone``; ``phase`` is what others are off the
    epoch, seconds. With the label ``start`` a time is that of the start of what it is the mean or sum of."""

    step: StepDuration
    zone: str = "UTC"
    label: str = "end"
    phase: int = 0

    @property
    def days(self) -> int:
        """Whole days of a step, 0 for one of hours or of months."""
        return 0 if self.step.months or self.step.seconds % DAY else self.step.seconds // DAY

    def number(self, times: pd.DatetimeIndex) -> tuple[NDArray[np.int64], int]:
        """The step of each time (UTC), and how many are off the axis by more than `OFF` of a step."""
        if self.step.months or self.days:
            local = times.tz_convert(zone_of(self.zone))
            if self.step.months:
                return ((local.year * 12 + local.month - 1) // self.step.months).to_numpy(np.int64), 0
            naive = local.tz_localize(None).normalize()
            return (_seconds(naive) // DAY) // self.days, 0
        seconds = _seconds(times) - self.phase
        size = self.step.seconds
        near = (seconds + size // 2) // size
        return near, int((np.abs(seconds - near * size) > OFF * size).sum())

    def time(self, number: NDArray[np.int64]) -> pd.DatetimeIndex:
        """The times (UTC) from which on what belongs to steps may be known: of the label ``start`` the ends."""
        at = np.asarray(number, np.int64) + (self.label == "start")
        if self.step.months:
            months = at * self.step.months
            naive = pd.DatetimeIndex((months - 1970 * 12).astype("datetime64[M]").astype("datetime64[s]"))
        elif self.days:
            naive = pd.DatetimeIndex((at * self.days).astype("datetime64[D]").astype("datetime64[s]"))
        else:
            return pd.DatetimeIndex((at * self.step.seconds + self.phase).astype("datetime64[s]"), tz="UTC")
        ambiguous = np.ones(len(naive), bool)
        local = naive.tz_localize(zone_of(self.zone), ambiguous=ambiguous, nonexistent="shift_forward")
        return local.tz_convert("UTC")

    def last_known(self, reference: pd.Timestamp) -> int:
        """The newest step that may be known at a time. Raises InputError for a time between two steps."""
        guess = int(self.number(pd.DatetimeIndex([reference]))[0][0])
        near = np.arange(guess - 2, guess + 3)
        times = self.time(near)
        if reference not in times:
            shown = [t.isoformat().replace("+00:00", "Z") for t in times]
            before = max((s for s, t in zip(shown, times, strict=True) if t < reference), default=shown[0])
            raise InputError(
                f"reference-time: {reference.isoformat()}; lies between steps of {self.step}, try {before}"
            )
        return int(near[list(times).index(reference)])


def _seconds(times: pd.DatetimeIndex) -> NDArray[np.int64]:
    naive = times.tz_convert("UTC").tz_localize(None) if times.tz is not None else times
    return naive.to_numpy("datetime64[s]").astype(np.int64)
