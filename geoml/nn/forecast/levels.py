"""Levels of quantiles."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from geoml.errors import InputError

LEVELS = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)
"""The median, and the ends of the intervals of 50, 80 and 90 %."""


def check_levels(levels: Sequence[float]) -> None:
    """Raises InputError for levels that do not rise between 0 and 1, have no 0.5, or are not symmetric about it."""
    rising = all(a < b for a, b in pairwise(levels))
    mirrored = all(abs(a + b - 1) < 1e-9 for a, b in zip(levels, reversed(levels), strict=True))
    if not (levels and rising and mirrored and len(levels) % 2 and levels[0] > 0 and levels[-1] < 1):
        raise InputError(
            f"levels: {list(levels)}; expected some that rise from above 0 to below 1, symmetric about 0.5"
        )
