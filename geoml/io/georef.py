"""Where the pixels of an opened file lie: its header, else what its item says; and what cannot be read as it is.

A header places a raster by a CRS and an affine transform, by ground control points or by rational polynomials. A grid
that is turned is one affine transform, which the warp takes as it is; control points are read where an affine transform
fits them. Everything else is refused by its name and with the command that makes a grid of it once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyproj
import rasterio
from affine import Affine
from numpy.typing import NDArray
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox

from geoml.errors import DataError
from geoml.grid.region import utm_crs
from geoml.io.crs import FULL_TURN, crs_name, horizontal, on_earth, parse_crs, to_degrees
from geoml.io.projection import Projection

STRAIGHT = 1e-3
"""Pixels; a rotation that moves no pixel of the file further is ignored."""

FITS = 0.5
"""Pixels that an affine transform may miss ground control points by."""

ROUND = 1e-9
"""Degrees that a grid may reach over ±180 before it counts as one that goes round."""


@dataclass(frozen=True, slots=True)
class Placement:
    """``geobox`` has its row 0 in the north where the grid is not turned; ``flipped`` files store it the other way.

    ``own``: the file itself says so, and its overviews with it.
    """

    geobox: GeoBox
    flipped: bool
    own: bool


def placement_of(dataset: rasterio.DatasetReader, declared: Projection | None = None) -> Placement:
    """Where the pixels of ``dataset`` lie. Opens and reads nothing.

    Raises DataError, without the name of the file, for one without a georeference, with one that is not a grid (ground
    control points that bend, rational polynomials) or with one that is nowhere on the Earth.
    """
    transform, crs, own = dataset.transform, dataset.crs, True
    if transform == Affine.identity():
        points, theirs = dataset.gcps
        if points:
            crs = crs or theirs
            transform = _fitted(dataset, crs)
        elif dataset.rpcs is not None:
            raise DataError(
                "placed by rational polynomial coefficients (RPC), not on a grid; make one of it with "
                "`gdalwarp -rpc -to RPC_DEM=HEIGHTS.tif -of COG IN.tif OUT.tif`"
            )
        else:
            transform, own = _declared_transform(dataset.shape, declared), False
    wkt = crs.to_wkt() if crs else declared.crs if declared else None
    if wkt is None or transform is None:
        missing = " and ".join(n for n, v in (("CRS", wkt), ("transform", transform)) if v is None)
        raise DataError(f"no georeference: {missing} neither in the file nor in its item")
    return _placement(transform, wkt, tuple(dataset.shape), own)


@lru_cache(maxsize=1024)  # a file is read by many blocks
def _placement(transform: Affine, wkt: str, shape: tuple[int, int], own: bool) -> Placement:
    """Of a file of ``shape`` with its affine transform and CRS. Raises DataError as `placement_of`."""
    if not all(map(math.isfinite, tuple(transform)[:6])) or transform.is_degenerate:
        raise DataError(f"an invalid transform: {tuple(transform)[:6]}")
    transform = _without_noise(transform, shape)
    flipped = not transform.b and not transform.d and transform.e > 0
    if flipped:
        transform = transform @ Affine.translation(0, shape[0]) @ Affine.scale(1, -1)
    box = _near_greenwich(GeoBox(shape, transform, _crs(wkt)))
    if not on_earth(box):
        raise DataError(f"its position is nowhere on the Earth: {transform.c:.8g}, {transform.f:.8g} of {_name(box)}")
    return Placement(box, flipped, own)


def _fitted(dataset: rasterio.DatasetReader, crs: rasterio.crs.CRS | None) -> Affine:
    """The affine transform through ground control points. Raises DataError if they bend more than `FITS`."""
    points = dataset.gcps[0]
    at = np.array([[p.col, p.row, 1.0] for p in points])
    to = np.array([[p.x, p.y] for p in points])
    off = math.inf
    if len(points) > 2 and np.isfinite(to).all() and np.linalg.matrix_rank(at) == 3:
        middle = to.mean(0)  # small numbers keep their digits
        (a, d), (b, e), (c, f) = np.linalg.lstsq(at, to - middle, rcond=None)[0]
        fit = Affine(a, b, c + middle[0], d, e, f + middle[1])
        if not fit.is_degenerate:
            miss = np.array([~fit @ xy for xy in to]) - at[:, :2]
            off = float(np.hypot(*miss.T).max())
        if off <= FITS:
            return fit
    to_lonlat = to_degrees(crs.to_wkt()) if crs else None
    lon, lat = to_lonlat.transform(*to.mean(0)) if to_lonlat else (math.nan, math.nan)
    utm = utm_crs(lon, lat) if abs(lon) <= 180 and abs(lat) <= 90 else "EPSG:CODE"
    bend = f" that bend {off:.3g} pixels" if math.isfinite(off) else ""
    raise DataError(
        f"placed by {len(points)} ground control points (GCPs){bend}, not on a grid; make one of it with "
        f"`gdalwarp -tps -t_srs {utm} -of COG IN.tif OUT.tif`"
    )


def _declared_transform(shape: Sequence[int], declared: Projection | None) -> Affine | None:
    """The item's transform, where it declares a grid of this size or of none."""
    if declared is None or declared.transform is None or declared.shape not in (None, tuple(shape)):
        return None
    return Affine(*declared.transform)


def _without_noise(transform: Affine, shape: Sequence[int]) -> Affine:
    """The transform without a turn that is only noise: less than `STRAIGHT` over the whole file."""
    height, width = shape
    across, along = math.hypot(transform.a, transform.d), math.hypot(transform.b, transform.e)
    turn = max(abs(transform.b) * height / across, abs(transform.d) * width / along)
    if turn == 0 or turn > STRAIGHT:
        return transform
    return Affine(transform.a, 0.0, transform.c, 0.0, transform.e, transform.f)


def _near_greenwich(box: GeoBox) -> GeoBox:
    """A grid in degrees with its middle between -180 and 180: longitudes of 0 to 360 are those of the west as well."""
    if box.crs is None or not box.crs.geographic:
        return box
    left, _, right, _ = box.boundingbox.bbox
    if left >= -FULL_TURN / 2 - ROUND and right <= FULL_TURN / 2 + ROUND:
        return box
    return _shifted(box, -round((left + right) / 2 / FULL_TURN))


def _shifted(box: GeoBox, turns: int) -> GeoBox:
    a = box.affine
    return GeoBox(box.shape, Affine(a.a, a.b, a.c + turns * FULL_TURN, a.d, a.e, a.f), box.crs) if turns else box


def wrapped_copies(box: GeoBox) -> list[GeoBox]:
    """The grid at each turn at which a part of it lies between -180 and 180 degrees; one for most."""
    if box.crs is None or not box.crs.geographic:
        return [box]
    left, _, right, _ = box.boundingbox.bbox
    half = FULL_TURN / 2
    turns = [t for t in (-1, 0, 1) if left + t * FULL_TURN < half - ROUND and right + t * FULL_TURN > -half + ROUND]
    return [_shifted(box, t) for t in turns] if len(turns) > 1 else [box]


def _name(box: GeoBox) -> str:
    crs = parse_crs(str(box.crs))
    return crs.name if crs is not None else "its CRS"


@lru_cache(maxsize=1024)
def _crs(wkt: str) -> CRS:
    """The CRS by its EPSG code where it has one, so that equal ones are known by their names."""
    crs = CRS(wkt)
    flat = horizontal(crs.proj)
    name = crs_name(flat)
    return CRS(name) if name.startswith("EPSG:") else crs if flat == crs.proj else CRS(flat)


def edge_points(shape: tuple[int, int], count: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Columns and rows of points along the edge of a grid of ``shape``, ``count`` on each side, one after the other."""
    side, zero, one = np.linspace(0, 1, count), np.zeros(count), np.ones(count)
    across, down = np.concatenate([side, one, side[::-1], zero]), np.concatenate([zero, side, one, side[::-1]])
    return across * shape[1], down * shape[0]


def apply_affine(
    grid: Affine, x: NDArray[np.float64], y: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(x, y) arrays under an affine transform."""
    return grid.a * x + grid.b * y + grid.c, grid.d * x + grid.e * y + grid.f


@lru_cache(maxsize=256)
def transformer(source: str, target: str) -> pyproj.Transformer:
    """From one CRS to another, x before y; making one costs more than using it."""
    return pyproj.Transformer.from_crs(source, target, always_xy=True)
