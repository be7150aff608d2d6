"""Heights above morphological openings of the lowest points, at several widths: ground is where all of them are small.

An opening of the lowest point per cell takes off what is narrower than its window, as in the filters of Zhang et al.
2003 (https://doi.org/10.1109/TGRS.2003.810682). Cells without a point are left out of minima and maxima, so nothing is
filled in and the height of a point depends on those within twice the half width of the window.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter1d, minimum_filter1d

Ints = NDArray[np.int64]


def heights_above_openings(points: Ints, cell: int, radii: Sequence[int]) -> Ints:
    """(n, radii) mm: heights of ``points`` (n, 3; mm) above the opening by squares of ``2 r + 1`` cells of ``cell`` mm.

    Cells are those of the lattice from the origin of the CRS.
    """
    at = np.floor_divide(points[:, :2], cell)
    at -= at.min(0)
    columns, rows = at.T
    shape = int(rows.max()) + 1, int(columns.max()) + 1
    lowest = np.full(shape, np.inf)
    np.minimum.at(lowest, (rows, columns), points[:, 2].astype(np.float64))
    out = np.empty((len(points), len(radii)), np.int64)
    for k, radius in enumerate(radii):
        pad = np.pad(lowest, radius, constant_values=np.inf)  # windows may be centred where no point lies
        eroded = _both(minimum_filter1d, pad, radius, np.inf)
        eroded[np.isinf(eroded)] = -np.inf
        opened = _both(maximum_filter1d, eroded, radius, -np.inf)[radius:, radius:]
        out[:, k] = points[:, 2] - opened[rows, columns].astype(np.int64)
    return out


def reach(cell: int, radii: Sequence[int]) -> int:
    """mm along x or y from a point to the farthest that may change its heights."""
    return (2 * max(radii, default=0) + 1) * cell


def _both(extreme: object, values: NDArray[np.float64], radius: int, outside: float) -> NDArray[np.float64]:
    for axis in (0, 1):
        values = extreme(values, 2 * radius + 1, axis=axis, mode="constant", cval=outside)  # type: ignore[operator]
    return values
