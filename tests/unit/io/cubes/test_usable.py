"""Which frames count where some cannot be read: the odd ones are named, the others stay, and nothing is read twice."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from geoml.errors import DataError, InputError, NothingFound
from geoml.io.cubes import usable
from geoml.io.cubes.cube import open_cube
from geoml.io.cubes.usable import UsableFrames, usable_frames
from tests import made_cubes as made
from tests.made_cubes import frames, spec

LATE = dt.datetime(2024, 1, 2, tzinfo=dt.UTC)
SPEC = spec("GeoTIFF", files="**/*.tif")


def found_in(folder: Path, until: dt.datetime = LATE, hashes: Any = None, back: int = 10**6) -> UsableFrames:
    return usable_frames(folder, SPEC, 1, until, lambda newest: newest - back, {} if hashes is None else hashes)


def hours(found: UsableFrames) -> list[int]:
    return [dt.datetime.fromtimestamp(frame.tick, dt.UTC).hour for frame in found.frames]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def tagged(path: Path) -> None:
    with rasterio.open(path, "r+") as file:
        file.units = ("K",)


def implausible(path: Path) -> None:
    made.tiff(path, np.full((6, 8), 5000, np.int16))


def larger(path: Path) -> None:
    made.tiff(path, np.ones((7, 8), np.int16))


def empty(path: Path) -> None:
    made.tiff(path, np.ones((6, 8), np.int16), nodata=1)


def off(path: Path) -> None:
    path.rename(path.with_name("202401010130.tif"))


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (cut, "202401010100.tif"),
        (lambda path: path.write_bytes(b""), "not GeoTIFF"),
        (lambda path: path.rename(path.with_name("later.tif")), "does not fit time.pattern"),
        (tagged, "its unit is 'K'; expected file_unit mm/h"),
        (implausible, "48 of 48 values of rainfall_rate are not plausible"),
        (larger, "unlike most"),
        (empty, "no value in it is known"),
        (off, "is out of step, two frames are next to one place"),
    ],
)  # fmt: skip
def test_an_odd_file_is_left_out_and_named_and_by_hand_an_error(
    spoil: Callable[[Path], object], why: str, tmp_path: Path
) -> None:
    data = frames(5)
    folder = made.tiffs(tmp_path / "a", data)
    spoil(folder / "202401010100.tif")
    found = found_in(folder)
    assert hours(found) == [0, 2, 3, 4]
    ((name, said),) = found.left_out.items()
    assert why in f"{name}: {said}"
    with found.open() as cube:
        np.testing.assert_array_equal(cube.read(1), data[2])
    if spoil is not empty:  # which is a frame that says so
        with pytest.raises(DataError), open_cube(folder, SPEC) as cube:
            _ = [cube.read(step) for step in range(len(cube))]


def test_two_frames_of_one_time_are_one_where_they_are_the_same_and_none_where_they_differ(tmp_path: Path) -> None:
    data = frames(4)
    folder = made.tiffs(tmp_path / "a", data)
    (folder / "b").mkdir()
    made.tiff(folder / "b" / "202401010100.tif", data[1])
    made.tiff(folder / "b" / "202401010200.tif", data[1])
    found = found_in(folder)
    assert hours(found) == [0, 1, 3]
    assert found.left_out == {
        "b/202401010100.tif": "the same as 202401010100.tif",
        "202401010200.tif": "of 2024-01-01T02:00:00 as, but not the same as, b/202401010200.tif",
        "b/202401010200.tif": "of 2024-01-01T02:00:00 as, but not the same as, 202401010200.tif",
    }
    with pytest.raises(DataError, match="2 frames of"):
        open_cube(folder, SPEC)


def test_only_frames_that_changed_are_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, read, hashes = made.tiffs(tmp_path / "a", frames(4)), [], dict[str, list[str]]()
    whole = usable.pixels_of
    monkeypatch.setattr(
        usable, "pixels_of", lambda cube, step: (read.append(str(cube.times[step])), whole(cube, step))[1]
    )
    before = found_in(folder, hashes=hashes)
    assert len(read) == len(hashes) == 4
    assert found_in(folder, hashes=hashes).pixels == before.pixels
    assert len(read) == 4
    made.tiff(folder / "202401010200.tif", np.zeros((6, 8), np.int16))
    after = found_in(folder, hashes=hashes)
    assert read[4:] == ["2024-01-01T02:00:00"]
    assert [k for k in before.pixels if before.pixels[k] != after.pixels[k]] == [after.frames[2].tick]


def test_what_is_too_old_or_too_new_is_not_opened(tmp_path: Path) -> None:
    folder = made.tiffs(tmp_path / "a", frames(6))
    for hour in (0, 5):
        (folder / f"202401010{hour}00.tif").write_bytes(b"broken")
    found = found_in(folder, LATE.replace(day=1, hour=4), back=3600)
    assert (hours(found), found.left_out) == ([3, 4], {})
    for path in folder.glob("*.tif"):
        path.write_bytes(b"broken")
    with pytest.raises(NothingFound, match="is known by"):
        found_in(folder, LATE.replace(year=2023))
    with pytest.raises(DataError, match=r"left out: 202401010000\.tif: not GeoTIFF"):
        found_in(folder)
    (tmp_path / "nothing").mkdir()
    with pytest.raises(InputError, match="no file"):
        found_in(tmp_path / "nothing")
