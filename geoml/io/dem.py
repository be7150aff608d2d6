"""Rasters of heights that others made: in metres, whatever unit, scale and offset their band has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Final

import numpy as np
import pyproj
import rasterio
from numpy.typing import NDArray
from rasterio._err import CPLE_BaseError  # some calls of rasterio let GDAL's own error through
from rasterio.errors import RasterioError
from rasterio.windows import Window

from geoml.errors import DataError, InputError
from geoml.io.crs import with_heights
from geoml.io.lengths import FOOT, METRE, US_FOOT, in_metres, unit_of
from geoml.io.local_files import local_files
from geoml.io.stores.hrefs import redact
from geoml.io.stores.remote import is_url
from geoml.io.unit_names import unit

FEET: Final[Mapping[str, Fraction]] = {
    **dict.fromkeys(("ft", "foot", "feet", "international foot", "international feet"), FOOT),
    **dict.fromkeys(("ftus", "us-ft", "us ft", "us survey foot", "us survey feet", "survey foot", "foot us"), US_FOOT),
}
"""Spellings of feet, in small letters and with blanks."""


@contextmanager
def opened(place: str | Path, field: str) -> Iterator[rasterio.DatasetReader]:
    """The raster of the field of a recipe; what GDAL raises while it is open is a DataError too.

    Raises InputError if there is no such file on this machine and for one without a CRS, DataError for one that
    cannot be read.
    """
    if is_url(str(place)) or not Path(place).is_file():
        raise InputError(f"{field}: {redact(str(place))} does not exist; expected a raster of this machine")
    try:
        with local_files(), rasterio.open(place) as file:
            if file.crs is None:
                raise InputError(f"{field}: {place} has no CRS; expected one")
            yield file
    except (RasterioError, CPLE_BaseError) as err:
        raise DataError(f"{field}: {place} cannot be read ({err})") from err


def heights_of(
    file: rasterio.DatasetReader, window: Window | None = None, unstated: float = 1.0
) -> NDArray[np.float64]:
    """(y, x) heights of the first band in metres, NaN without data.

    Their unit is that of the band, else that of the heights of its CRS, else ``unstated`` metres. Raises InputError for
    a unit that is not a length in metres or feet.
    """
    values = file.read(1, window=window).astype(np.float64) * file.scales[0] + file.offsets[0]
    values[file.read_masks(1, window=window) == 0] = np.nan
    return np.asarray(values * _metres(file, unstated))


def heights_crs(file: rasterio.DatasetReader) -> pyproj.CRS | None:
    """The vertical CRS of the heights, in metres; None if it is not said. Of a CRS of three axes it is as
    `with_heights` writes it."""
    if (upright := _upright(file)) is None:
        return None
    return in_metres(upright) if upright.is_vertical else vertical_part("EPSG:4326", upright.to_wkt())


def vertical_part(plane: str, vertical: str) -> pyproj.CRS:
    """Of heights as the outputs of a run say it, in metres."""
    return in_metres(pyproj.CRS.from_wkt(with_heights(plane, vertical)).sub_crs_list[-1])


def same_heights(one: pyproj.CRS, other: pyproj.CRS) -> bool:
    """Whether two vertical CRSs of `heights_crs` or `vertical_part` are one. A GeoTIFF keeps the name of heights above
    an ellipsoid, and no datum."""
    return bool(one == other or one.name == other.name)


def _upright(file: rasterio.DatasetReader) -> pyproj.CRS | None:
    crs = pyproj.CRS.from_wkt(file.crs.to_wkt())
    if crs.is_compound:
        return next((c for c in crs.sub_crs_list if c.is_vertical), None)
    return crs.geodetic_crs.to_3d() if len(crs.axis_info) == 3 and crs.geodetic_crs is not None else None


def _metres(file: rasterio.DatasetReader, unstated: float) -> float:
    """Of one unit of the heights."""
    said = unit(file.units[0])
    if said is None:
        upright = _upright(file)
        return float(unit_of(upright)) if upright is not None and upright.is_vertical else unstated
    found = METRE if said == "m" else FEET.get(said.lower())
    if found is None:
        raise InputError(f"{Path(file.name).name}: its heights are in {said[:40]!r}; expected m, ft or ftUS")
    return float(found)
