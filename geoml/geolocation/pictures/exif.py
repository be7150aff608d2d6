"""What a camera wrote into a picture of place and time, with doubt: EXIF is often absent, wrong or hostile.

Specification: CIPA DC-008 (Exif 2.32), section 4.6.6 for GPS. A position that only the XMP holds is read from there
(`geoml.geolocation.pictures.xmp`), since some drones and editors write it nowhere else.
"""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Rational
from typing import SupportsFloat

from PIL import ExifTags, Image

from geoml.geolocation.pictures import xmp

GPS = ExifTags.GPS
_DEEPEST, _HIGHEST = -12_000.0, 1_000_000.0
"""Metres: below every trench, above every space station."""

_STALE = dt.timedelta(minutes=3)
"""A camera's clock and the satellites agree to this, else they say nothing of the time zone."""


@dataclass(frozen=True, slots=True)
class Exif:
    """Place and time as the file says; None if it does not, or where what it says cannot be.

    ``lon``, ``lat`` are degrees, ``altitude`` metres above sea level, ``time`` is UTC, ``clock`` what the camera's
    clock showed, ``offset`` hours of that clock ahead of UTC. ``problems`` are codes: ``exif_damaged``,
    ``gps_incomplete``, ``gps_not_a_number``, ``gps_out_of_range``, ``gps_zero`` (0, 0: a receiver without a fix),
    ``gps_no_fix``, ``gps_part_unknown`` (minutes or seconds are 0/0 and count as 0), ``gps_of_xmp`` (the position is
    that of the XMP), ``xmp_damaged``, ``gps_altitude``, ``gps_time``, ``time_unreadable``.
    """

    lon: float | None = None
    lat: float | None = None
    altitude: float | None = None
    time: dt.datetime | None = None
    clock: dt.datetime | None = None
    offset: float | None = None
    orientation: int = 1
    problems: tuple[str, ...] = ()


def read_exif(image: Image.Image) -> Exif:
    """The EXIF of an opened picture, and the position of its XMP where the EXIF has none. Never raises: what cannot be
    read is a problem."""
    problems: list[str] = []
    top: dict[int, object] = {}
    inner: dict[int, object] = {}
    gps: dict[int, object] = {}
    try:
        tags = image.getexif()
        inner, gps = dict(tags.get_ifd(ExifTags.IFD.Exif)), dict(tags.get_ifd(ExifTags.IFD.GPSInfo))
        top = dict(tags)
    except Exception:  # Pillow raises what the bytes make it raise
        problems.append("exif_damaged")
    lon, lat = _position(gps, problems)
    if lon is None:
        lon, lat = _of_xmp(image, problems)
    clock, offset, time = _times(top, inner, gps, problems)
    turn = top.get(ExifTags.Base.Orientation, 1)
    return Exif(
        lon=lon,
        lat=lat,
        altitude=_altitude(gps, problems),
        time=time,
        clock=clock,
        offset=offset,
        orientation=turn if isinstance(turn, int) and 1 <= turn <= 8 else 1,
        problems=tuple(problems),
    )


def _of_xmp(image: Image.Image, problems: list[str]) -> tuple[float | None, float | None]:
    try:
        position = xmp.position(xmp.packet(image.info))
    except xmp.DamagedXmp:
        problems.append("xmp_damaged")
        return None, None
    if position is None:
        return None, None
    problem = _wrong(*position)
    problems.append(problem or "gps_of_xmp")
    return (None, None) if problem else (_wrapped(position[0]), position[1])


def _number(value: object) -> float:
    """A rational as a number; NaN for a zero denominator and for what is not a number."""
    try:
        return float(value) if isinstance(value, SupportsFloat | str | bytes) else math.nan
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        return math.nan


def _unknown(value: object) -> bool:
    """Whether a part is 0/0, which is how cameras write a part that they do not have."""
    return isinstance(value, Rational) and value.numerator == 0 and math.isnan(_number(value))


def _parts(values: Sequence[object], problems: list[str]) -> list[float]:
    """Degrees or hours, minutes, seconds; a finer part that is 0/0 counts as 0 and is a problem."""
    finer = [_unknown(v) for v in values[1:]]
    if any(finer) and not _unknown(values[0]) and "gps_part_unknown" not in problems:
        problems.append("gps_part_unknown")
    return [_number(values[0]), *(0.0 if no else _number(v) for v, no in zip(values[1:], finer, strict=True))]


def _position(gps: Mapping[int, object], problems: list[str]) -> tuple[float | None, float | None]:
    if not any(k in gps for k in (GPS.GPSLatitude, GPS.GPSLongitude)):
        return None, None
    odd: list[str] = []
    lat = _angle(gps.get(GPS.GPSLatitude), _text(gps.get(GPS.GPSLatitudeRef)), "N", "S", odd)
    lon = _angle(gps.get(GPS.GPSLongitude), _text(gps.get(GPS.GPSLongitudeRef)), "E", "W", odd)
    if lat is None or lon is None:
        problems.append("gps_incomplete")
        return None, None
    problem = _wrong(lon, lat) or ("gps_no_fix" if _text(gps.get(GPS.GPSStatus)) == "V" else None)
    problems += [problem] if problem else odd
    return (None, None) if problem else (_wrapped(lon), lat)


def _wrong(lon: float, lat: float) -> str | None:
    """The code for degrees that cannot be a position."""
    if not (math.isfinite(lat) and math.isfinite(lon)):
        return "gps_not_a_number"
    if not (abs(lat) <= 90 and abs(lon) <= 180):
        return "gps_out_of_range"
    return "gps_zero" if lat == 0 and lon == 0 else None


def _wrapped(lon: float) -> float:
    return -180.0 if lon == 180 else lon


def _angle(value: object, side: str, plus: str, minus: str, problems: list[str]) -> float | None:
    """Degrees with a sign, None when parts are missing; NaN or far too many where they are none.

    Of the reference its first letter counts: N, n, North. One number alone is degrees.
    """
    values = list(value) if isinstance(value, tuple | list) else [] if value is None else [value]
    if side[:1] not in (plus, minus) or not 1 <= len(values) <= 3:
        return None
    degrees, minutes, seconds = [*_parts(values, problems), 0.0, 0.0][:3]
    if degrees < 0 or not (0 <= minutes <= 60 and 0 <= seconds <= 60):
        return math.nan if any(math.isnan(v) for v in (degrees, minutes, seconds)) else 1e9
    return (degrees + minutes / 60 + seconds / 3600) * (1 if side[:1] == plus else -1)


def _text(value: object) -> str:
    text = value.decode("ascii", "replace") if isinstance(value, bytes) else str(value or "")
    return text.strip("\0 ").upper()


def _altitude(gps: Mapping[int, object], problems: list[str]) -> float | None:
    if GPS.GPSAltitude not in gps:
        return None
    ref = gps.get(GPS.GPSAltitudeRef, b"\0")
    below = ref[:1] in (b"\1", b"\3") if isinstance(ref, bytes) else ref in (1, 3)
    height = _number(gps[GPS.GPSAltitude])
    if below and height > 0:
        height = -height
    if not _DEEPEST <= height <= _HIGHEST:
        problems.append("gps_altitude")
        return None
    return height


def _times(
    top: Mapping[int, object], inner: Mapping[int, object], gps: Mapping[int, object], problems: list[str]
) -> tuple[dt.datetime | None, float | None, dt.datetime | None]:
    """(clock, offset in hours, UTC): satellites first, then the clock with its offset."""
    written = inner.get(ExifTags.Base.DateTimeOriginal, top.get(ExifTags.Base.DateTime))
    clock = _clock(written)
    if clock is None and _text(written).strip(":- 0"):
        problems.append("time_unreadable")
    offset = _offset(inner.get(ExifTags.Base.OffsetTimeOriginal, inner.get(ExifTags.Base.OffsetTime)))
    sky = _sky(gps, problems)
    if clock is not None and sky is not None and offset is None:
        offset = _between(clock, sky)
    if sky is None and clock is not None and offset is not None:
        sky = (clock - dt.timedelta(hours=offset)).replace(tzinfo=dt.UTC)
    return clock, offset, sky


def _clock(value: object) -> dt.datetime | None:
    match = re.fullmatch(r"(\d{4})[:-](\d\d)[:-](\d\d)[ T](\d\d):(\d\d):(\d\d).*", _text(value))
    if match is None or match[1] < "1800":  # an offset taken off the first of January of year 1 leaves the calendar
        return None
    year, month, day, hour, minute, second = map(int, match.groups())
    try:
        return dt.datetime(year, month, day, hour, minute, second)
    except ValueError:
        return None


def _offset(value: object) -> float | None:
    match = re.fullmatch(r"([+-])(\d\d):?(\d\d)|Z", _text(value))
    if match is None:
        return None
    hours = int(match[2] or 0) + int(match[3] or 0) / 60
    return (-hours if match[1] == "-" else hours) if hours <= 14 else None


def _sky(gps: Mapping[int, object], problems: list[str]) -> dt.datetime | None:
    day, at = gps.get(GPS.GPSDateStamp), gps.get(GPS.GPSTimeStamp)
    if day is None or at is None:
        return None
    match = re.fullmatch(r"(\d{4})[:-](\d\d)[:-](\d\d)", _text(day))
    parts = _parts(at, problems) if isinstance(at, tuple | list) and len(at) == 3 else [math.nan]
    if match is None or match[1] < "1980" or not all(0 <= v <= 60 for v in parts):
        problems.append("gps_time")
        return None
    try:
        midnight = dt.datetime(int(match[1]), int(match[2]), int(match[3]), tzinfo=dt.UTC)
        return midnight + dt.timedelta(hours=parts[0], minutes=parts[1], seconds=parts[2])
    except (ValueError, OverflowError):
        problems.append("gps_time")
        return None


def _between(clock: dt.datetime, sky: dt.datetime) -> float | None:
    """Hours of the clock ahead of the satellites, where that is nearly a multiple of a quarter of an hour."""
    ahead = clock.replace(tzinfo=dt.UTC) - sky
    quarters = round(ahead / dt.timedelta(minutes=15))
    if abs(ahead - quarters * dt.timedelta(minutes=15)) > _STALE or abs(quarters) > 56:
        return None
    return quarters / 4
