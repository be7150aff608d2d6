"""Patches of eo-learn: clouds are missing, two images of a day are one step, and what is refused."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import numpy as np
import pytest

from geoml.errors import DataError
from geoml.io.cubes.cube import Cube, open_cube
from geoml.io.cubes.spec import load_cube_spec
from tests import made_patch
from tests.made_patch import SHAPE, Patch


def patch(folder: Path) -> Path:
    """Three images: the clouds of the first row grow by a column each day."""
    ndvi = np.stack([np.full(SHAPE, 0.1 * (n + 1), np.float32) for n in range(3)])
    clouds = np.zeros((3, *SHAPE), bool)
    for n in range(3):
        clouds[n, 0, : n + 1] = True
    return made_patch.write(Patch(np.array([0, 5, 15]), ndvi, clouds), folder)


def opened(folder: Path, until: dt.datetime | None = None) -> Cube:
    return open_cube(folder, load_cube_spec(folder.with_suffix(".yaml")), until=until)


def test_clouds_are_missing_and_days_without_an_image_are_not_there(tmp_path: Path) -> None:
    with opened(patch(tmp_path / "patch")) as cube:
        assert [str(t)[:10] for t in cube.times] == ["2020-01-01", "2020-01-06", "2020-01-16"]
        assert cube.crs == "EPSG:32633"
        assert cube.transform[:6] == (10, 0, 500_000, 0, -10, 5_200_000)
        found = cube.read(1)
        assert np.isnan(found[0, :2]).all()
        assert found[0, 2] == found[5, 5] == np.float32(0.2)
        assert np.isnan(cube.read(2, slice(0, 1), slice(1, 4))).tolist() == [[True, True, False]]
    with opened(tmp_path / "patch", dt.datetime(2020, 1, 6, 12, tzinfo=dt.UTC)) as cube:
        assert len(cube) == 2


def test_of_two_images_of_a_day_the_later_counts_where_it_is_clear(tmp_path: Path) -> None:
    folder = patch(tmp_path / "patch")
    times = ["2020-01-01T10:00:00", "2020-01-01T10:11:00", "2020-01-16T10:00:00"]
    (folder / "timestamps.json").write_text(json.dumps(times))
    with opened(folder) as cube:
        assert len(cube) == 2
        found = cube.read(0)
        assert np.isnan(found[0, 0])
        assert found[0, 1] == np.float32(0.1), "the later one has a cloud there"
        assert found[0, 2] == np.float32(0.2)
    with opened(folder, dt.datetime(2020, 1, 1, 10, 5, tzinfo=dt.UTC)) as cube:
        assert cube.read(0)[0, 2] == np.float32(0.1), "the later one was not known yet"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("timestamps.json", '["2020-01-06", "2020-01-01", "2020-01-16"]', "out of order"),
        ("timestamps.json", '["noon"]', "not a list of dates"),
        ("timestamps.json", "7", "not a list of dates"),
        ("timestamps.json", json.dumps([f"2020-01-{d:02d}" for d in range(1, 9)]), "8 dates; data/NDVI has 3"),
        ("bbox.geojson", '{"type": "Point", "coordinates": [1, 2]}', "no polygon with a crs"),
        ("bbox.geojson", "[]", "no polygon with a crs"),
        ("data/NDVI.npy", np.zeros((3, 4)), "expected numbers of"),
        ("mask/CLM.npy", np.zeros((3, 4, 5, 1)), "another shape than data/NDVI"),
        ("data/NDVI.npy", np.array([{}], object), "Python objects"),
        ("data/NDVI.npy", None, "does not exist"),
    ],
)
def test_what_is_broken_is_refused_by_name(tmp_path: Path, name: str, content: object, said: str) -> None:
    folder = patch(tmp_path / "patch")
    path = folder / name
    if content is None:
        path.unlink()
    elif isinstance(content, str):
        path.write_text(content)
    else:
        np.save(path, content)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=said) as refused:
        opened(folder)
    assert str(folder) in str(refused.value)


def test_a_feature_that_leads_out_is_refused(tmp_path: Path) -> None:
    folder = patch(tmp_path / "patch")
    reads = folder.with_suffix(".yaml")
    reads.write_text(reads.read_text().replace("data/NDVI", "../secret"))
    np.save(tmp_path / "secret.npy", np.zeros((3, *SHAPE, 1)))
    with pytest.raises(DataError, match="leads out of the store"):
        opened(folder)
