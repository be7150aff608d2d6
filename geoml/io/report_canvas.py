"""The sheet of a report's maps: one small grid for the blocks of all zones, with a scale, north and degrees."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pyproj
import rasterio
import rasterio.warp
import shapely
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.features import rasterize
from shapely.geometry.base import BaseGeometry

from geoml.grid.plane import Plane
from geoml.io.warp import ratio, warp

SIDE = 1400
"""Pixels of the longer side, at most."""

Slices = tuple[slice, slice]


@dataclass(frozen=True, slots=True)
class Tick:
    """A label at ``at`` (0..1) along an edge of the sheet."""

    at: float
    text: str


@dataclass(frozen=True)
class Canvas:
    """A grid in a CRS that shows lengths as they are, near enough for a look at a map."""

    box: GeoBox
    wkt: str

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        return int(self.box.shape[0]), int(self.box.shape[1])

    @property
    def crs(self) -> rasterio.crs.CRS:
        return rasterio.crs.CRS.from_wkt(self.wkt)

    def window(self, bounds: tuple[float, float, float, float], crs: rasterio.crs.CRS) -> tuple[int, int, int, int]:
        """(y0, x0, y1, x1) of bounds in another CRS, not cut to the sheet."""
        left, bottom, right, top = rasterio.warp.transform_bounds(crs, self.crs, *bounds, densify_pts=21)
        x0, y0 = ~self.box.affine @ (left, top)
        x1, y1 = ~self.box.affine @ (right, bottom)
        tiny = 1e-6
        return math.floor(y0 + tiny), math.floor(x0 + tiny), math.ceil(y1 - tiny), math.ceil(x1 - tiny)

    def cut(self, window: tuple[int, int, int, int]) -> Slices | None:
        """The part of a window that lies on the sheet; None when nothing does."""
        y0, x0, y1, x1 = window
        rows, cols = slice(max(y0, 0), min(y1, self.shape[0])), slice(max(x0, 0), min(x1, self.shape[1]))
        return (rows, cols) if rows.start < rows.stop and cols.start < cols.stop else None

    def warped(
        self, pixels: NDArray[np.uint8], known: NDArray[np.bool_], grid: GeoBox, resampling: str
    ) -> tuple[Slices, NDArray[np.uint8], NDArray[np.bool_]] | None:
        """(bands, y, x) pixels of another grid: the part of the sheet that they cover, values and what is known there.

        None when they do not touch the sheet.
        """
        left, bottom, right, top = grid.boundingbox
        part = self.cut(self.window((left, bottom, right, top), rasterio.crs.CRS.from_wkt(str(grid.crs))))
        if part is None:
            return None
        rows, cols = part
        shape = rows.stop - rows.start, cols.stop - cols.start
        target = GeoBox(shape, self.box.affine @ Affine.translation(cols.start, rows.start), self.box.crs)
        scale = ratio(grid, target)
        values, good = warp(pixels, known, grid, target, resampling=resampling, scale=scale)
        return part, values, good

    def mask(self, outlines: Sequence[BaseGeometry]) -> NDArray[np.bool_]:
        """(y, x) True inside outlines that are given in degrees."""
        if not outlines:
            return np.zeros(self.shape, bool)
        shapes = [_moved(o, "EPSG:4326", self.wkt) for o in outlines]
        burnt = rasterize(shapes, self.shape, transform=self.box.affine, default_value=1, dtype="uint8")
        found: NDArray[np.bool_] = burnt.astype(bool)
        return found

    def scale_bar(self) -> tuple[float, str]:
        """(share of the width, length as text) of a round length, measured on the ellipsoid along the middle row."""
        h, w = self.shape
        lon, lat = self._degrees(np.array([w * 0.4, w * 0.6]), np.array([h / 2, h / 2]))
        width = pyproj.Geod(ellps="WGS84").line_length(lon, lat) * 5
        power = 10.0 ** math.floor(math.log10(width * 0.4))
        length = max(power * k for k in (1, 2, 5) if power * k <= width * 0.4)
        text = f"{length / 1000:,.10g} km" if length >= 1000 else f"{length:.10g} m"
        return length / width, text

    def north(self) -> float:
        """Degrees clockwise from up to north, in the middle."""
        h, w = self.shape
        lon, lat = self._degrees(np.array([w / 2]), np.array([h / 2]))
        to = pyproj.Transformer.from_crs("EPSG:4326", self.wkt, always_xy=True)
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
        h, w = self.shape
        ring = np.linspace(0, 1, 21)
        zero, one = np.zeros(21), np.ones(21)
        lon, lat = self._degrees(
            np.concatenate([ring, one, ring[::-1], zero]) * w, np.concatenate([zero, ring, one, ring[::-1]]) * h
        )
        lon = np.unwrap(lon, period=360)
        west, east = (_degree(v, "EW", 3) for v in (lon.min(), lon.max()))
        south, north = (_degree(v, "NS", 3) for v in (lat.min(), lat.max()))
        return f"{west} to {east}, {south} to {north}"

    def _degrees(
        self, cols: NDArray[np.float64], rows: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        grid = self.box.affine  # north is up
        x, y = grid.c + grid.a * cols, grid.f + grid.e * rows
        to = pyproj.Transformer.from_crs(self.wkt, "EPSG:4326", always_xy=True)
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
    return Canvas(plane.geobox(plane.window(*bounds)), pyproj.CRS.from_user_input(sheet).to_wkt())


def _equal_area(points: NDArray[np.float64]) -> str:
    """Lambert's azimuthal projection around the middle of the points; for the whole world Equal Earth."""
    lon, lat = np.radians(points).T
    x, y, z = (float(v.mean()) for v in (np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)))
    length = math.hypot(x, y, z)
    if length < 0.5:  # more than a hemisphere
        return "EPSG:8857"
    middle = {"lon_0": round(math.degrees(math.atan2(y, x)), 1), "lat_0": round(math.degrees(math.asin(z / length)), 1)}
    return str(pyproj.CRS.from_dict({"proj": "laea", "datum": "WGS84", "units": "m", **middle}).to_wkt())


def _bounds(points: NDArray[np.float64], crs: str) -> tuple[float, float, float, float]:
    x, y = pyproj.Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform(points[:, 0], points[:, 1])
    return float(np.min(x)), float(np.min(y)), float(np.max(x)), float(np.max(y))


def _moved(shape: BaseGeometry, source: str, target: str) -> BaseGeometry:
    to = pyproj.Transformer.from_crs(source, target, always_xy=True)
    return shapely.transform(shape, lambda c: np.column_stack(to.transform(c[:, 0], c[:, 1])))


def _ticks(values: NDArray[np.float64], along: NDArray[np.float64], letters: str) -> list[Tick]:
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
    found = [k * step for k in range(math.ceil(low / step), math.floor(high / step) + 1)]
    ticks = [Tick(float(np.interp(v, values[order], along[order])), _degree(v, letters, digits)) for v in found]
    return [t for t in ticks if 0.04 < t.at < 0.96]


def _degree(value: float, letters: str, digits: int) -> str:
    wrapped = (value + 180) % 360 - 180 if letters == "EW" else value
    text = f"{abs(wrapped):.{digits}f}°"
    return text if float(text[:-1]) in (0.0, 180.0) else f"{text} {letters[0] if wrapped > 0 else letters[1]}"
