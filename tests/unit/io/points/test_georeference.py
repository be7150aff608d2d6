"""Where clouds lie: WKT, GeoKeys and options, feet exactly, and no guess."""

from __future__ import annotations

import logging
import os
import struct
from fractions import Fraction
from pathlib import Path

import numpy as np
import pyproj
import pytest
import rasterio
from affine import Affine
from PIL import Image

from geoml.errors import InputError
from geoml.io.points import georeference
from geoml.io.points.georeference import US_FOOT, Stated, check_place, resolved, stated
from geoml.io.points.read import read_window
from geoml.io.points.source import open_source
from tests.made_clouds import las_bytes, made_points, with_record

DATA = Path(os.environ.get("GEOML_DATA", "")) / "elevation" / "lidar_small"


def keys(*entries: tuple[int, int]) -> bytes:
    """A directory of GeoKeys with short values."""
    rows = b"".join(struct.pack("<4H", key, 0, 1, value) for key, value in sorted(entries))
    return struct.pack("<4H", 1, 1, 0, len(entries)) + rows


def with_keys(path: Path, *entries: tuple[int, int], x: float = 0.0, y: float = 0.0) -> Path:
    columns = made_points(50)
    columns["x"], columns["y"] = columns["x"] - 500_000 + x, columns["y"] - 5_000_000 + y
    plain = las_bytes(columns, "1.2", 1, crs=None, compressed=False, offsets=(x, y, 0.0))
    path.write_bytes(with_record(plain, "LASF_Projection", 34735, keys(*entries)))
    return path


def test_geokeys_say_both_units_and_the_heights(tmp_path: Path) -> None:
    path = with_keys(
        tmp_path / "a.las", (3072, 2903), (3076, 9003), (4096, 5103), (4099, 9003), x=1_639_600.0, y=1.4545e6
    )
    source = open_source(str(path))
    assert (source.crs, source.vertical) == ("EPSG:2826", "EPSG:5703")
    assert (source.xy, source.z) == (US_FOOT, US_FOOT)
    cloud = read_window([source], (0, 0, 1e6, 1e6))
    x, y = pyproj.Transformer.from_crs("EPSG:2903", "EPSG:2826", always_xy=True).transform(
        cloud.x / (1200 / 3937), cloud.y / (1200 / 3937)
    )
    np.testing.assert_allclose(cloud.x, x, atol=1e-3)
    np.testing.assert_allclose(cloud.y, y, atol=1e-3)
    assert cloud.z.max() <= 120 * 1200 / 3937


def test_a_unit_beside_a_crs_in_metres_counts(tmp_path: Path) -> None:
    """As mvk-thin.las has it: EPSG:26995, which is in metres, with numbers in feet."""
    path = with_keys(tmp_path / "a.las", (3072, 26995), (3076, 9003), (4099, 9003), x=2_045_000.0, y=1_267_500.0)
    source = open_source(str(path))
    to = pyproj.Transformer.from_crs(source.crs, "EPSG:4326", always_xy=True)
    lon, lat = to.transform(source.bounds[0], source.bounds[1])
    assert (round(lon, 1), round(lat, 1)) == (-91.2, 33.0)
    with pytest.raises(InputError, match=r"area of use.*--crs"):
        open_source(str(path), crs="EPSG:26995")  # whoever says metres puts it into the north-east


def test_the_wkt_wins_where_the_header_says_so(tmp_path: Path) -> None:
    file = with_record(las_bytes(made_points(9), crs="EPSG:32632"), "LASF_Projection", 34735, keys((3072, 32633)))
    for encoding, code in ((16, 32632), (0, 32633)):
        changed = bytearray(file)
        struct.pack_into("<H", changed, 6, encoding)
        path = tmp_path / "wkt.laz"
        path.write_bytes(changed)
        assert open_source(str(path)).crs == f"EPSG:{code}"


def test_no_crs_names_the_option(tmp_path: Path) -> None:
    path = tmp_path / "a.laz"
    path.write_bytes(las_bytes(made_points(9), "1.2", 1, crs=None))
    with pytest.raises(InputError, match=r"a\.laz: has no CRS; give it with --crs") as raised:
        open_source(str(path))
    assert "--vertical" in str(raised.value)
    source = open_source(str(path), "EPSG:32632+5773")
    assert (source.crs, source.vertical) == ("EPSG:32632", "EPSG:5773")
    assert open_source(str(path), "EPSG:32632").vertical is None  # unknown stays unknown


def test_feet_without_a_word_on_heights_are_refused(tmp_path: Path) -> None:
    path = with_keys(tmp_path / "a.las", (3072, 2903), x=1_639_600.0, y=1_454_500.0)
    with pytest.raises(InputError, match="the unit of heights is unknown; give it with --vertical"):
        open_source(str(path))
    assert open_source(str(path), vertical="m").z == 1
    assert open_source(str(path), vertical="ft").z == Fraction(3048, 10000)
    source = open_source(str(path), vertical="EPSG:6360")
    assert (source.vertical, source.z) == ("EPSG:5703", US_FOOT)


@pytest.mark.parametrize("units", ["m", "us-ft"])
def test_keys_that_spell_out_a_projection_are_read(tmp_path: Path, units: str) -> None:
    """As GDAL writes them into a TIFF for a CRS without a code."""
    text = f"+proj=tmerc +lat_0=40 +lon_0=-100 +k=0.9999 +x_0=300000 +y_0=0 +datum=NAD83 +units={units} +type=crs"
    with rasterio.open(
        tmp_path / "a.tif",
        "w",
        driver="GTiff",
        width=1,
        height=1,
        count=1,
        dtype="uint8",
        crs=text,
        transform=Affine(2, 0, 7, 0, -2, 9),
    ) as file:
        file.write(np.zeros((1, 1, 1), np.uint8))
    with Image.open(tmp_path / "a.tif") as picture:
        tags = dict(picture.tag_v2)
    directory = struct.pack(f"<{len(tags[34735])}H", *tags[34735])
    numbers = struct.pack(f"<{len(tags[34736])}d", *tags[34736])
    columns = made_points(50)
    columns["x"], columns["y"] = columns["x"] + 300_000, columns["y"] - 4_800_000
    las = las_bytes(columns, "1.2", 1, crs=None, compressed=False)
    las = with_record(las, "LASF_Projection", 34735, directory)
    las = with_record(las, "LASF_Projection", 34736, numbers)
    (tmp_path / "a.las").write_bytes(with_record(las, "LASF_Projection", 34737, tags[34737].encode() + b"\0"))
    source = open_source(str(tmp_path / "a.las"), vertical="m")
    assert source.xy == (1 if units == "m" else US_FOOT)
    ours = pyproj.Transformer.from_crs(source.crs, "EPSG:4269", always_xy=True)
    x, y = source.bounds[0], source.bounds[1]
    unit = float(source.xy)
    expected = pyproj.Transformer.from_crs(text, "EPSG:4269", always_xy=True).transform(x / unit, y / unit)
    np.testing.assert_allclose(ours.transform(x, y), expected, atol=1e-9)


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:4979", "EPSG:4978"])
def test_degrees_are_refused(crs: str) -> None:
    with pytest.raises(InputError, match="not projected"):
        resolved(stated(crs), None, None)


def test_options_that_are_no_crs_are_refused() -> None:
    with pytest.raises(InputError, match="--crs: 'nonsense' is not a horizontal CRS"):
        resolved(Stated(), "nonsense", None)
    with pytest.raises(InputError, match="--vertical: 'EPSG:32632' is not a CRS of heights"):
        resolved(stated("EPSG:32632"), None, "EPSG:32632")


@pytest.mark.parametrize(
    ("feet", "metres"),
    [("EPSG:2255", "EPSG:26995"), ("EPSG:2903", "EPSG:2826"), ("EPSG:2992", "EPSG:2991"), ("EPSG:6441", "EPSG:6440")],
)
def test_a_crs_in_feet_becomes_its_twin_in_metres(feet: str, metres: str) -> None:
    where = resolved(stated(feet), None, "m")
    assert where.crs == metres
    area = pyproj.CRS(feet).area_of_use
    assert area is not None
    lon, lat = (area.west + area.east) / 2, (area.south + area.north) / 2
    one = pyproj.Transformer.from_crs("EPSG:4269", feet, always_xy=True).transform(lon, lat)
    two = pyproj.Transformer.from_crs("EPSG:4269", metres, always_xy=True).transform(lon, lat)
    np.testing.assert_allclose(np.array(one) * float(where.xy), two, atol=2e-3)


def test_a_crs_in_feet_without_a_code_keeps_its_projection() -> None:
    text = "+proj=tmerc +lat_0=40 +lon_0=-100 +k=1 +x_0=304800 +y_0=0 +datum=NAD83 +units=us-ft +type=crs"
    where = resolved(stated(text), None, "m")
    lonlat = pyproj.Transformer.from_crs("EPSG:4269", text, always_xy=True).transform(-99, 41)
    ours = pyproj.Transformer.from_crs("EPSG:4269", where.crs, always_xy=True).transform(-99, 41)
    np.testing.assert_allclose(np.array(lonlat) * 1200 / 3937, ours, atol=1e-6)


def test_a_cloud_over_the_edge_of_a_zone_is_told_and_one_far_away_refused(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, georeference.__name__):
        check_place("EPSG:32632", (500_000, 5_000_000, 500_100, 5_000_100))
        assert not caplog.records
        check_place("EPSG:32632", (850_000, 5_000_000, 850_100, 5_000_100))
    assert "outside of that CRS's area of use" in caplog.text
    with pytest.raises(InputError, match="far outside"):
        check_place("EPSG:32632", (1_800_000, 5_000_000, 1_800_100, 5_000_100))
    with pytest.raises(InputError, match="nowhere on the Earth"):
        check_place("EPSG:32632", (1e11, 1e11, 1e11, 1e11))


def test_a_cloud_beside_its_item_is_refused() -> None:
    bounds = (500_000.0, 5_000_000.0, 500_100.0, 5_000_100.0)
    check_place("EPSG:32632", bounds, (9.0, 45.15, 9.1, 45.16))
    with pytest.raises(InputError, match="its item says"):
        check_place("EPSG:32632", bounds, (10.0, 45.15, 10.1, 45.16))


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "crs", "vertical", "xy", "z"),
    [
        ("mvk-thin.las", "EPSG:26995", None, US_FOOT, US_FOOT),
        ("4_6_crop.las", "EPSG:2826", "EPSG:5703", US_FOOT, US_FOOT),
        ("coromandel_points_test.laz", "EPSG:2193", "EPSG:7839", Fraction(1), Fraction(1)),
        ("1.2-with-color.copc.laz", "EPSG:2991", "EPSG:5703", Fraction(1), US_FOOT),
    ],
)
def test_real_files_say_where_they_lie(name: str, crs: str, vertical: str | None, xy: Fraction, z: Fraction) -> None:
    source = open_source(str(DATA / name))
    assert (source.crs, source.vertical, source.xy, source.z) == (crs, vertical, xy, z)


@pytest.mark.data
def test_mississippi_is_in_mississippi_and_an_empty_wkt_is_no_crs() -> None:
    source = open_source(str(DATA / "mvk-thin.las"))
    to = pyproj.Transformer.from_crs(source.crs, "EPSG:4326", always_xy=True)
    west, south, east, north = to.transform_bounds(*source.bounds)
    assert (west > -91.65) & (east < -88) & (south > 30) & (north < 35)
    with pytest.raises(InputError, match="--crs"):
        open_source(str(DATA / "warsaw_small.las"))
    warsaw = read_window([open_source(str(DATA / "warsaw_small.las"), "EPSG:2180")], (0, 0, 1e6, 1e6))
    assert int(warsaw.synthetic.sum()) == 2567
