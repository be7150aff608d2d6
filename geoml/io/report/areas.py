"""The area of each pixel of a raster, in m² on the WGS 84 ellipsoid."""

from __future__ import annotations

import numpy as np
import rasterio
from rasterio.windows import Window

from geoml.io.report.canvas import Floats, apply_affine, transformer

LATTICE = 17
"""Points along a side of a raster where the area of a pixel is computed; between them it is interpolated."""
_CORNERS = ((-0.5, -0.5), (-0.5, 0.5), (0.5, 0.5), (0.5, -0.5))


class PixelAreas:
    """The areas of the pixels of a raster, from their corners in an equal-area projection."""

    def __init__(self, grid: rasterio.DatasetReader) -> None:
        self._rows, self._cols = (np.linspace(0.5, n - 0.5, min(n, LATTICE)) for n in grid.shape)
        wkt = grid.crs.to_wkt()
        middle = grid.transform @ (grid.width / 2, grid.height / 2)
        lon, lat = (10 * round(v / 10) for v in transformer(wkt, "EPSG:4326").transform(*middle))
        to = transformer(wkt, f"+proj=laea +lat_0={lat} +lon_0={lon} +datum=WGS84 +units=m")
        y, x = np.meshgrid(self._rows, self._cols, indexing="ij")
        corners = [to.transform(*apply_affine(grid.transform, x + dx, y + dy)) for dy, dx in _CORNERS]
        (x0, y0), (x1, y1), (x2, y2), (x3, y3) = corners
        self._area: Floats = np.abs((x2 - x0) * (y3 - y1) - (x3 - x1) * (y2 - y0)) / 2  # from the diagonals

    def of(self, window: Window) -> Floats:
        """(y, x) m² of the pixels of a window."""
        rows, cols = window.toslices()
        areas: Floats = _weights(rows, self._rows) @ self._area @ _weights(cols, self._cols).T
        return areas


def _weights(part: slice, nodes: Floats) -> Floats:
    """(pixels, nodes) weights of the linear interpolation at the middles of the pixels."""
    at_middle = np.arange(part.start, part.stop) + 0.5
    return np.stack([np.interp(at_middle, nodes, one) for one in np.eye(len(nodes))], axis=1)
