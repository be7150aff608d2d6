"""How things move and how they are seen, in metres and seconds."""

from __future__ import annotations

from dataclasses import dataclass

SURE = 0.5
"""Confidence from which on a detection is a thing, if not given."""


@dataclass(frozen=True)
class Motion:
    """How things move and how they are seen; the defaults are road traffic from above, and whatever is slower.

    ``wander``: spectral density of the acceleration, m²/s³: a velocity changes by its root in m/s within a second.
    ``speed``: m/s, standard deviation along an axis of what has just come. ``noise``: of centres, a share of the
    thing's size. ``resize``: standard deviation of the logarithm of a side from one look to the next. ``gate``:
    standard deviations beyond which nothing is the same. ``gap``: seconds for which a thing that is not seen is waited
    for.
    """

    wander: float = 4.0
    speed: float = 8.0
    noise: float = 0.1
    resize: float = 0.6
    gate: float = 4.0
    gap: float = 2.0
