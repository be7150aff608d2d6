"""How far the cells of a window are from cells with points, up to a stated distance."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from geoml.cube.clouds.cells import Flags, Floats


def capped(some: Flags, res: float, cap: float) -> Floats:
    """(y, x) metres between cell centres to the nearest cell that is True in ``some`` (y, x), at most ``cap``.

    Exact, so that a window with ``cap`` metres more on every side has the same in its middle as a larger one.
    """
    if not some.any():
        return np.full(some.shape, float(cap))
    nearest = ndimage.distance_transform_edt(~some, return_distances=False, return_indices=True)
    rows, cols = np.ogrid[: some.shape[0], : some.shape[1]]
    squared = (nearest[0] - rows) ** 2 + (nearest[1] - cols) ** 2
    return np.asarray(np.minimum(np.sqrt(squared) * res, cap))
