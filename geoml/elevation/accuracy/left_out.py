"""Accuracy of a terrain between its points: some are left out, at random and as whole squares, and predicted.

Points left out at random have neighbours of the same scan line, and flatter by a factor of two to four; squares say
what a gap costs. Both are drawn by a hash of places, so neither the order of points nor the extent of a cloud counts.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from geoml.cube.clouds.cells import cell_of
from geoml.cube.clouds.surfaces import SurfaceOptions, terrain
from geoml.cube.clouds.tin import place_hash
from geoml.elevation.accuracy.bilinear import between
from geoml.elevation.accuracy.height_errors import squares, summary
from geoml.grid.plane import Plane
from geoml.io.points.cloud import Cloud

Floats = NDArray[np.float64]

SIDE: Final = 10.0
"""Metres of a square that is left out."""
EVERY: Final = 10


def left_out(cloud: Cloud, ground: NDArray[np.bool_], plane: Plane, options: SurfaceOptions) -> dict[str, Any]:
    """``random`` and ``squares``: errors of the terrain at one in `EVERY` ground points, which it did not see.

    ``ground`` (n,) tells those of ``cloud``. Plain data, see `summary`; ``complete`` is the share with a value.
    """
    points = cloud.take(ground)
    exact = np.rint(points.x * 1000).astype(np.int64), np.rint(points.y * 1000).astype(np.int64)
    square = np.floor(points.x / SIDE).astype(np.int64), np.floor(points.y / SIDE).astype(np.int64)
    return {
        kind: _errors(points, place_hash(*key) % np.uint64(EVERY) == 0, plane, options)
        for kind, key in (("random", exact), ("squares", square))
    }


def _errors(points: Cloud, hidden: NDArray[np.bool_], plane: Plane, options: SurfaceOptions) -> dict[str, Any]:
    seen, asked = points.take(~hidden), points.take(hidden)
    if not len(seen) or not len(asked):
        return {"n": 0, "complete": 0.0}
    window = plane.window(points.x.min(), points.y.min(), points.x.max(), points.y.max()).expand(2)
    # what was left out was measured: it is not a void
    wide = SurfaceOptions(options.reach, options.void + SIDE, options.farthest)
    found = terrain(seen, np.ones(len(seen), bool), cell_of(plane, window, seen.x, seen.y), plane, window, wide)
    error = between(plane, asked.x, asked.y, lambda r, c: found[r - window.y0, c - window.x0]).value - asked.z
    known = np.isfinite(error)
    return {**summary(error[known], squares(asked.x, asked.y)[known]), "complete": float(known.mean())}
