"""The last known value of each pixel and its age: all that is seen of a place between clouds."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


def latest_known(steps: Iterable[tuple[int, Floats, Floats]], shape: tuple[int, int]) -> Floats:
    """(3, y, x): the latest known value, its age in steps, and what was usual then; NaN where nothing is known.

    Args:
        steps: age, (y, x) values, NaN where not known, and (y, x) what is usual at that step; the youngest first. No
            more are asked for once every pixel is known.
        shape: rows and columns.
    """
    found = np.full((3, *shape), np.nan, np.float32)
    for age, values, usual in steps:
        new = np.isnan(found[0]) & np.isfinite(values)
        found[:, new] = np.stack([values[new], np.full(int(new.sum()), age, np.float32), usual[new]])
        if not np.isnan(found[0]).any():
            break
    return found
