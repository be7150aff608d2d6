"""Points whose heights were measured apart, in the system of a run: from a table or a file of points."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import pyproj
from numpy.typing import NDArray
from pyproj.exceptions import ProjError

from geoml.errors import DataError, InputError, NothingFound
from geoml.io.heights import height_shift
from geoml.io.stores.hrefs import redact
from geoml.io.stores.remote import is_url
from geoml.io.tables import vectors

Floats = NDArray[np.float64]

TABLES: Final = (".csv", ".txt")


@dataclass(frozen=True, eq=False)
class CheckPoints:
    """Places (n,) in the horizontal CRS of a run and heights (n,) above its datum, in metres, and what to say."""

    x: Floats
    y: Floats
    z: Floats
    notes: tuple[str, ...]


def read_check_points(place: str | Path, crs: str, vertical: str | None, check_crs: str | None = None) -> CheckPoints:
    """The points of a CSV with columns x, y and z, or of a GeoPackage, GeoParquet or other file of points.

    Heights of the latter are those of the geometry, else a column z. ``crs`` and ``vertical`` are those of the run,
    None if nothing is known of its datum; ``check_crs`` is that of points that say none, compound where their
    heights have a datum. Raises InputError for a CRS or column that is missing, for points that by their CRS lie
    nowhere and for a datum that cannot be converted, DataError for a file that cannot be read, NothingFound for one
    without a point.
    """
    path = Path(place)
    if is_url(str(place)):
        raise InputError(f"check_points: {redact(str(place))} is elsewhere; expected a file of this machine")
    x, y, z, said = _table(path) if path.suffix.lower() in TABLES else _features(path)
    given = None if check_crs is None else _crs(check_crs)
    found = given if said is None else _crs(said)
    if found is None:
        raise InputError(f"check_crs: {path.name} says none; expected one such as EPSG:7415")
    flat, have, metres = _parts(found)
    if flat is None or not (flat.is_projected or flat.is_geographic):
        raise InputError(
            f"check_crs: {found.name} does not describe places on the Earth; expected one such as EPSG:7415"
        )
    known = np.isfinite(x) & np.isfinite(y) & np.isfinite(z)
    notes = (
        [f"{int((~known).sum())} check points without a finite place or height were left out"]
        if not known.all()
        else []
    )
    if not known.any():
        raise NothingFound(f"check_points: {path.name} has no point with a place and a height")
    x, y, z = x[known], y[known], z[known]
    if have is None and given is not None:  # the file has places only
        _, have, metres = _parts(given)
    try:
        x, y = pyproj.Transformer.from_crs(flat.to_2d(), crs, always_xy=True).transform(x, y)
    except ProjError as err:
        raise InputError(f"check_crs: PROJ knows no way from {flat.name} to {crs[:80]} ({err})") from err
    if nowhere := int((~(np.isfinite(x) & np.isfinite(y))).sum()):
        raise InputError(
            f"check_crs: by {flat.name} {nowhere} of {len(x)} points of {path.name} lie nowhere in the CRS of the run;"
            " expected the one that their numbers are of"
        )
    z = z * metres
    if have is None or vertical is None:
        notes.append("of check points or heights the datum is not known: they are taken to have the same")
    else:
        bounds = (float(x.min()), float(y.min()), float(x.max()), float(y.max()))
        z = height_shift(crs, have.to_wkt(), vertical, bounds).apply(x, y, z)
    return CheckPoints(x, y, z, tuple(notes))


def _crs(text: Any) -> pyproj.CRS:
    try:
        return pyproj.CRS.from_user_input(text)
    except (ProjError, ValueError, TypeError):
        raise InputError(f"check_crs: {str(text)[:80]!r} is none; expected one such as EPSG:7415") from None


def _parts(crs: pyproj.CRS) -> tuple[pyproj.CRS | None, pyproj.CRS | None, float]:
    """That of places, that of heights, and metres of the unit of these."""
    flat, upright = (None, crs) if crs.is_vertical else (crs, None)
    if crs.is_compound:
        flat, upright = crs.sub_crs_list[0], next((c for c in crs.sub_crs_list[1:] if c.is_vertical), None)
    if upright is not None:
        return flat, upright, upright.axis_info[0].unit_conversion_factor
    if len(crs.axis_info) == 3 and not crs.is_geocentric and crs.geodetic_crs is not None:
        return crs, crs.geodetic_crs.to_3d(), crs.axis_info[2].unit_conversion_factor
    return flat, None, 1.0


def _table(path: Path) -> tuple[Floats, Floats, Floats, Any]:
    try:
        frame = pd.read_csv(path)
    except (OSError, ValueError) as err:
        raise DataError(f"{path}: cannot be read as a table ({err})") from err
    named = {str(name).strip().lower(): name for name in frame.columns}
    if lost := [name for name in "xyz" if name not in named]:
        raise InputError(f"check_points: {path.name} has no column {', '.join(lost)}; expected x, y and z")
    x, y, z = (pd.to_numeric(frame[named[name]], errors="coerce").to_numpy(np.float64) for name in "xyz")
    return x, y, z, None


def _features(path: Path) -> tuple[Floats, Floats, Floats, Any]:
    frame = vectors.read(path, field="check_points")
    shapes = frame.geometry[frame.geometry.notna() & ~frame.geometry.is_empty]
    if set(shapes.geom_type) - {"Point"}:
        raise InputError(f"check_points: {path.name} holds {', '.join(sorted(set(shapes.geom_type)))}; expected points")
    columns = {str(name).lower(): name for name in frame.columns}
    if len(shapes) and shapes.has_z.all():
        z = shapes.z.to_numpy(np.float64)
    elif "z" in columns:
        z = pd.to_numeric(frame.loc[shapes.index, columns["z"]], errors="coerce").to_numpy(np.float64)
    else:
        raise InputError(f"check_points: {path.name} has no heights; expected points with z or a column z")
    return shapes.x.to_numpy(np.float64), shapes.y.to_numpy(np.float64), z, frame.crs
