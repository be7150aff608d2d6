"""Channels of the raw output of a detector: one for each class, and what tells of a box and its mask."""

from __future__ import annotations

from geoml.errors import InputError
from geoml.vector.masks import WORDS

SIDES, TURN = 4, 2
"""Distances to the sides of a box, and cosine and sine of twice the angle of an oriented one."""


def kinds(channels: int, *, oriented: bool = False, masks: bool = False) -> int:
    """Classes of objects that so many ``channels`` have room for. Raises InputError if there is none."""
    box = SIDES + TURN * oriented + WORDS * masks
    if channels <= box:
        raise InputError(f"classes: {channels} channels; expected one or more, and {box} of a box")
    return channels - box
