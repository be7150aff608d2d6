"""Frames come in their order, of a folder, one that is being filled, a file; a bad one stops no other."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from geoml import testing
from geoml.engine.stream import sources
from geoml.engine.stream.frames import Frame, Unread
from geoml.engine.stream.recipe import StreamRecipe
from geoml.errors import InputError, NothingFound

Recipe = Callable[..., StreamRecipe]
CARD = testing.card("made", ("red", "nir"), ("a", "b"))


def read(source: Path, recipe: StreamRecipe) -> list[Frame | Unread]:
    return [f for f in sources.frames(source, CARD, recipe) if f is not None]


def names(found: list[Frame | Unread]) -> list[str]:
    return [Path(f.name).name for f in found]


def test_a_folder_comes_in_the_natural_order_of_names(
    chips: Path, recipe: Recipe, caplog: pytest.LogCaptureFixture
) -> None:
    found = read(chips, recipe())
    assert names(found) == [f"{k}.tif" for k in range(12)], "2 before 10"
    assert [f.index for f in found] == list(range(12))
    assert "1 files of other types are left out" in caplog.text
    third = read(chips, recipe(every=5))
    assert names(third) == ["0.tif", "5.tif", "10.tif"]
    assert [f.index for f in third] == [0, 5, 10]
    assert names(read(chips / "4.tif", recipe())) == ["4.tif"]


def test_a_damaged_file_is_named_in_its_place(chips: Path, recipe: Recipe) -> None:
    (chips / "3.tif").write_bytes(b"II*\0 and no more")
    found = read(chips, recipe())
    assert [isinstance(f, Unread) for f in found] == [k == 3 for k in range(12)]
    assert isinstance(found[3], Unread)
    assert "3.tif" in str(found[3].error)


def test_a_folder_that_is_being_filled(chips: Path, tmp_path: Path, recipe: Recipe) -> None:
    filled = tmp_path / "filled"
    filled.mkdir()
    whole = (chips / "7.tif").read_bytes()

    def moved(k: int) -> None:
        shutil.copy(chips / f"{k}.tif", filled / ".part")
        (filled / ".part").rename(filled / f"{k}.tif")

    def written(part: bytes) -> None:
        """Where it lies, piece by piece."""
        with (filled / "7.tif").open("ab") as file:
            file.write(part)

    steps: list[Callable[[], None]] = [lambda: moved(2), lambda: moved(0), lambda: written(whole[:500])]
    steps += [lambda: written(whole[500:]), lambda: moved(1)]
    found: list[Frame | Unread] = []
    for entry in sources.frames(filled, CARD, recipe(watch=0.3)):
        if entry is not None:
            found.append(entry)
        elif steps:  # one between two looks into the folder
            steps.pop(0)()
    assert names(found) == ["2.tif", "0.tif", "7.tif", "1.tif"], "as they are finished"
    assert all(isinstance(f, Frame) for f in found), "none is read before it is whole"
    assert [f.index for f in found] == [0, 1, 2, 3]
    assert found[0].time == 0
    assert [f.time for f in found] == sorted(f.time for f in found)


def test_sources_that_do_not_fit_are_refused_at_once(chips: Path, tmp_path: Path, recipe: Recipe) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    for source, options, error, why in (
        (tmp_path / "absent", {}, InputError, "does not exist"),
        (chips / "notes.txt", {}, InputError, "expected a folder or a file that ends in one of"),
        (empty, {}, NothingFound, "no frame in"),
        (chips / "1.tif", {"watch": 1}, InputError, "watch"),
        (chips, {"live": True}, InputError, "live: .* has no clock"),
    ):
        with pytest.raises(error, match=why):
            sources.frames(source, CARD, recipe(**options))
