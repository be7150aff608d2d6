"""Where the numbers of a cloud lie: its horizontal CRS, its heights and both units, as its file says them.

What comes out is in metres: a CRS in feet is replaced by the same projection in metres, and the factor is exact (US
survey foot: 1200/3937 m). Nothing is guessed: without a CRS, or with heights of no unit beside feet, the caller is
asked.
"""

from __future__ import annotations

import logging
import math
import struct
from dataclasses import dataclass
from fractions import Fraction

import pyproj
from pyproj.exceptions import ProjError

from geoml.errors import InputError
from geoml.io.crs import crs_name, horizontal
from geoml.io.lengths import FOOT, METRE, UNITS, US_FOOT, exact, in_metres, unit_of
from geoml.io.points.geokeys import DIRECTORY, spelled_out
from geoml.io.points.header import PROJECTION, LasHeader

log = logging.getLogger(__name__)

SLACK = 0.01
"""Degrees by which a cloud may lie beside the box of its item."""

_WRONG = "its CRS or unit is wrong, name the right CRS with --crs"
_UNIT_CODES = {9001: METRE, 9002: FOOT, 9003: US_FOOT}
_KEYS = (PROJECTION, DIRECTORY)
_WKT = (PROJECTION, 2112)
_OWN = 32767
"""GeoKeys: what is meant stands in other keys."""

_OLD_VERTICAL = range(5101, 5107)
"""Codes of GeoTIFF 1.0 for heights; EPSG has them as CRSs 600 higher."""


@dataclass(frozen=True)
class Stated:
    """What one source says: a CRS for x and y, one for heights, and metres of their units; None: it does not say."""

    crs: pyproj.CRS | None = None
    xy: Fraction | None = None
    vertical: pyproj.CRS | None = None
    z: Fraction | None = None


@dataclass(frozen=True)
class Georeference:
    """Where a cloud lies, in metres; ``vertical`` None: heights above nobody knows what."""

    crs: str
    vertical: str | None
    xy: Fraction
    """Metres of one unit of x and y."""
    z: Fraction
    """Metres of one unit of z."""


def from_file(header: LasHeader) -> Stated:
    """What the records of a LAS file say: the WKT where global encoding bit 4 is set, else the GeoKeys, else a WKT."""
    wkt, keys = _from_wkt(header), _from_keys(header)
    return first(wkt, keys) if header.encoding & 16 else first(keys, wkt)


def stated(text: str) -> Stated:
    """What a code, WKT or PROJJSON says; nothing where it is not a CRS."""
    try:
        crs = pyproj.CRS.from_user_input(text)
    except (ProjError, ValueError, TypeError):
        return Stated()
    if crs.is_vertical and not crs.is_compound:  # pyproj calls a compound one both
        return Stated(vertical=crs, z=unit_of(crs))
    while crs.is_bound and crs.source_crs is not None:
        crs = crs.source_crs
    if crs.is_compound:
        flat, upright = crs.sub_crs_list[0], next((c for c in crs.sub_crs_list[1:] if c.is_vertical), None)
        flat = horizontal(flat)
        return Stated(flat, unit_of(flat), upright, None if upright is None else unit_of(upright))
    if len(crs.axis_info) == 3 and not crs.is_geocentric:  # heights above the ellipsoid
        return Stated(horizontal(crs), unit_of(crs), ellipsoidal(crs), exact(crs.axis_info[2].unit_conversion_factor))
    return Stated(crs, unit_of(crs))


def ellipsoidal(crs: pyproj.CRS) -> pyproj.CRS | None:
    """The geographic 3D CRS of ``crs``: heights above its ellipsoid."""
    base = crs.geodetic_crs
    return None if base is None else base.to_3d()


def first(*said: Stated) -> Stated:
    """The first that says a CRS, with heights and their unit of the first that says them."""
    flat = next((s for s in said if s.crs is not None), Stated())
    above = next((s for s in said if s.vertical is not None), Stated())
    unit = next((s.z for s in said if s.z is not None), None)
    return Stated(flat.crs, flat.xy, above.vertical, flat.z or above.z or unit)


def resolved(found: Stated, crs: str | None, vertical: str | None) -> Georeference:
    """Where a cloud lies, by what its sources say and by what the caller says, which counts first.

    ``vertical`` is a CRS of heights, or only their unit: m, ft or ftUS. Raises InputError that names the option where
    something is missing.
    """
    asked = Stated() if crs is None else stated(crs)
    if crs is not None and asked.crs is None:
        raise InputError(f"--crs: {crs[:80]!r} is not a horizontal CRS; expected one such as EPSG:32632")
    flat, xy = (asked.crs, asked.xy) if asked.crs is not None else (found.crs, found.xy)
    if flat is None or xy is None:
        raise InputError("has no CRS; give it with --crs, such as --crs EPSG:7415, and that of heights with --vertical")
    if not flat.is_projected:
        raise InputError(f"--crs: {flat.name} is not projected; points are read in metres, expected a projected CRS")
    upright, z = (asked.vertical, asked.z) if asked.vertical is not None else (found.vertical, found.z)
    if vertical in UNITS:
        z = UNITS[vertical]
    elif vertical is not None:
        said = _vertical(vertical)
        upright, z = said.vertical, said.z
    if z is None and xy != METRE:
        raise InputError(
            "x and y are in feet and the unit of heights is unknown; give it with --vertical m, ft or ftUS, or name"
            " their CRS, such as --vertical EPSG:6360"
        )
    return Georeference(
        crs_name(in_metres(flat)),
        None if upright is None else crs_name(in_metres(upright)),
        xy,
        METRE if z is None else z,
    )


def _vertical(text: str) -> Stated:
    said = stated(text)
    if said.vertical is None and said.crs is not None and said.crs.is_geographic:  # EPSG:4979 comes as its 2D part
        return Stated(vertical=ellipsoidal(said.crs), z=METRE)
    if said.vertical is None:
        raise InputError(
            f"--vertical: {text[:80]!r} is not a CRS of heights; expected one such as EPSG:5773, or m, ft, ftUS"
        )
    return said


def _from_wkt(header: LasHeader) -> Stated:
    data = header.record(*_WKT) or b""
    text = data.split(b"\0")[0].decode("utf-8", "replace").strip()
    return stated(text) if text and len(text) <= 2**16 else Stated()


def _from_keys(header: LasHeader) -> Stated:
    """What GeoKeys say (OGC 19-008r4): 3072 the projected CRS, 3076 its unit, 4096 that of heights, 4099 their unit."""
    keys = _geokeys(header.record(*_KEYS) or b"")
    code = keys.get(3072)
    flat = None if code in (None, 0, _OWN) else stated(f"EPSG:{code}").crs
    if flat is None and keys.get(2048) not in (None, 0, _OWN) and 3072 not in keys:
        flat = stated(f"EPSG:{keys[2048]}").crs
    if code == _OWN and (flat := spelled_out(header)) is not None:
        keys.pop(3076, None)  # its CRS is in that unit
    xy = None if flat is None else _key_unit(keys.get(3076)) or (unit_of(flat) if flat.is_projected else METRE)
    upright = keys.get(4096)
    if upright is not None and upright in _OLD_VERTICAL:
        upright += 600
    above = None if upright in (None, 0, _OWN) else stated(f"EPSG:{upright}").vertical
    return Stated(flat, xy, above, _key_unit(keys.get(4099)) or (None if above is None else unit_of(above)))


def _geokeys(data: bytes) -> dict[int, int]:
    """Keys whose value stands in the directory itself."""
    if len(data) < 8:
        return {}
    count = min(struct.unpack_from("<4H", data)[3], (len(data) - 8) // 8)
    entries = (struct.unpack_from("<4H", data, 8 + 8 * n) for n in range(count))
    return {key: value for key, place, _, value in entries if place == 0}


def _key_unit(code: int | None) -> Fraction | None:
    if code in (None, 0, _OWN):
        return None
    if code in _UNIT_CODES:
        return _UNIT_CODES[code]
    for unit in pyproj.get_units_map(auth_name="EPSG", category="linear").values():
        if unit.code == str(code):
            return Fraction(repr(unit.conv_factor))
    return None


def check_place(crs: str, bounds: tuple[float, float, float, float], item: tuple[float, ...] | None = None) -> None:
    """Raises InputError if points in metres of ``crs`` lie far outside its area of use, or outside their item.

    ``bounds``: left, bottom, right, top; ``item``: west, south, east, north in degrees. Feet that are read as metres,
    and a zone or country by mistake, lie far away; a survey that goes over the edge of a zone does not: what lies
    outside by less than the area's own size is logged as a warning.
    """
    flat = pyproj.CRS.from_user_input(crs)
    to = pyproj.Transformer.from_crs(flat, "EPSG:4326", always_xy=True)
    lon, lat = to.transform((bounds[0] + bounds[2]) / 2, (bounds[1] + bounds[3]) / 2)
    if not (math.isfinite(lon) and math.isfinite(lat)):
        raise InputError(f"by {flat.name} its numbers are nowhere on the Earth; {_WRONG}")
    where = f"by {flat.name} its middle lies at {lon:.2f} E {lat:.2f} N"
    if (area := flat.area_of_use) is not None:
        box = (area.west, area.south, area.east, area.north)
        outside = f"outside of that CRS's area of use ({area.name[:80]}); {_WRONG}"
        if not _near(box, lon, lat, 1.0):
            raise InputError(f"{where}, far {outside}")
        if not _near(box, lon, lat, 0.0):
            log.warning("points: %s, %s if it does not lie there", where, outside)
    if item is not None:
        west, south, east, north = to.transform_bounds(*bounds)
        if west > item[2] + SLACK or item[0] > east + SLACK or south > item[3] + SLACK or item[1] > north + SLACK:
            raise InputError(f"{where}, its item says {', '.join(f'{v:.4f}' for v in item)}; {_WRONG}")


def _near(area: tuple[float, float, float, float], lon: float, lat: float, share: float) -> bool:
    """Whether a place lies in an area, widened on each side by a share of its size, at least half a degree."""
    west, south, east, north = area
    width = (east - west) % 360 or 360
    more = max(0.5, share * width), max(0.5, share * (north - south))
    return (lon - west + more[0]) % 360 <= width + 2 * more[0] and south - more[1] <= lat <= north + more[1]
