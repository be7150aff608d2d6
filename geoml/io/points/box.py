"""The bounding box of a header: it decides which windows read a file, so points beyond it are in none of them.

A stale header would else give a block these points or not by how the region is cut.
"""

from __future__ import annotations

import logging
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from geoml.io.stores.hrefs import redact

log = logging.getLogger(__name__)

Bounds = tuple[float, float, float, float]

ROUNDING = 0.1
"""Metres by which points may lie beyond the box, which headers and their tools round."""

_told: set[str] = set()
_lock = Lock()


def touches(box: Bounds, window: Bounds) -> bool:
    """Whether a window (left <= x < right, bottom < y <= top) may have points that `holds` says yes of."""
    left, bottom, right, top = _wider(box)
    return left < window[2] and window[0] <= right and bottom <= window[3] and window[1] < top


def holds(box: Bounds, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(n,) which points are in the box, edges included."""
    left, bottom, right, top = _wider(box)
    return (left <= x) & (x <= right) & (bottom <= y) & (y <= top)


def tell(href: str, beyond: int, count: int) -> None:
    """Say in the log that so many of the points that were read are left out; once in a process for a file."""
    with _lock:
        if not beyond or href in _told:
            return
        _told.add(href)
    log.warning(
        "points: %s: %d of %d points lie beyond the box of its header, which is stale; they are left out",
        *(redact(href), beyond, count),
    )


def _wider(box: Bounds) -> Bounds:
    return box[0] - ROUNDING, box[1] - ROUNDING, box[2] + ROUNDING, box[3] + ROUNDING
