"""Which clouds a folder has."""

from __future__ import annotations

from pathlib import Path

import pytest

from geoml.errors import InputError
from geoml.io.points.folder import clouds_below
from tests.made_clouds import made_points
from tests.made_octrees import write_ept


def test_a_folder_has_files_folders_and_octrees(tmp_path: Path) -> None:
    tiles = write_ept(tmp_path / "north" / "tiles", made_points(300))
    kept = ["a.LAZ", "b.copc.laz", "north/c.las", "north/far/d.laz"]
    other = ["notes.txt", "run/.state/x", "run/points/a.laz", ".cache/e.laz"]
    for name in (*kept, *other):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = clouds_below(tmp_path, ".state")
    assert found == sorted([*(tmp_path / name for name in kept), tiles])
    assert clouds_below(tiles.parent, ".state") == [tiles]
    assert clouds_below(tmp_path / "run", ".state") == [tmp_path / "run/points/a.laz"]
    assert clouds_below(tmp_path / "run/.state", ".state") == []


def test_links_to_folders_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "a.laz").touch()
    (tmp_path / "loop").symlink_to(tmp_path, target_is_directory=True)
    assert clouds_below(tmp_path, ".state") == [tmp_path / "a.laz"]


def test_a_folder_that_cannot_be_listed_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="gone cannot be listed"):
        clouds_below(tmp_path / "gone", ".state")
