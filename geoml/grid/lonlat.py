"""Where the pixels of a plane lie on Earth."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from geoml.grid.plane import Plane, Window


def lonlat(plane: Plane, window: Window) -> NDArray[np.float32]:
    """(2, y, x) longitude and latitude of the centres of pixels, degrees: of a pixel the same in every window."""
    import pyproj

    x = (np.arange(window.x0, window.x1) + (plane.anchor + 0.5)) * plane.res
    y = -(np.arange(window.y0, window.y1) + (plane.anchor + 0.5)) * plane.res
    to = pyproj.Transformer.from_crs(plane.crs, "EPSG:4326", always_xy=True)
    found: NDArray[np.float32] = np.stack(to.transform(*np.meshgrid(x, y))).astype(np.float32)
    return found
