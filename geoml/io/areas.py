"""The area of each pixel of a raster, in m² on the WGS 84 ellipsoid."""

from __future__ import annotations

import numpy as np
from affine import Affine
from numpy.typing import NDArray

from geoml.io.georef import apply_affine, transformer

Floats = NDArray[np.float64]

LATTICE = 17
"""Points along a side of a raster where the area of a pixel is computed; between them it is interpolated."""
_CORNERS = ((-0.5, -0.5), (-0.5, 0.5), (0.5, 0.5), (0.5, -0.5))


class PixelAreas:
    """The areas of the pixels of a raster, from their corners in an equal-area projection."""

    def __init__(self, shape: tuple[int, int], grid: Affine, crs: str) -> None:
        self._rows, self._cols = (np.linspace(0.5, n - 0.5, min(n, LATTICE)) for n in shape)
        middle = grid @ (shape[1] / 2, shape[0] / 2)
        lon, lat = (10 * round(v / 10) for v in transformer(crs, "EPSG:4326").transform(*middle))
        to = transformer(crs, f"+proj=laea +lat_0={lat} +lon_0={lon} +datum=WGS84 +units=m")
        y, x = np.meshgrid(self._rows, self._cols, indexing="ij")
        corners = [to.transform(*apply_affine(grid, x + dx, y + dy)) for dy, dx in _CORNERS]
        (x0, y0), (x1, y1), (x2, y2), (x3, y3) = corners
        area: Floats = np.abs((x2 - x0) * (y3 - y1) - (x3 - x1) * (y2 - y0)) / 2  # from the diagonals
        before, after, share = _between(slice(0, shape[1]), self._cols)
        self._area: Floats = area[:, before] + share * (area[:, after] - area[:, before])

    def of(self, rows: slice) -> Floats:
        """(y, x) m² of the pixels of whole rows; those of a row are the same whichever others are asked for."""
        before, after, share = _between(rows, self._rows)
        areas: Floats = self._area[before]
        return areas + share[:, np.newaxis] * (self._area[after] - areas)


def _between(part: slice, nodes: Floats) -> tuple[NDArray[np.intp], NDArray[np.intp], Floats]:
    """Nodes before and after the middles of pixels, and how far the middles are from the first to the second (0..1)."""
    at_middle = np.arange(part.start, part.stop) + 0.5
    before = np.clip(np.searchsorted(nodes, at_middle, "right") - 1, 0, max(len(nodes) - 2, 0))
    after = np.minimum(before + 1, len(nodes) - 1)
    return before, after, (at_middle - nodes[before]) / np.maximum(nodes[after] - nodes[before], 1e-9)
