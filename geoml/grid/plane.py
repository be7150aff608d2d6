"""The pixel plane: integer pixel coordinates anchored to the origin of a CRS.

Row and column of a pixel are the same for every request: ``col = x / res - anchor`` and ``row = -y / res - anchor``.
Blocks, chips and windows are rectangles of this plane, so neighbouring and overlapping runs share their pixels.
"""

from __future__ import annotations

import hashlib
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from geoml.errors import InputError

if TYPE_CHECKING:
    from affine import Affine
    from odc.geo.geobox import GeoBox

MAX_CODE = 24
"""Characters of a CRS in a name; a longer one is known by its hash."""


@dataclass(frozen=True, order=True, slots=True)
class Window:
    """A half-open rectangle of pixels of a plane: rows ``y0 <= row < y1``, columns ``x0 <= col < x1``."""

    y0: int
    x0: int
    y1: int
    x1: int

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns), never negative."""
        return max(0, self.y1 - self.y0), max(0, self.x1 - self.x0)

    @property
    def empty(self) -> bool:
        return self.y1 <= self.y0 or self.x1 <= self.x0

    def intersect(self, other: Window) -> Window:
        return Window(max(self.y0, other.y0), max(self.x0, other.x0), min(self.y1, other.y1), min(self.x1, other.x1))

    def touches(self, other: Window) -> bool:
        """True when the two share at least one pixel."""
        return not self.intersect(other).empty

    def union(self, other: Window) -> Window:
        """The smallest window that holds both."""
        return Window(min(self.y0, other.y0), min(self.x0, other.x0), max(self.y1, other.y1), max(self.x1, other.x1))

    def expand(self, pixels: int) -> Window:
        return Window(self.y0 - pixels, self.x0 - pixels, self.y1 + pixels, self.x1 + pixels)

    def moved(self, rows: int, columns: int) -> Window:
        """The same rectangle so many pixels farther down and right."""
        return Window(self.y0 + rows, self.x0 + columns, self.y1 + rows, self.x1 + columns)

    def coarser(self, factor: int) -> Window:
        """The smallest window, in pixels ``factor`` times as wide, that holds this one."""
        return Window(self.y0 // factor, self.x0 // factor, -(-self.y1 // factor), -(-self.x1 // factor))

    def finer(self, factor: int) -> Window:
        """The same rectangle in pixels of which ``factor`` make one of this window's."""
        return Window(self.y0 * factor, self.x0 * factor, self.y1 * factor, self.x1 * factor)

    def halves(self, stride: int) -> tuple[Window, Window]:
        """Two parts, cut across the longer side at a multiple of ``stride`` from its start."""
        height, width = self.shape
        half = max(1, max(height, width) // 2 // stride) * stride
        if height >= width:
            cut = self.y0 + half
            return Window(self.y0, self.x0, cut, self.x1), Window(cut, self.x0, self.y1, self.x1)
        cut = self.x0 + half
        return Window(self.y0, self.x0, self.y1, cut), Window(self.y0, cut, self.y1, self.x1)

    def slices(self, origin: Window) -> tuple[slice, slice]:
        """This window as slices of an array that holds ``origin`` (which must contain it)."""
        return (slice(self.y0 - origin.y0, self.y1 - origin.y0), slice(self.x0 - origin.x0, self.x1 - origin.x0))


@dataclass(frozen=True, order=True, slots=True)
class Plane:
    """All pixels of one CRS at one resolution.

    ``res`` is in units of the CRS (metres, or degrees for a geographic CRS). ``anchor`` is 0.0 when pixel
    edges fall on multiples of ``res`` (Sentinel-2) and 0.5 when pixel centres do (Landsat).
    """

    crs: str
    res: float
    anchor: float = 0.0

    def __post_init__(self) -> None:
        if not (self.res > 0 and math.isfinite(self.res)):
            raise InputError(f"res: {self.res} is not a pixel size; expected a positive number")
        if self.anchor not in (0.0, 0.5):
            raise InputError(f"anchor: {self.anchor}; expected 0.0 (pixel edges on multiples) or 0.5 (pixel centres)")

    @property
    def code(self) -> str:
        """A short name for ids, such as ``32621-30`` or ``32621-30c`` (pixel centres on multiples)."""
        crs = re.sub(r"[^A-Za-z0-9]+", "", self.crs.upper().removeprefix("EPSG:"))
        if len(crs) > MAX_CODE:  # WKT or a PROJ string
            crs = f"CRS{hashlib.sha256(self.crs.encode()).hexdigest()[:12]}"
        return f"{crs}-{self.res:.10g}" + ("c" if self.anchor else "")

    def transform(self, window: Window) -> Affine:
        """From pixels (column, row) of the window to coordinates of the CRS."""
        from affine import Affine

        x, y = (window.x0 + self.anchor) * self.res, -(window.y0 + self.anchor) * self.res
        return Affine(self.res, 0.0, x, 0.0, -self.res, y)

    def geobox(self, window: Window) -> GeoBox:
        """The window as an odc-geo ``GeoBox``."""
        from odc.geo.geobox import GeoBox  # dask and all that, which numbers of blocks do without

        return GeoBox(window.shape, self.transform(window), self.crs)

    def bounds(self, window: Window) -> tuple[float, float, float, float]:
        """(left, bottom, right, top) of the window in units of the CRS."""
        r, a = self.res, self.anchor
        return (window.x0 + a) * r, -(window.y1 + a) * r, (window.x1 + a) * r, -(window.y0 + a) * r

    def pixel(self, x: float, y: float) -> Window:
        """The one pixel that holds a point, given in units of the CRS: on an edge the one right of it or below."""
        tiny = 1e-6  # of a pixel: what projecting there and back makes of an edge
        row, col = math.floor(-y / self.res - self.anchor + tiny), math.floor(x / self.res - self.anchor + tiny)
        return Window(row, col, row + 1, col + 1)

    def window(self, left: float, bottom: float, right: float, top: float) -> Window:
        """The smallest window that covers the bounds, given in units of the CRS."""
        r, a, tiny = self.res, self.anchor, 1e-6
        return Window(
            math.floor(-top / r - a + tiny),
            math.floor(left / r - a + tiny),
            math.ceil(-bottom / r - a - tiny),
            math.ceil(right / r - a - tiny),
        )


@dataclass(frozen=True, order=True, slots=True)
class Block:
    """The unit of distribution, retry and resume: block (``iy``, ``ix``) of ``size`` x ``size`` pixels of a plane."""

    plane: Plane
    size: int
    iy: int
    ix: int

    @property
    def id(self) -> str:
        """Stable name of the block, e.g. ``32621-30c_2048_y-46_x11``; also the id of its STAC item."""
        return f"{self.plane.code}_{self.size}_y{self.iy}_x{self.ix}"

    @property
    def window(self) -> Window:
        s = self.size
        return Window(self.iy * s, self.ix * s, (self.iy + 1) * s, (self.ix + 1) * s)

    @property
    def geobox(self) -> GeoBox:
        return self.plane.geobox(self.window)


def blocks_touching(plane: Plane, size: int, window: Window) -> list[Block]:
    """Every block of the plane that shares a pixel with ``window``, row by row."""
    if size < 1:
        raise InputError(f"block_size: {size}; expected a positive number of pixels")
    if window.empty:
        return []
    rows = range(window.y0 // size, -(-window.y1 // size))
    cols = range(window.x0 // size, -(-window.x1 // size))
    return [Block(plane, size, iy, ix) for iy in rows for ix in cols]
