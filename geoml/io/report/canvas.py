"""The sheet of a report's maps: one small grid for the blocks of all zones, with a scale, north and degrees."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pyproj
import shapely
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.features import rasterize
from shapely.geometry.base import BaseGeometry

from geoml.grid.ellipsoid import WGS84
from geoml.grid.plane import Plane
from geoml.io.georef import apply_affine, edge_points, transformer

SIDE = 1400
"""Pixels of the longer side, at most."""

Slices = tuple[slice, slice]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Tick:
    """A label at ``at`` (0..1) along an edge of the sheet."""

    at: float
    text: str


@dataclass(frozen=True)
class Canvas:
    """The grid of a report's maps, in a CRS that nearly keeps lengths."""

    box: GeoBox
    wkt: str
    step: float
    """Pixels of the run along a side of a pixel here, one or more."""

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        return int(self.box.shape[0]), int(self.box.shape[1])

    def part(self, grid: Affine, shape: tuple[int, int], crs: str) -> Slices | None:
        """Rows and columns of the sheet that another grid may cover; None when there are none."""
        x, y = transformer(crs, self.wkt).transform(*apply_affine(grid, *edge_points(shape, 33)))
        cols, rows = apply_affine(~self.box.affine, np.asarray(x), np.asarray(y))
        if not (np.isfinite(cols).all() and np.isfinite(rows).all()):
            return None
        y0, y1 = max(math.floor(rows.min()) - 1, 0), min(math.ceil(rows.max()) + 1, self.shape[0])
        x0, x1 = max(math.floor(cols.min()) - 1, 0), min(math.ceil(cols.max()) + 1, self.shape[1])
        return (slice(y0, y1), slice(x0, x1)) if y0 < y1 and x0 < x1 else None

    def places(self, part: Slices, grid: Affine, crs: str) -> tuple[Floats, Floats]:
        """Column and row in another grid of the middle of each pixel of a part of the sheet; infinite where undefined.

        One exact transformation serves all layers of a block; a warp of each would cost far more than the pixels.
        """
        rows, cols = part
        y, x = np.mgrid[rows.start : rows.stop, cols.start : cols.stop] + 0.5
        east, north = apply_affine(self.box.affine, x, y)
        if crs != self.wkt:
            east, north = transformer(self.wkt, crs).transform(east, north)
        return apply_affine(~grid, east, north)

    def mask(self, outlines: Sequence[BaseGeometry]) -> NDArray[np.bool_]:
        """(y, x) True inside outlines that are given in degrees."""
        if not outlines:
            return np.zeros(self.shape, bool)
        to = transformer("EPSG:4326", self.wkt).transform
        shapes = list(shapely.transform(np.asarray(outlines, object), to, interleaved=False))
        burnt = rasterize(shapes, self.shape, transform=self.box.affine, default_value=1, dtype="uint8")
        return np.asarray(burnt, bool)

    def scale_bar(self) -> tuple[float, str]:
        """(share of the width, length as text) of a round length, measured on the ellipsoid along the middle row."""
        h, w = self.shape
        lon, lat = self._degrees(np.array([w * 0.4, w * 0.6]), np.array([h / 2, h / 2]))
        width = WGS84.line_length(lon, lat) * 5
        power = 10.0 ** math.floor(math.log10(width * 0.4))
        length = max(power * k for k in (1, 2, 5) if power * k <= width * 0.4)
        text = f"{length / 1000:,.10g} km" if length >= 1000 else f"{length:.10g} m"
        return length / width, text

    def north(self) -> float:
        """Degrees clockwise from up to north, in the middle."""
        h, w = self.shape
        lon, lat = self._degrees(np.array([w / 2]), np.array([h / 2]))
        to = transformer("EPSG:4326", self.wkt)
        x, y = to.transform([lon[0], lon[0]], [lat[0] - 1e-3, min(lat[0] + 1e-3, 90.0)])
        return round(math.degrees(math.atan2(x[1] - x[0], y[1] - y[0])), 1) + 0.0

    def ticks(self) -> tuple[list[Tick], list[Tick]]:
        """Longitudes along the bottom edge and latitudes along the left edge, at round values."""
        h, w = self.shape
        along = np.linspace(0, 1, 201)
        lon, _ = self._degrees(along * w, np.full(201, float(h)))
        _, lat = self._degrees(np.zeros(201), along * h)
        return _ticks(np.unwrap(lon, period=360), along, "EW"), _ticks(lat, along, "NS")

    def extent(self) -> str:
        """Degrees of the edges, as text: west to east, south to north."""
        lon, lat = self._degrees(*edge_points(self.shape, 21))
        lon = np.unwrap(lon, period=360)
        west, east = (_degree(v, "EW", 3) for v in (lon.min(), lon.max()))
        south, north = (_degree(v, "NS", 3) for v in (lat.min(), lat.max()))
        return f"{west} to {east}, {south} to {north}"

    def _degrees(self, cols: Floats, rows: Floats) -> tuple[Floats, Floats]:
        x, y = apply_affine(self.box.affine, cols, rows)
        to = transformer(self.wkt, "EPSG:4326")
        lon, lat = to.transform(x, y)
        return np.asarray(lon), np.asarray(lat)


def canvas(outlines: Sequence[BaseGeometry], crs: Iterable[str], gsd: float, anchor: float = 0.0) -> Canvas:
    """The sheet around outlines in degrees, of which there is one or more.

    It has the run's own CRS when there is only one that shows the region in its true size. Several zones, degrees and
    ground that a CRS tears apart at the antimeridian or blows up get an equal-area projection around their middle.
    Its pixels are those of the run (``gsd`` metres), or larger ones.
    """
    points = shapely.get_coordinates(list(outlines))
    sheet = _equal_area(points)
    bounds = _bounds(points, sheet)
    if len(codes := sorted(set(crs))) == 1:
        own = _bounds(points, codes[0])
        if 0.9 < math.dist(own[:2], own[2:]) / math.dist(bounds[:2], bounds[2:]) < 1.1:
            sheet, bounds = codes[0], own
    longer = max(bounds[2] - bounds[0], bounds[3] - bounds[1])
    fits = longer <= gsd * (SIDE - 2)
    plane = Plane(sheet, gsd if fits else longer / (SIDE - 2), anchor if fits else 0.0)
    return Canvas(plane.geobox(plane.window(*bounds)), pyproj.CRS.from_user_input(sheet).to_wkt(), plane.res / gsd)


def _equal_area(points: Floats) -> str:
    """Lambert's azimuthal projection around the middle of the points; for the whole world Equal Earth."""
    lon, lat = np.radians(points).T
    x, y, z = (float(v.mean()) for v in (np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)))
    length = math.hypot(x, y, z)
    if length < 0.5:  # more than a hemisphere
        return "EPSG:8857"
    middle = {"lon_0": round(math.degrees(math.atan2(y, x)), 1), "lat_0": round(math.degrees(math.asin(z / length)), 1)}
    return str(pyproj.CRS.from_dict({"proj": "laea", "datum": "WGS84", "units": "m", **middle}).to_wkt())


def _bounds(points: Floats, crs: str) -> tuple[float, float, float, float]:
    x, y = transformer("EPSG:4326", crs).transform(points[:, 0], points[:, 1])
    return float(np.min(x)), float(np.min(y)), float(np.max(x)), float(np.max(y))


def _ticks(values: Floats, along: Floats, letters: str) -> list[Tick]:
    """Round values between the first and the last, about three of them; values rise or fall along the edge."""
    if not np.isfinite(values).all():
        return []
    low, high = sorted((float(values[0]), float(values[-1])))
    if high - low < 1e-9:
        return []
    power = 10.0 ** math.floor(math.log10((high - low) / 2.5))
    step = max(power * k for k in (1, 2, 5) if power * k <= (high - low) / 2.5)
    digits = max(0, -math.floor(math.log10(step)))
    order = np.argsort(values)
    values_at = [k * step for k in range(math.ceil(low / step), math.floor(high / step) + 1)]
    ticks = [Tick(float(np.interp(v, values[order], along[order])), _degree(v, letters, digits)) for v in values_at]
    return [t for t in ticks if 0.04 < t.at < 0.96]


def _degree(value: float, letters: str, digits: int) -> str:
    wrapped = (value + 180) % 360 - 180 if letters == "EW" else value
    text = f"{abs(wrapped):.{digits}f}°"
    return text if float(text[:-1]) in (0.0, 180.0) else f"{text} {letters[0] if wrapped > 0 else letters[1]}"
