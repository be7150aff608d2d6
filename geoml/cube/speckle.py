"""Speckle of radar turned down, over space or over time, in power units.

Speckle multiplies: the more power, the more noise. So means are taken of power (linear), never of decibels, whose mean
is of another quantity and too low.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

Floats = NDArray[np.float32]
FLOOR = 1e-30
"""Of power, so that its logarithm is finite."""


def power(decibels: Floats) -> Floats:
    """Linear power of decibels."""
    found: Floats = np.power(np.float32(10), decibels / 10, dtype=np.float32)
    return found


def decibels(power: Floats) -> Floats:
    """Decibels of linear power."""
    found: Floats = (10 * np.log10(np.maximum(power, FLOOR))).astype(np.float32)
    return found


def boxcar(image: Floats, valid: NDArray[np.bool_], size: int) -> Floats:
    """(..., y, x) mean power of the valid pixels within ``size`` x ``size``; 0 where there is none."""
    image = image * valid
    share, total = (_means(v, size) for v in (np.broadcast_to(valid, image.shape).astype(np.float64), image))
    near = share > 0.5 / size**2  # sums of a running mean leave crumbs where nothing is
    found: Floats = np.divide(total, share, out=np.zeros_like(total), where=near).astype(np.float32)
    return found


def lee(image: Floats, valid: NDArray[np.bool_], size: int = 7, looks: float = 4.0) -> Floats:
    """(..., y, x) power: the mean of ``size`` x ``size`` where that explains what is seen, the pixel where it does not.

    The weight of the pixel is 1 - (1/looks) / (variance / mean²) of its window, so edges stay and flat ground becomes
    flat. Lee 1980, https://doi.org/10.1109/TPAMI.1980.4766994. ``looks`` is the equivalent number of looks. Pixels that
    are not valid take no part and stay as they are.
    """
    mean = boxcar(image, valid, size).astype(np.float64)
    square = boxcar((image.astype(np.float64) ** 2).astype(np.float32), valid, size)
    spread = np.maximum(square - mean**2, 0)
    noise = mean**2 / looks
    signal = np.maximum(spread - noise, 0) / (1 + 1 / looks)
    weight = np.divide(signal, spread, out=np.zeros_like(spread), where=spread > 0)
    found: Floats = np.where(valid, mean + weight * (image - mean), image).astype(np.float32)
    return found


def over_time(series: Floats, valid: NDArray[np.bool_], size: int = 7) -> Floats:
    """(date, y, x) power of one orbit: each date has its own local mean, and the speckle of all dates together.

    Quegan and Yu 2001, https://doi.org/10.1109/36.964973, eq. 5 for uncorrelated dates of equal looks: the mean over
    dates of the ratio to the local mean, times the local mean. A date without data has no part where it has none.
    """
    local = boxcar(series, valid, size).astype(np.float64)
    ratio = np.divide(series, local, out=np.zeros_like(local), where=valid & (local > 0))
    count = (valid & (local > 0)).sum(0)
    common = np.divide(ratio.sum(0), count, out=np.zeros_like(local[0]), where=count > 0)
    found: Floats = np.where(valid, common * local, series).astype(np.float32)
    return found


def _means(image: NDArray[np.floating], size: int) -> NDArray[np.float64]:
    """Mean over windows, what lies outside is 0."""
    around = (1,) * (image.ndim - 2) + (size, size)
    found: NDArray[np.float64] = uniform_filter(image.astype(np.float64), around, mode="constant")
    return found
