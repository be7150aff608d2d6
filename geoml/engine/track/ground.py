"""From pixels of the first frame to the ground: a plane with a CRS, degrees, and metres in which things move."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyproj
from numpy.typing import NDArray

from geoml.data import rasters
from geoml.engine.track.recipe import TrackRecipe
from geoml.errors import DataError, InputError, NothingFound
from geoml.grid.homography import Matrix, Points, apply, middle, problem
from geoml.io.crs import crs_name, parse_crs, to_degrees
from geoml.io.tables.detections import read_matrix

METRES = (
    "gsd: the position of the frames and their pixel size are unknown; give --reference MOSAIC, "
    "--reference-homography FILE with --crs, frames with a georeference, or --gsd METRES"
)


@dataclass(frozen=True, eq=False)
class GroundPlaces:
    """(n,) or (n, 2) each: ``xy`` on the plane, or pixels of the first frame where there is none; ``lonlat`` in degrees
    or None; ``metres`` east and north of a point nearby, or right and up."""

    xy: Points
    lonlat: Points | None
    metres: Points


@dataclass(frozen=True, eq=False)
class Ground:
    """``matrix`` (3, 3) takes pixels of the first frame to x, y of ``crs``; without one ``gsd`` are metres of a pixel.

    ``about`` (x, y of the plane) is where metres count from. Raises InputError for a CRS that is not of the Earth.
    """

    matrix: Matrix
    crs: str | None
    gsd: float = 1.0
    about: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        if self.crs is not None and to_degrees(self.crs) is None:
            raise InputError(
                f"crs: {self.crs!r} does not describe places on the Earth; expected one such as EPSG:32633"
            )

    @cached_property
    def _metric(self) -> pyproj.Transformer:
        assert self._degrees is not None
        lon, lat = self._degrees.transform(*self.about)
        if not (np.isfinite(lon) and np.isfinite(lat)):
            raise DataError(f"reference: the frames lie at {self.about}, outside the area of {self.crs}")
        plane = f"+proj=aeqd +lat_0={lat:.12f} +lon_0={lon:.12f} +datum=WGS84 +units=m"
        return pyproj.Transformer.from_crs("EPSG:4326", plane, always_xy=True)

    @cached_property
    def _degrees(self) -> pyproj.Transformer | None:
        return None if self.crs is None else to_degrees(self.crs)

    def places(self, pixels: NDArray[np.floating], matrix: Matrix) -> GroundPlaces:
        """Where (n, 2) pixels of a frame lie that ``matrix`` (3, 3) takes to the first one. Raises DataError for what
        has no place."""
        xy = apply(self.matrix @ matrix, pixels)
        if self._degrees is None:
            return GroundPlaces(xy, None, xy * (self.gsd, -self.gsd))
        lonlat = np.column_stack(self._degrees.transform(*xy.T))
        metres = np.column_stack(self._metric.transform(*lonlat.T))
        if not (np.isfinite(lonlat).all() and np.isfinite(metres).all()):
            raise DataError(f"reference: a place at {xy[0].tolist()} is outside the area of {self.crs}")
        return GroundPlaces(xy, lonlat, metres)

    def metres_of(self, lonlat: Points) -> Points:
        """(n, 2) metres of places in degrees; only with a CRS."""
        return np.column_stack(self._metric.transform(*lonlat.T))

    def check(self, matrix: Matrix, shape: tuple[int, int], name: str) -> None:
        """Raise DataError if the way of a frame of ``shape`` (rows, columns) to the ground cannot be: it folds the
        picture, mirrors it, or is not finite."""
        if why := problem(self.matrix @ matrix, shape, mirrored=self.crs is not None, stretch=np.inf):
            raise DataError(f"{name}: homography: {why}; expected a view of flat ground")


def ground_of(recipe: TrackRecipe, shape: tuple[int, int]) -> Ground | None:
    """The ground that the recipe gives the first frame of ``shape`` (rows, columns); None if that has yet to be
    found on the reference. Raises InputError if there are no metres, and what reading the files raises."""
    if recipe.reference_homography is not None:
        matrix = read_matrix(recipe.reference_homography)
        if recipe.reference is None:
            return on_plane(matrix, str(recipe.crs), shape)
        files = _rasters(recipe.reference)
        geobox = rasters.header(files[0]).geobox
        if len(files) != 1 or geobox is None or geobox.crs is None:
            raise InputError(f"reference: {recipe.reference}; a homography leads to one georeferenced raster")
        return on_plane(np.array(tuple(geobox.affine)[:9]).reshape(3, 3) @ matrix, str(geobox.crs), shape)
    if recipe.reference is not None:
        return None
    if recipe.gsd is None:
        raise InputError(METRES)
    return Ground(np.eye(3), None, recipe.gsd)


def on_plane(matrix: Matrix, crs: str, shape: tuple[int, int]) -> Ground:
    """The ground of a first frame of ``shape`` (rows, columns) whose pixels ``matrix`` takes to x, y of ``crs``.

    Raises InputError for an invalid CRS, DataError for a map that cannot be.
    """
    known = parse_crs(crs)
    if known is None:
        raise InputError(f"crs: {crs!r} is not known; expected one such as EPSG:32633")
    x, y = apply(matrix, middle(shape))[0].tolist()
    ground = Ground(matrix, crs_name(known), about=(x, y))
    ground.check(np.eye(3), shape, "reference_homography")
    return ground


def _rasters(place: str) -> list[Path]:
    path = Path(place)
    files = sorted(path.glob("*.tif")) if path.is_dir() else [path]
    if not files or not files[0].is_file():
        raise NothingFound(f"reference: no raster at {place}")
    return files
