"""Spellings of a CRS: what means the same puts the same pixels in the same places; PROJ and GDAL are the oracle."""

from __future__ import annotations

import json
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pyproj
import pytest
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from geoml.io.crs import aligned, crs_name, on_earth, parse_crs, pixel_offset

_spec = spec_from_file_location("crs_spellings", Path(__file__).with_name("crs_spellings.py"))
assert _spec is not None
assert _spec.loader is not None
_spellings = module_from_spec(_spec)
_spec.loader.exec_module(_spellings)
spellings = _spellings.spellings


ALBERS = "+proj=aea +lat_0=40 +lon_0=-96 +lat_1=50 +lat_2=70 +datum=NAD83"


def test_names_of_one_crs() -> None:
    for text in (
        "OGC:CRS84",
        "EPSG:4326",
        "EPSG:4979",
        "WGS84",
        pyproj.CRS("OGC:CRS84").to_wkt(),
        "+proj=longlat +datum=WGS84",
    ):
        crs = parse_crs(text)
        assert crs is not None
        assert crs_name(crs) == "EPSG:4326", text


def box_of(zone: int, south: bool, res: float) -> GeoBox:
    north = 6_000_000 if south else 4_000_000
    return GeoBox((500, 400), Affine(res, 0, 400_000, 0, -res, north), f"EPSG:{(32700 if south else 32600) + zone}")


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 60), st.booleans(), st.sampled_from([0.5, 10.0, 30.0]), st.integers(0, 17), st.integers(0, 17))
def test_spellings_of_one_zone_are_one_crs(zone, south, res, one, two) -> None:
    box = box_of(zone, south, res)
    first, second = (parse_crs(spellings(zone, south)[k]) for k in (one, two))
    assert first is not None
    assert second is not None
    assert pixel_offset(first, second, box) < 1e-3
    assert crs_name(first) == crs_name(second) == str(box.crs)
    assert aligned(GeoBox(box.shape, box.affine, first), str(box.crs)).crs == box.crs


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 60), st.booleans(), st.integers(1, 60), st.booleans(), st.integers(0, 17))
def test_another_zone_is_another_crs(zone, south, other, side, k) -> None:
    if (zone, south) == (other, side):
        return
    box = box_of(zone, south, 30.0)
    said = parse_crs(spellings(other, side)[k])
    assert said is not None
    assert pixel_offset(said, pyproj.CRS.from_user_input(str(box.crs)), box) > 1000
    assert aligned(box, crs_name(said)) == box


@pytest.mark.parametrize(
    ("said", "real", "affine", "same"),
    [
        ("OGC:CRS84", "EPSG:4326", Affine(1e-4, 0, -56, 0, -1e-4, -25), True),
        ("EPSG:4979", "EPSG:4326", Affine(1e-4, 0, 304, 0, -1e-4, -25), True),
        ("EPSG:26915", "EPSG:32615", Affine(10, 0, 5e5, 0, -10, 4.5e6), True),  # NAD 83: no known difference
        ("EPSG:26715", "EPSG:26915", Affine(10, 0, 5e5, 0, -10, 4.5e6), False),  # NAD 27: 200 m
        ("EPSG:23032", "EPSG:32632", Affine(30, 0, 5e5, 0, -30, 5e6), False),  # ED 50
        ("ESRI:102001", ALBERS, Affine(30, 0, 0, 0, -30, 0), True),
        ("EPSG:3857", "EPSG:3395", Affine(10, 0, 0, 0, -10, 5e6), False),
        ("EPSG:4326", "EPSG:32632", Affine(10, 0, 5e5, 0, -10, 5e6), False),
    ],
)  # fmt: skip
def test_equal_is_what_puts_pixels_on_the_same_places(said: str, real: str, affine: Affine, same: bool) -> None:
    box = GeoBox((300, 300), affine, real)
    assert (pixel_offset(pyproj.CRS(said), pyproj.CRS(real), box) <= 0.5) is same


@settings(max_examples=150, deadline=None)
@given(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=30), st.lists(st.integers(), max_size=3),
        st.dictionaries(st.text(max_size=8), st.one_of(st.text(max_size=8), st.integers(), st.none()), max_size=4),
    )
)  # fmt: skip
def test_any_value_is_a_crs_or_none(value) -> None:
    found = parse_crs(value)
    assert found is None or isinstance(found, pyproj.CRS)


@pytest.mark.parametrize(
    "value",
    ["EPSG:None", "None", "null", "", "EPSG:0", "EPSG:999999", "local", "+init=/etc/x:1", {"type": "GeographicCRS"},
     "A" * 200_000, "PROJCS[", "{", float("nan"), True, json.dumps({"a": 1}), "UTM / zone", -1],
)  # fmt: skip
def test_what_means_no_crs(value: object) -> None:
    assert parse_crs(value) is None


@pytest.mark.parametrize(
    ("crs", "corner", "there"),
    [
        ("IAU_2015:49900", (10, 10), False),
        ("+proj=longlat +R=1737400 +no_defs", (10, 10), False),
        ("+proj=eqc +R=3396190 +units=m", (0, 0), False),
        ('LOCAL_CS["unnamed",UNIT["metre",1]]', (600_000, 7_200_000), False),
        ("EPSG:5773", (10, 10), False),
        ("EPSG:4978", (10, 10), False),
        ("EPSG:4326", (600_000, 7_200_000), False),  # metres that are called degrees
        ("EPSG:32632", (5e14, 5e14), False),
        ("+proj=longlat +R=6371000 +no_defs", (10, 10), True),
        ("+proj=geos +h=35785831 +lon_0=0 +ellps=GRS80", (-64, 64), True),
    ],
)
def test_what_lies_on_the_earth(crs: str, corner: tuple[float, float], there: bool) -> None:
    assert on_earth(GeoBox((128, 128), Affine(1, 0, corner[0], 0, -1, corner[1]), crs)) is there
