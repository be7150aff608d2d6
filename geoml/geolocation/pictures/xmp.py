"""The position in a picture's XMP packet, which some drones and editors write without one in the EXIF.

XMP is RDF (ISO 16684-1); ``exif:GPSLatitude`` is ``50,30.25N`` or ``50,30,15N`` (XMP specification, part 2, section
3.3), DJI writes ``drone-dji:GpsLatitude="+50.504"`` and its longitude as ``GpsLongtitude`` too. Names are compared
without their case and namespace, of the packet's own properties only: a place shown in the picture is not its place.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from xml.etree import ElementTree

MAX_BYTES = 4 * 2**20
"""A longer packet is damaged, not read."""

_RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
_LAT, _LON = ("gpslatitude",), ("gpslongitude", "gpslongtitude")
_MARK = r"(?:[\s,:;°º'’′\"”″]|DEG)"
_ANGLE = re.compile(
    rf"([+-]?)(\d{{1,3}}(?:\.\d+)?)(?:{_MARK}+(\d{{1,2}}(?:\.\d+)?))?(?:{_MARK}+(\d{{1,2}}(?:\.\d+)?))?{_MARK}*"
)
_SIDE = {"N": 1, "S": -1, "E": 1, "W": -1}


class DamagedXmp(ValueError):
    """A packet that is not XML, or XML with declarations of its own, which are not followed."""


def packet(info: Mapping[str | tuple[int, int], object]) -> bytes:
    """The XMP packet among what Pillow keeps of a picture; empty if there is none."""
    data = info.get("xmp") or info.get("XML:com.adobe.xmp") or b""
    if isinstance(data, tuple | list):
        data = data[0] if data else b""
    return data.encode("utf-8", "replace") if isinstance(data, str) else data if isinstance(data, bytes) else b""


def position(data: bytes) -> tuple[float, float] | None:
    """(lon, lat) in degrees, NaN where a value is not an angle; None if the packet has no position.

    Raises DamagedXmp.
    """
    values: dict[str, str] = {}
    for name, value in _properties(data):
        values.setdefault(name.rpartition("}")[2].lower(), value)
    lat, lon = (next((values[n] for n in names if n in values), None) for names in (_LAT, _LON))
    return None if lat is None or lon is None else (_degrees(lon, "EW"), _degrees(lat, "NS"))


def _properties(data: bytes) -> Iterator[tuple[str, str]]:
    data = data.strip(b"\0 \t\r\n")
    if not data:
        return
    plain = data.replace(b"\0", b"").lower()  # also of two bytes a letter
    if len(data) > MAX_BYTES or b"<!doctype" in plain or b"<!entity" in plain:
        raise DamagedXmp("too long, or with declarations of its own")
    try:
        tree = ElementTree.fromstring(data)
    except (ElementTree.ParseError, ValueError, LookupError) as err:  # LookupError: an encoding that nobody knows
        raise DamagedXmp(str(err)) from err
    for about in tree.findall(f".//{_RDF}RDF/{_RDF}Description") or tree.findall(f"{_RDF}Description"):
        yield from about.attrib.items()
        for child in about:
            yield child.tag, child.text or ""


def _degrees(text: str, sides: str) -> float:
    """Degrees of ``+50.504``, ``50.504N``, ``50,30.25N``, ``50,30,15N`` or ``50 deg 30' 15" N``; else NaN."""
    text = text.strip().upper()
    side = text[-1:] if text[-1:] in sides else ""
    match = _ANGLE.fullmatch(text.removesuffix(side))
    if match is None or not text:
        return math.nan
    degrees, minutes, seconds = (float(v or 0) for v in match.groups()[1:])
    if minutes > 60 or seconds > 60 or (side and match[1]):
        return math.nan
    sign = -1 if match[1] == "-" else 1
    return (degrees + minutes / 60 + seconds / 3600) * sign * _SIDE.get(side, 1)
