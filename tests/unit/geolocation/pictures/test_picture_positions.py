"""Positions that cameras, drones and editors write: unknown parts, references in words, XMP; and any bytes."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image
from PIL.TiffImagePlugin import IFDRational as R

from geoml.geolocation.pictures import decode as photos
from geoml.geolocation.pictures import xmp
from geoml.geolocation.pictures.exif import Exif

GPS = ExifTags.GPS
NONE = R(0, 0)
RDF = 'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"'
SPACES = (
    'xmlns:exif="http://ns.adobe.com/exif/1.0/" xmlns:drone-dji="http://www.dji.com/drone-dji/1.0/" '
    'xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"'
)


def read(kind: str = "JPEG", gps: dict[int, Any] | None = None, **options: Any) -> Exif:
    tags = Image.Exif()
    tags.get_ifd(0x8825).update(gps or {})
    file = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), 128, np.uint8)).save(file, kind, exif=tags.tobytes(), **options)
    return photos.read(file.getvalue()).exif


def place(lat: Any, lon: Any, north: Any = "N", east: Any = "E") -> dict[int, Any]:
    return {GPS.GPSLatitudeRef: north, GPS.GPSLatitude: lat, GPS.GPSLongitudeRef: east, GPS.GPSLongitude: lon}


def packet(attributes: str = "", children: str = "") -> bytes:
    inside = f"<rdf:Description rdf:about='' {SPACES} {attributes}>{children}</rdf:Description>"
    return f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF {RDF}>{inside}</rdf:RDF></x:xmpmeta>'.encode()


@pytest.mark.parametrize(
    ("lat", "lon", "where"),
    [
        ((R(50), R(30), NONE), (R(14), R(24), NONE), (50.5, 14.4)),
        ((R(50), NONE, NONE), (R(14), R(24), R(0)), (50.0, 14.4)),
        ((R(50), NONE), (R(14), R(24), R(36)), (50.0, 14.41)),
        ((R(505, 10), NONE, R(0)), (R(14), NONE, NONE), (50.5, 14.0)),
    ],
)
def test_a_part_that_is_not_known_counts_as_none_of_it_and_is_said(lat, lon, where):
    found = read(gps=place(lat, lon))
    assert (found.lat, found.lon) == pytest.approx(where)
    assert found.problems == ("gps_part_unknown",)


def test_degrees_that_are_not_known_are_no_position():
    found = read(gps=place((NONE, R(30), R(0)), (R(14), R(24), R(0))))
    assert (found.lon, found.problems) == (None, ("gps_not_a_number",))


def test_a_time_without_its_seconds_is_a_time():
    gps = place((R(50), R(30), R(0)), (R(14), R(24), R(0)))
    found = read(gps={**gps, GPS.GPSDateStamp: "2024:05:06", GPS.GPSTimeStamp: (R(7), R(8), NONE)})
    assert found.time is not None
    assert (found.time.hour, found.time.minute, found.time.second) == (7, 8, 0)
    assert found.problems == ("gps_part_unknown",)


@pytest.mark.parametrize(("north", "east"), [("North", "East"), ("n", "e"), ("N ", " E"), ("NORTH\0", "east ")])
def test_the_first_letter_of_a_reference_counts(north, east):
    found = read(gps=place((R(50), R(30), R(0)), (R(14), R(24), R(0)), north, east))
    assert (found.lat, found.lon, found.problems) == (50.5, 14.4, ())
    south = read(gps=place((R(50), R(30), R(0)), (R(14), R(24), R(0)), "south", "West"))
    assert (south.lat, south.lon) == (-50.5, -14.4)


@pytest.mark.parametrize(
    "data",
    [
        packet('drone-dji:GpsLatitude="-33.25" drone-dji:GpsLongitude="+151.5"'),
        packet('drone-dji:GpsLatitude="-33.25" drone-dji:GpsLongtitude="+151.5"'),
        packet('drone-dji:GPSLatitude="-33.25" drone-dji:GPSLongtitude="+151.5"'),
        packet('exif:GPSLatitude="33,15.0S" exif:GPSLongitude="151,30.0E"'),
        packet('exif:GPSLatitude="33,15,0S" exif:GPSLongitude="151,30,0E"'),
        packet("", "<exif:GPSLatitude>33,15.0S</exif:GPSLatitude><exif:GPSLongitude>151,30.0E</exif:GPSLongitude>"),
        packet('exif:GPSLatitude="33.25S"', "<exif:GPSLongitude>151.5E</exif:GPSLongitude>"),
        b'<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?>'
        + packet('drone-dji:GpsLatitude="-33.25" drone-dji:GpsLongitude="151.5"')
        + b" " * 500
        + b'<?xpacket end="w"?>',
    ],
)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_a_position_that_only_the_xmp_holds(data, kind):
    if kind == "PNG":
        from PIL.PngImagePlugin import PngInfo

        info = PngInfo()
        info.add_itxt("XML:com.adobe.xmp", data.decode())
        found = read("PNG", pnginfo=info)
    elif kind == "TIFF":
        found = read("TIFF", tiffinfo={700: data})
    else:
        found = read(kind, xmp=data)
    assert (found.lat, found.lon) == pytest.approx((-33.25, 151.5))
    assert found.problems == ("gps_of_xmp",)


def test_the_exif_comes_first_and_its_fault_stays_said():
    data = packet('drone-dji:GpsLatitude="-33.25" drone-dji:GpsLongitude="151.5"')
    both = read(gps=place((R(50), R(0), R(0)), (R(14), R(0), R(0))), xmp=data)
    assert (both.lat, both.lon, both.problems) == (50, 14, ())
    zero = read(gps=place((R(0), R(0), R(0)), (R(0), R(0), R(0))), xmp=data)
    assert (zero.lat, zero.problems) == (-33.25, ("gps_zero", "gps_of_xmp"))


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (packet('drone-dji:GpsLatitude="0.0" drone-dji:GpsLongitude="0.0"'), ("gps_zero",)),
        (packet('drone-dji:GpsLatitude="95" drone-dji:GpsLongitude="0.0"'), ("gps_out_of_range",)),
        (packet('exif:GPSLatitude="here" exif:GPSLongitude="there"'), ("gps_not_a_number",)),
        (packet('exif:GPSLatitude="33.25W" exif:GPSLongitude="151.5N"'), ("gps_not_a_number",)),
        (packet('exif:GPSLatitude="33.25S"'), ()),
        (b"<x:xmpmeta", ("xmp_damaged",)),
        (b'<!DOCTYPE a [<!ENTITY b "bb"><!ENTITY c "&b;&b;">]><a>&c;</a>', ("xmp_damaged",)),
        ('<?xml version="1.0" encoding="utf-16"?><!DOCTYPE a><a/>'.encode("utf-16"), ("xmp_damaged",)),
        (b'<?xml version="1.0" encoding="nobody-knows"?><a/>', ("xmp_damaged",)),
        (b"", ()),
    ],
)
def test_what_is_no_position_is_none_and_said(data, problem):
    found = read(xmp=data)
    assert (found.lon, found.problems) == (None, problem)


def test_the_place_of_what_is_shown_is_not_the_place_of_the_picture():
    shown = (
        "<Iptc4xmpExt:LocationShown><rdf:Bag><rdf:li rdf:parseType='Resource'><exif:GPSLatitude>1,0N</exif:GPSLatitude>"
        "<exif:GPSLongitude>2,0E</exif:GPSLongitude></rdf:li></rdf:Bag></Iptc4xmpExt:LocationShown>"
    )
    assert xmp.position(packet("", shown)) is None


@given(st.floats(-90, 90), st.floats(-180, 179.99), st.integers(0, 3))
def test_any_position_comes_back_in_every_spelling(lat, lon, spelling):
    def told(value: float, plus: str, minus: str) -> str:
        side, v = (plus if value >= 0 else minus), abs(value)
        minutes = v % 1 * 60
        whole = [f"{value:+.7f}", f"{v:.7f}{side}", f"{int(v)},{minutes:.7f}{side}",
                 f"{int(v)},{int(minutes)},{minutes % 1 * 60:.5f}{side}"]  # fmt: skip
        return whole[spelling]

    data = packet(f'exif:GPSLatitude="{told(lat, "N", "S")}" exif:GPSLongitude="{told(lon, "E", "W")}"')
    assert xmp.position(data) == pytest.approx((lon, lat), abs=1e-6)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=300), st.text(max_size=40), st.text(max_size=40), st.integers(0, 400))
def test_any_xmp_is_a_position_or_a_problem(junk, one, other, at):
    whole = packet(f'exif:GPSLatitude="{one.translate({34: None})}" exif:GPSLongitude="{other.translate({34: None})}"')
    for data in (junk, whole, whole[:at] + junk + whole[at:]):
        try:
            found = xmp.position(data)
        except xmp.DamagedXmp:
            continue
        assert found is None or len(found) == 2


_RATIONAL = st.builds(R, st.integers(0, 2**32 - 1), st.sampled_from([0, 1, 10, 2**32 - 1]))
_VALUE = st.one_of(
    _RATIONAL, st.tuples(_RATIONAL), st.tuples(_RATIONAL, _RATIONAL), st.tuples(_RATIONAL, _RATIONAL, _RATIONAL)
)
_REF = st.one_of(st.sampled_from(["N", "S", "E", "W", "", "?"]), st.text(st.characters(max_codepoint=127), max_size=6))


@settings(max_examples=150, deadline=None)
@given(_VALUE, _VALUE, _REF, _REF)
def test_any_numbers_of_the_exif_are_a_position_or_a_problem(lat, lon, north, east):
    found = read(gps=place(lat, lon, north, east))
    assert (found.lon is None) == (found.lat is None)
    if found.lon is None or found.lat is None:
        assert found.problems
    else:
        assert -180 <= found.lon < 180
        assert -90 <= found.lat <= 90
