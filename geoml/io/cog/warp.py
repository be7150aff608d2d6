"""Where the pixels of one grid lie in another, and the resampling between the two.

A pixel's value depends on its own place only, never on the window that was asked for: GDAL estimates its kernel for
each chunk and interpolates coordinates along each output row, so both are pinned here (constant scale; strips of
columns that start at multiples of ``STRIP`` of the plane).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache, partial

import numpy as np
import pyproj
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.warp import Resampling, reproject

from geoml.grid.plane import Window

STRIP = 96
"""Columns of one warp. Coordinates are exact at its ends and its middle and linear between (error below 0.001 pixel).
GDAL may cut regions wider than 100 pixels itself, at places that depend on the window."""

Options = Mapping[str, float | Resampling]
"""Of GDAL's warp."""

NEAREST: Options = {"resampling": Resampling.nearest, "XSCALE": 1.0, "YSCALE": 1.0}

TINY = 1e-3
"""Pixels; grids that differ by less are one grid."""


def shift(source: GeoBox, target: GeoBox) -> tuple[int, int] | None:
    """(rows, columns) from the source's corner to the target's when both share one pixel lattice, else None."""
    if source.crs != target.crs:
        return None
    a = ~source.affine @ target.affine
    height, width = target.shape
    drift = max(abs(a.a - 1) * width, abs(a.e - 1) * height, abs(a.b) * height, abs(a.d) * width)
    row, col = round(a.f), round(a.c)
    if drift > TINY or abs(a.f - row) > TINY or abs(a.c - col) > TINY:
        return None
    return row, col


def ratio(source: GeoBox, target: GeoBox) -> tuple[float, float]:
    """Source pixels for each target pixel, (along x, along y) of the source.

    Measured at one place that depends on the whole source and the target's CRS alone, so that all windows of a plane
    agree on overview level and kernel.
    """
    return _ratio(source, str(target.crs), target.affine.a, target.affine.e)


@lru_cache(maxsize=4096)
def _ratio(source: GeoBox, crs: str, dx: float, dy: float) -> tuple[float, float]:
    x, y = source.affine @ (source.shape[1] / 2, source.shape[0] / 2)
    if str(source.crs) == crs:
        a = source.affine
        if not a.b and not a.d:
            return abs(dx / a.a), abs(dy / a.e)
        a = ~a
        return math.hypot(a.a * dx, a.b * dy), math.hypot(a.d * dx, a.e * dy)
    place = pyproj.Transformer.from_crs(str(source.crs), crs, always_xy=True)
    area = pyproj.CRS.from_user_input(crs).area_of_use
    if area is not None and area.west < area.east:
        x, y = _clamped(source, x, y, area.bounds)
    px, py = place.transform(x, y)
    if not (math.isfinite(px) and math.isfinite(py)):
        return 1.0, 1.0
    xs, ys = place.transform(np.array([px, px + dx, px]), np.array([py, py, py + dy]), direction="INVERSE")
    u, v = _cells(source, np.asarray(xs), np.asarray(ys))
    steps = float(np.hypot(u[1] - u[0], u[2] - u[0])), float(np.hypot(v[1] - v[0], v[2] - v[0]))
    return steps if all(math.isfinite(s) and s > 0 for s in steps) else (1.0, 1.0)


def _clamped(source: GeoBox, x: float, y: float, area: tuple[float, float, float, float]) -> tuple[float, float]:
    """The middle of the part of the source that lies in the CRS's area of use; its own middle when there is none."""
    lonlat = pyproj.Transformer.from_crs(str(source.crs), "EPSG:4326", always_xy=True)
    west, south, east, north = lonlat.transform_bounds(*source.boundingbox.bbox)
    low, high = max(west, area[0]), min(east, area[2])
    bottom, top = max(south, area[1]), min(north, area[3])
    if not (low < high and bottom < top):
        return x, y
    middle = lonlat.transform((low + high) / 2, (bottom + top) / 2, direction="INVERSE")
    return middle if all(map(math.isfinite, middle)) else (x, y)


def windows(source: GeoBox, target: GeoBox, reach: int) -> list[Window]:
    """Windows of the source that hold what ``target`` needs, ``reach`` pixels around included, clipped to the source.

    One window; none when they do not meet; two when a geographic source is cut at the antimeridian.
    """
    height, width = target.shape
    cols, rows = np.meshgrid(np.linspace(0, width, 17), np.linspace(0, height, 17))
    t = target.affine
    x, y = t.a * cols + t.b * rows + t.c, t.d * cols + t.e * rows + t.f
    if source.crs != target.crs:
        move = pyproj.Transformer.from_crs(str(target.crs), str(source.crs), always_xy=True)
        x, y = (np.asarray(v) for v in move.transform(x, y))
    good = np.isfinite(x) & np.isfinite(y)
    if not good.any():
        return []
    x, y = x[good], y[good]
    full = Window(0, 0, *source.shape)
    if source.crs is None or not source.crs.geographic or np.ptp(x) <= 180:
        return _clip([_hull(source, x, y, reach)], full)
    low, high = np.where(x < 0, x, x[x < 0][0]), np.where(x < 0, x[x >= 0][0], x)
    west, east = _hull(source, low, y, reach), _hull(source, high, y, reach)
    first, last = _meridians(source, full, reach)
    return _clip([Window(west.y0, first, west.y1, west.x1), Window(east.y0, east.x0, east.y1, last)], full)


def _meridians(source: GeoBox, full: Window, reach: int) -> tuple[int, int]:
    """Columns of 180° W and 180° E with ``reach`` around, for a grid that goes further; else its own edges."""
    a = source.affine
    if a.b or a.d or a.a <= 0:
        return full.x0, full.x1
    low, high = (-180 - a.c) / a.a, (180 - a.c) / a.a
    return max(full.x0, math.floor(low) - reach), min(full.x1, math.ceil(high) + reach)


def _hull(source: GeoBox, x: NDArray[np.float64], y: NDArray[np.float64], reach: int) -> Window:
    u, v = _cells(source, x, y)
    extra = reach + math.ceil(0.01 * max(np.ptp(u), np.ptp(v)))  # sides bend between the points
    return Window(
        math.floor(v.min()) - extra, math.floor(u.min()) - extra, math.ceil(v.max()) + extra, math.ceil(u.max()) + extra
    )


def _cells(
    source: GeoBox, x: NDArray[np.float64], y: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Columns and rows of places in units of the CRS."""
    a = ~source.affine
    return a.a * x + a.b * y + a.c, a.d * x + a.e * y + a.f


def _clip(parts: list[Window], full: Window) -> list[Window]:
    return [w for w in (part.intersect(full) for part in parts) if not w.empty]


def warp(
    data: NDArray[np.number],
    valid: NDArray[np.bool_],
    source: GeoBox,
    target: GeoBox,
    *,
    resampling: str,
    scale: tuple[float, float],
) -> tuple[NDArray[np.number], NDArray[np.bool_]]:
    """(band, y, x) values and validity of ``source`` resampled to ``target``.

    ``scale`` is the :func:`ratio` of the whole source, of which ``source`` may be a window.
    Validity is that of the nearest source pixel. Invalid pixels have no weight in a kernel, and the result is zero
    where it is invalid. Integers are interpolated as floats and rounded.
    """
    inside = warp_valid(valid, source, target)
    if resampling == "nearest":
        out = np.zeros(inside.shape, data.dtype)
        _strips(data, out, source, target, NEAREST)
    else:
        kernel = {"XSCALE": min(1.0, 1 / scale[0]), "YSCALE": min(1.0, 1 / scale[1])}
        out = _interpolated(data, valid, inside, source, target, {"resampling": Resampling[resampling], **kernel})
    if not inside.all():
        out[~inside] = 0
    return out, inside


def warp_valid(valid: NDArray[np.bool_], source: GeoBox, target: GeoBox) -> NDArray[np.bool_]:
    """(band, y, x) True where the nearest pixel of ``source`` is."""
    ok = np.zeros((valid.shape[0], *target.shape), np.uint8)
    _strips(valid.view(np.uint8), ok, source, target, NEAREST)
    return ok.view(np.bool_)


def _interpolated(
    data: NDArray[np.number],
    valid: NDArray[np.bool_],
    inside: NDArray[np.bool_],
    source: GeoBox,
    target: GeoBox,
    options: Options,
) -> NDArray[np.number]:
    """The values in the dtype of ``data`` where ``inside``, arbitrary elsewhere; ``inside`` loses what has no value."""
    single = data.dtype.itemsize <= 2 or data.dtype == np.float32
    exact: type[np.floating] = np.float32 if single else np.float64
    weighted = data
    if not valid.all():
        options = {**options, "src_nodata": math.nan, "dst_nodata": math.nan}
        weighted = np.where(valid, data.astype(exact), exact("nan"))
    out = np.zeros((data.shape[0], *target.shape), exact)
    _strips(weighted, out, source, target, options)
    if "src_nodata" in options:
        inside &= ~np.isnan(out)
        out[~inside] = 0
    if data.dtype.kind == "f":
        return out.astype(data.dtype, copy=False)
    # halves are common when pixels are split in two; the small extra keeps float noise from deciding them
    np.floor(np.add(out, 0.5 + 1e-4, out=out), out=out)
    limits = np.iinfo(np.dtype(data.dtype.name))
    return np.clip(out, limits.min, limits.max, out=out).astype(data.dtype)


def _strips(
    data: NDArray[np.number], out: NDArray[np.number], source: GeoBox, target: GeoBox, options: Options
) -> None:
    """Fills ``out`` (band, y, x) as GDAL does, strip by strip where coordinates are not linear."""
    crs = {"src_crs": str(source.crs), "dst_crs": str(target.crs)}
    # INSERT_CENTER_LONG: grids beyond 180° come turn by turn
    warped = partial(reproject, data, src_transform=source.affine, INSERT_CENTER_LONG="NO", **crs, **options)
    if source.crs == target.crs:
        warped(out, dst_transform=target.affine)
        return
    width = target.shape[1]
    first = math.floor(target.affine.c / target.affine.a + 0.25)  # column of the plane, for both of its anchors
    for start in range(first // STRIP * STRIP - first, width, STRIP):
        strip = np.zeros((*out.shape[:2], STRIP), out.dtype)
        warped(strip, dst_transform=target.affine @ Affine.translation(start, 0))
        low, high = max(start, 0), min(start + STRIP, width)
        out[:, :, low:high] = strip[:, :, low - start : high - start]
