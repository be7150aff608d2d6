"""A coarse surface that bounds what is searched: heights on a lattice of degrees, bilinear between its places."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from geoml.io.rpc import Floats


@dataclass(frozen=True, eq=False)
class CoarseSurface:
    """``heights`` (y, x) float64 in metres above the ellipsoid, NaN where unknown; (0, 0) lies at ``west``, ``north``
    degrees and places are ``step`` degrees apart. A `geoml.cube.stereo.pair.Surface`."""

    heights: Floats
    west: float
    north: float
    step: float

    def __call__(self, lon: Floats, lat: Floats) -> Floats:
        """(n,) heights at degrees (n,); NaN beyond the lattice and beside what is unknown."""
        x, y = (lon - self.west) / self.step, (self.north - lat) / self.step
        rows, columns = self.heights.shape
        inside = (x >= 0) & (x <= columns - 1) & (y >= 0) & (y <= rows - 1)
        x0 = np.clip(np.floor(np.where(inside, x, 0)).astype(int), 0, max(0, columns - 2))
        y0 = np.clip(np.floor(np.where(inside, y, 0)).astype(int), 0, max(0, rows - 2))
        fx, fy = x - x0, y - y0
        x1, y1 = np.minimum(x0 + 1, columns - 1), np.minimum(y0 + 1, rows - 1)
        top = self.heights[y0, x0] * (1 - fx) + self.heights[y0, x1] * fx
        low = self.heights[y1, x0] * (1 - fx) + self.heights[y1, x1] * fx
        return np.where(inside, top * (1 - fy) + low * fy, np.nan)
