"""Shaded relief of heights, lit from the north-west, as on topographic maps.

Slopes are those of Horn, Hill shading and the reflectance map, Proceedings of the IEEE 69 (1), 1981,
https://doi.org/10.1109/PROC.1981.11918.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

AZIMUTH, ALTITUDE = 315.0, 45.0
"""Of the light, degrees: clockwise from north, and above the horizon."""


def relief(heights: NDArray[np.floating], res: float, exaggeration: float = 1.0) -> NDArray[np.float32]:
    """(y, x) brightness from 0 (in the shade) to 1 of heights (y, x) with NaN where nothing is known, as there.

    ``res`` is the side of a pixel, in the unit of the heights. A pixel beside nothing takes its own height for that.
    """
    z = np.asarray(heights, np.float64) * exaggeration
    known = np.isfinite(z)
    around = np.pad(z, 1, constant_values=np.nan)
    h, w = z.shape

    def at(dy: int, dx: int) -> NDArray[np.float64]:
        there = around[1 + dy : 1 + dy + h, 1 + dx : 1 + dx + w]
        return np.where(np.isfinite(there), there, z)

    east = at(-1, 1) + 2 * at(0, 1) + at(1, 1)
    west = at(-1, -1) + 2 * at(0, -1) + at(1, -1)
    south = at(1, -1) + 2 * at(1, 0) + at(1, 1)
    north = at(-1, -1) + 2 * at(-1, 0) + at(-1, 1)
    p, q = (east - west) / (8 * res), (north - south) / (8 * res)  # rise towards east and north
    azimuth, altitude = math.radians(AZIMUTH), math.radians(ALTITUDE)
    light = math.sin(azimuth) * math.cos(altitude), math.cos(azimuth) * math.cos(altitude), math.sin(altitude)
    shade = (light[2] - p * light[0] - q * light[1]) / np.sqrt(1 + p * p + q * q)
    return np.where(known, np.clip(shade, 0, 1), np.nan).astype(np.float32)
