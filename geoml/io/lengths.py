"""Lengths of a CRS: metres of its unit, exactly, and the same CRS in metres."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction
from functools import lru_cache

import numpy as np
import pyproj
from pyproj.aoi import AreaOfInterest
from pyproj.database import query_crs_info
from pyproj.enums import PJType

METRE = Fraction(1)
FOOT = Fraction(3048, 10000)
US_FOOT = Fraction(1200, 3937)
UNITS = {"m": METRE, "ft": FOOT, "ftUS": US_FOOT}
"""Units by the words that an option may use."""


def unit_of(crs: pyproj.CRS) -> Fraction:
    """Metres of the unit of the first axis of a projected or vertical CRS, exactly."""
    return exact(crs.axis_info[0].unit_conversion_factor)


def exact(metres: float) -> Fraction:
    """A factor of PROJ as the fraction that it is rounded from."""
    near = (u for u in UNITS.values() if abs(metres - float(u)) <= 1e-9 * metres)
    return next(near, Fraction(repr(metres)))


@lru_cache(maxsize=256)
def in_metres(crs: pyproj.CRS) -> pyproj.CRS:
    """The same CRS with its lengths in metres; its name loses the unit."""
    if crs.is_geographic or unit_of(crs) == METRE:
        return crs
    said = crs.to_json_dict()
    for axis in said["coordinate_system"]["axis"]:
        axis["unit"] = "metre"
    said["name"] = re.sub(r" \(ft\w*\)$", "", said["name"])
    for key in ("id", "ids", "usages", "scope", "area", "bbox"):
        said.pop(key, None)
    twin = pyproj.CRS.from_json_dict(said)
    known = (pyproj.CRS.from_epsg(code) for code in _codes_near(crs, twin))
    return next((k for k in known if _same(k, twin)), twin)


def _codes_near(crs: pyproj.CRS, twin: pyproj.CRS) -> Iterator[int]:
    """EPSG codes that may be those of a CRS in metres: the likeliest first, then all of its area."""
    if (code := twin.to_epsg(min_confidence=25)) is not None:
        yield code
    if crs.area_of_use is not None and crs.is_projected:
        area = crs.area_of_use
        box = AreaOfInterest(area.west, area.south, area.east, area.north)
        found = query_crs_info("EPSG", PJType.PROJECTED_CRS, area_of_interest=box, contains=True)
        yield from (int(f.code) for f in found if not f.deprecated)


def _same(known: pyproj.CRS, twin: pyproj.CRS) -> bool:
    """Whether ``known`` is in metres and places points as ``twin`` does, to a millimetre."""
    if unit_of(known) != METRE:
        return False
    if twin.is_vertical:
        return bool(known.is_vertical and known.datum == twin.datum)
    if not known.is_projected or known.area_of_use is None or known.geodetic_crs != twin.geodetic_crs:
        return False
    area = known.area_of_use
    lon, lat = [area.west, area.east, (area.west + area.east) / 2], [area.south, area.north, area.north]
    one, other = (np.array(pyproj.Proj(c)(lon, lat)) for c in (known, twin))
    return bool(np.abs(one - other).max() < 1e-3)
