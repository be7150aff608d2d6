"""Classes go back into a file and nothing else changes; new files lie where they should."""

from __future__ import annotations

import os
from pathlib import Path

import laspy
import numpy as np
import pytest

from geoml.errors import DataError, InputError
from geoml.io.points.cloud import Cloud
from geoml.io.points.read import read_window
from geoml.io.points.source import open_source
from geoml.io.points.write import write_classes, write_cloud
from tests.made_clouds import las_bytes, made_points, write_las
from tests.made_octrees import write_copc
from tests.unit.io.points.test_read_window import ALL, same

DATA = Path(os.environ.get("GEOML_DATA", "")) / "elevation"


def compared(before: Path, after: Path, classes: np.ndarray) -> None:
    """Every dimension but the class, and every record of the header, are as they were."""
    one, two = laspy.read(before), laspy.read(after)
    assert list(one.point_format.dimension_names) == list(two.point_format.dimension_names)
    for name in one.point_format.dimension_names:
        expected = classes if name == "classification" else one[name]
        np.testing.assert_array_equal(np.asarray(two[name]), np.asarray(expected))
    own = ("laszip encoded", "copc")
    kept = [(r.user_id, r.record_id, r.record_data_bytes()) for r in one.vlrs if r.user_id not in own]
    assert kept == [(r.user_id, r.record_id, r.record_data_bytes()) for r in two.vlrs if r.user_id not in own]
    assert two.header.are_points_compressed


@pytest.mark.parametrize(("version", "point_format"), [("1.2", 3), ("1.4", 7)])
def test_only_the_classes_change(tmp_path: Path, version: str, point_format: int) -> None:
    before, after = tmp_path / "a.laz", tmp_path / "b.laz"
    write_las(before, version=version, point_format=point_format, crs="EPSG:32632" if version == "1.4" else None)
    source = open_source(str(before), "EPSG:32632")
    classes = np.random.default_rng(1).integers(0, 32, 500).astype(np.uint8)
    write_classes(source, classes, after)
    compared(before, after, classes)


def test_a_function_sees_every_point_in_the_order_of_the_file(tmp_path: Path) -> None:
    columns = write_las(tmp_path / "a.laz")
    source, seen = open_source(str(tmp_path / "a.laz")), []

    def classify(cloud: Cloud) -> np.ndarray:
        seen.append(cloud)
        return np.where(cloud.z > 110, 5, 2).astype(np.uint8)

    write_classes(source, classify, tmp_path / "b.laz")
    np.testing.assert_array_equal(np.concatenate([c.x for c in seen]), columns["x"])
    compared(tmp_path / "a.laz", tmp_path / "b.laz", np.where(columns["z"] > 110, 5, 2))


def test_a_copc_becomes_a_plain_file(tmp_path: Path) -> None:
    write_las(tmp_path / "a.laz")
    write_copc(tmp_path / "a.copc.laz", tmp_path / "a.laz", per_node=50, levels=3)
    source = open_source(str(tmp_path / "a.copc.laz"))
    write_classes(source, lambda cloud: np.full(len(cloud), 2, np.uint8), tmp_path / "b.laz")
    after = open_source(str(tmp_path / "b.laz"))
    assert (after.kind, after.count, after.crs) == ("laz", 500, "EPSG:32632")
    # noise got a class, so it is read now
    assert len(read_window([after], ALL)) > len(read_window([source], ALL))


def test_classes_that_do_not_fit_are_refused_and_leave_nothing(tmp_path: Path) -> None:
    write_las(tmp_path / "a.laz", version="1.2", point_format=1, crs=None)
    source = open_source(str(tmp_path / "a.laz"), "EPSG:32632")
    for classes, message in (
        (np.full(500, 64, np.uint8), "64; point format 1 holds 0 to 31"),
        (np.zeros(499, np.uint8), r"\(499,\) of them; the file has 500 points"),
        (np.zeros(500), r"float64 .* expected uint8"),
    ):
        with pytest.raises(InputError, match=message):
            write_classes(source, classes, tmp_path / "b.laz")
    assert [p.name for p in tmp_path.iterdir()] == ["a.laz"]


def test_a_new_file_has_the_points_and_the_compound_crs(tmp_path: Path) -> None:
    (tmp_path / "a.laz").write_bytes(las_bytes(made_points(500)))
    cloud = read_window([open_source(str(tmp_path / "a.laz"))], ALL)
    write_cloud(cloud, tmp_path / "b.laz", "EPSG:32632", "EPSG:5773")
    source = open_source(str(tmp_path / "b.laz"))
    assert (source.crs, source.vertical, source.count) == ("EPSG:32632", "EPSG:5773", len(cloud))
    assert same(read_window([source], ALL), cloud)
    write_cloud(cloud, tmp_path / "c.laz", "EPSG:32632", None)
    assert open_source(str(tmp_path / "c.laz")).vertical is None


def test_heights_that_are_no_numbers_are_refused_before_a_file_is_made(tmp_path: Path) -> None:
    (tmp_path / "a.laz").write_bytes(las_bytes(made_points(500)))
    cloud = read_window([open_source(str(tmp_path / "a.laz"))], ALL)
    cloud.z[3] = np.nan
    with pytest.raises(DataError, match=r"b\.laz: 1 of \d+ heights are not finite"):
        write_cloud(cloud, tmp_path / "b.laz", "EPSG:32632", None)
    assert not (tmp_path / "b.laz").exists()


@pytest.mark.data
@pytest.mark.parametrize("name", ["lidar_small/4_6_crop.las", "lidarhd_tiles/test_data_77055_627760_LA93_IGN69.laz"])
def test_real_files_keep_everything_else(tmp_path: Path, name: str) -> None:
    source = open_source(str(DATA / name))
    write_classes(source, np.full(source.count, 2, np.uint8), tmp_path / "b.laz")
    compared(DATA / name, tmp_path / "b.laz", np.full(source.count, 2, np.uint8))
