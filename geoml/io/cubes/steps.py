"""Steps of a cube: how far frames lie apart, which period each is of, and whether they keep their distance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal

import numpy as np

from geoml.errors import DataError
from geoml.io.cubes.calendars import Calendar, Ticks, iso, month_of, month_start
from geoml.io.tables.durations import StepDuration

Label = Literal["instant", "start", "end", "middle"]

OFF = 0.25
"""Steps. Further off its place a frame could be that of the place before or behind."""


def places(times: Sequence[int] | Ticks, step: StepDuration, calendar: Calendar) -> list[float]:
    """Times in steps from an origin of no meaning."""
    if step.seconds:
        origin = int(times[0]) if len(times) else 0
        return [(int(t) - origin) / step.seconds for t in times]
    return [sum(month_of(int(t), calendar)) / step.months for t in times]


def moved(tick: int, half_steps: int, step: StepDuration, calendar: Calendar) -> int:
    """The tick so many halves of a step later."""
    if step.seconds:
        return tick + half_steps * step.seconds // 2
    month, share = month_of(tick, calendar)
    whole, odd = divmod(half_steps * step.months, 2)
    position = month + share + whole + 0.5 * odd
    month = int(np.floor(position + 1e-9))
    start = month_start(month, calendar)
    return start + round((month_start(month + 1, calendar) - start) * max(position - month, 0.0))


def period(tick: int, label: Label, step: StepDuration, calendar: Calendar) -> tuple[int, int]:
    """First and last tick of the period that ``label`` says ``tick`` to be of."""
    before, after = {"instant": (0, 0), "start": (0, 2), "end": (-2, 0), "middle": (-1, 1)}[label]
    return moved(tick, before, step, calendar), moved(tick, after, step, calendar)


def check_spacing(times: Sequence[int], names: Sequence[str], step: StepDuration, calendar: Calendar) -> None:
    """Refuse frames (in order of time, with what errors call them) that do not lie a whole number of steps apart.

    Frames may be missing, and each may lie a little off its place. Raises DataError, naming the frame, for two of one
    time, and for one that lies half a step off or so far that it could as well be the frame of another place.
    """
    for k in range(1, len(times)):
        if times[k] == times[k - 1]:
            same = sum(t == times[k] for t in times)
            raise DataError(f"{same} frames of {iso(times[k], calendar)}: {names[k - 1]} and {names[k]}; expected one")
    if (found := misfit(times, step, calendar)) is not None:
        raise DataError(f"{names[found[0]]}: {found[1]}")


def misfit(times: Sequence[int], step: StepDuration, calendar: Calendar) -> tuple[int, str] | None:
    """The one of different times, in order, that is most out of step with the others, and why; None if none is."""
    at = np.array(places(times, step, calendar))
    at = at - (Counter(np.round(at % 1, 6)).most_common(1)[0][0] if len(at) else 0.0)
    slots = np.rint(at).astype(np.int64)
    off = at - slots
    taken = Counter(slots.tolist())
    for k in np.argsort(-np.abs(off), kind="stable").tolist():  # the one that is most off is to blame
        slot = int(slots[k])
        other = slot + (1 if off[k] > 0 else -1)
        unsure = abs(off[k]) > OFF and slots[0] <= other <= slots[-1] and other not in taken
        if taken[slot] > 1 or unsure or abs(off[k]) > 0.5 - 1e-6:
            near = "two frames are next to one place" if taken[slot] > 1 else f"{abs(off[k]):.2f} steps off the others"
            return k, (
                f"{iso(times[k], calendar)} is out of step, {near}; expected frames a whole number of steps apart"
            )
    return None


def check_axis(times: Ticks, where: str, step: StepDuration, calendar: Calendar, longest: int | None) -> None:
    """Refuse the time axis of a file that does not rise, or leaps: later times were appended in another unit.

    ``longest`` is the longest leap in steps; None: as many as the axis has. Raises DataError.
    """
    if len(times) < 2:
        return
    rise = np.diff(times)
    if (twice := int((rise == 0).sum())) > 0:
        when = iso(int(times[int(np.argmax(rise == 0))]), calendar)
        raise DataError(f"{where}: time {when} appears twice ({twice} of {len(times)} steps repeat one)")
    if (back := int((rise < 0).sum())) > 0:
        when = iso(int(times[int(np.argmax(rise < 0)) + 1]), calendar)
        raise DataError(f"{where}: times out of order at {when} ({back} of {len(times)} steps go back)")
    leaps = np.diff(places(times, step, calendar))
    limit = max(len(times), 2) if longest is None else longest
    if (k := int(np.argmax(leaps))) >= 0 and leaps[k] > limit:
        raise DataError(
            f"{where}: {leaps[k]:.1f} steps from {iso(int(times[k]), calendar)} to {iso(int(times[k + 1]), calendar)},"
            f" more than {limit}; appended in another unit? If it is a gap, set time.longest_gap"
        )
