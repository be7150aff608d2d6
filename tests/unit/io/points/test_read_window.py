"""Points by window: laspy's columns, half-open cells, one order whatever the files."""

from __future__ import annotations

from dataclasses import fields
from fractions import Fraction
from pathlib import Path

import laspy
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geoml.errors import InputError
from geoml.io.points.cloud import Cloud, joined
from geoml.io.points.lattice import axis
from geoml.io.points.read import read_window
from geoml.io.points.source import open_source
from tests.made_clouds import las_bytes, made_points, write_las

ALL = (499_000.0, 4_999_000.0, 501_000.0, 5_001_000.0)
VERSIONS = [("1.2", n) for n in range(4)] + [("1.3", n) for n in (4, 5)] + [("1.4", n) for n in range(11)]
FILES = [(v, n, c) for v, n in VERSIONS for c in (True, False) if not (c and n in (4, 5, 9, 10))]
"""lazrs writes no waveforms."""


def same(one: Cloud, other: Cloud) -> bool:
    return all(np.array_equal(getattr(one, f.name), getattr(other, f.name)) for f in fields(Cloud))


@pytest.mark.parametrize(("version", "point_format", "compressed"), FILES)
def test_every_format_is_read_as_laspy_reads_it(
    tmp_path: Path, version: str, point_format: int, compressed: bool
) -> None:
    path = tmp_path / "made.laz"
    crs = "EPSG:32632" if point_format > 5 else None
    write_las(path, version=version, point_format=point_format, compressed=compressed, crs=crs)
    source = open_source(str(path), "EPSG:32632")
    cloud = read_window([source], ALL)
    las = laspy.read(path)
    kept = (np.asarray(las.withheld) == 0) & (np.asarray(las.classification) != 7)
    order = np.lexsort((las.x, las.y))
    order = order[kept[order]]
    assert (source.count, source.crs, source.vertical) == (len(las), "EPSG:32632", None)
    np.testing.assert_array_equal(cloud.y, np.round(las.y, 2)[order])
    np.testing.assert_array_equal(cloud.x, np.round(las.x, 2)[order])
    np.testing.assert_array_equal(cloud.z, np.round(las.z, 2)[order])
    for name, theirs in (
        ("classification", las.classification),
        ("returned", las.return_number),
        ("returns", las.number_of_returns),
        ("intensity", las.intensity),
        ("synthetic", las.synthetic),
    ):
        np.testing.assert_array_equal(getattr(cloud, name), np.asarray(theirs)[order])


def test_windows_share_no_point_and_lose_none(tmp_path: Path) -> None:
    path = tmp_path / "made.laz"
    write_las(path, scales=(1.0, 1.0, 0.01))  # each point lies on the edges of cells
    source = open_source(str(path))
    whole = read_window([source], ALL)
    parts = [
        read_window([source], (x, y, x + 10.0, y + 10.0))
        for x in np.arange(500_000.0, 500_110, 10)
        for y in np.arange(4_999_990.0, 5_000_110, 10)
    ]
    assert sum(map(len, parts)) == len(whole) > 300
    assert same(joined(parts), whole)
    for part in parts[:3]:
        assert len({(np.floor(x / 10), np.floor(-y / 10)) for x, y in zip(part.x, part.y, strict=True)}) <= 1


def test_the_order_of_files_and_a_file_named_twice_change_nothing(tmp_path: Path) -> None:
    paths = [tmp_path / f"{n}.laz" for n in range(3)]
    for n, path in enumerate(paths):
        path.write_bytes(las_bytes(made_points(200, n), scales=(1.0, 1.0, 1.0), offsets=(n * 7.0, 3.0, 0.0)))
    sources = [open_source(str(p)) for p in paths]
    whole = read_window(sources, ALL)
    assert same(whole, read_window(sources[::-1], ALL))
    assert same(whole, read_window([*sources, sources[1]], ALL))
    order = np.lexsort((whole.returned, whole.classification, whole.z, whole.x, whole.y))
    assert np.array_equal(order, np.arange(len(whole)))


def test_sources_in_two_systems_are_refused(tmp_path: Path) -> None:
    for zone in (32, 33):
        write_las(tmp_path / f"{zone}.laz", crs=f"EPSG:326{zone}")
    sources = [open_source(str(tmp_path / f"{zone}.laz")) for zone in (32, 33)]
    with pytest.raises(InputError, match=r"crs differs .EPSG:32632, EPSG:32633"):
        read_window(sources, ALL)


@given(
    integer=st.integers(-(2**31), 2**31 - 1),
    scale=st.sampled_from([0.1, 0.01, 0.001, 0.0001, 1e-7, 0.00025, 1 / 3]),
    offset=st.one_of(st.integers(-(10**7), 10**7).map(float), st.sampled_from([0.5, 1234.56, -0.0])),
    factor=st.sampled_from([Fraction(1), Fraction(1200, 3937), Fraction(3048, 10000)]),
)
def test_metres_are_the_decimal_numbers_of_the_header(
    integer: int, scale: float, offset: float, factor: Fraction
) -> None:
    exact = (integer * Fraction(repr(scale)) + Fraction(repr(offset))) * factor
    metres = axis(scale, offset, factor).metres(np.array([integer], np.int32))[0]
    assert abs(Fraction(float(metres)) - exact) <= 3 * Fraction(
        float(np.spacing(max(abs(offset), abs(float(exact)), 1)))
    )


def test_a_place_has_one_number_whatever_the_offset_of_its_file() -> None:
    near = axis(0.001, 85_064.0, Fraction(1)).metres(np.array([17], np.int32))
    far = axis(0.001, 0.0, Fraction(1)).metres(np.array([85_064_017], np.int32))
    assert near[0] == far[0] == 85_064.017
