"""What is kept between processes is whole, or is made again."""

from __future__ import annotations

import json
import multiprocessing
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from geoml.backends import _kept
from geoml.backends._kept import ENTRY, Kept, kept


@pytest.fixture(autouse=True)
def folder(machine: Callable[..., None], tmp_path: Path) -> Path:
    machine(scratch=tmp_path / "scratch")
    return tmp_path / "scratch" / "backends" / "made"


class Maker:
    """Counts what it makes."""

    def __init__(self, *, lasting: bool = True) -> None:
        self.count, self.lasting = 0, lasting

    def __call__(self) -> Kept:
        self.count += 1
        return Kept({"speed": self.count}, {"a.bin": b"first", "b.bin": b"second"}, self.lasting)


def test_is_made_once_for_a_key() -> None:
    make = Maker()
    first, again, other = kept("made", ["a", 1], make), kept("made", ["a", 1], make), kept("made", ["a", 2], make)
    assert again == first
    assert other.known == {"speed": 2}
    assert make.count == 2


@pytest.mark.parametrize("name", ["a.bin", "b.bin", ENTRY])
@pytest.mark.parametrize("what", ["changed", "cut", "gone", "link"])
def test_a_byte_that_changed_makes_it_anew(
    name: str, what: str, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make = Maker()
    kept("made", "key", make)
    (path,) = folder.glob(f"*/{name}")
    content = path.read_bytes()
    path.unlink()
    if what == "link":
        (folder / "elsewhere").write_bytes(content + b" ")
        path.symlink_to(folder / "elsewhere")
    elif what != "gone":
        path.write_bytes(content[:-3] if what == "cut" else content.replace(b"s", b"t"))
    assert kept("made", "key", make).known == {"speed": 2}
    if (name, what) != (ENTRY, "gone"):
        assert "not as it was written" in caplog.text
    assert kept("made", "key", make).files == {"a.bin": b"first", "b.bin": b"second"}
    assert make.count == 2


def test_a_proof_that_was_touched_up_is_refused(folder: Path) -> None:
    make = Maker()
    kept("made", "key", make)
    (path,) = folder.glob(f"*/{ENTRY}")
    entry = json.loads(path.read_text())
    entry["known"]["speed"] = 99
    path.write_text(json.dumps(entry))
    assert kept("made", "key", make).known == {"speed": 2}


def test_what_does_not_last_is_not_kept() -> None:
    make = Maker(lasting=False)
    kept("made", "key", make)
    kept("made", "key", make)
    assert make.count == 2


def test_the_first_of_two_that_make_it_at_once_is_taken() -> None:
    def slower() -> Kept:
        kept("made", "key", lambda: Kept({"speed": 1}, {"a.bin": b"first"}))  # another one was faster meanwhile
        return Kept({"speed": 2}, {"a.bin": b"later"})

    assert kept("made", "key", slower).known == {"speed": 1}
    assert kept("made", "key", slower).files == {"a.bin": b"first"}


def test_the_longest_unused_go(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_kept, "MOST", 2)
    make = Maker()
    for key in ("a", "b", "a", "c"):
        kept("made", key, make)
        time.sleep(0.02)  # the clock of files ticks that slowly
    assert make.count == 3
    kept("made", "a", make)
    kept("made", "c", make)
    assert make.count == 3
    assert len(list(folder.iterdir())) == 2


def _make(key: int) -> tuple[int, bytes]:
    found = kept("made", key % 2, lambda: Kept({"by": key}, {"a.bin": bytes([key]) * 100_000}))
    return int(found.known["by"]), found.files["a.bin"][:1]


def test_several_processes_get_the_same(folder: Path) -> None:
    with multiprocessing.get_context("fork").Pool(4) as pool:
        found = pool.map(_make, range(24), chunksize=1)
    assert all(bytes([by]) == content for by, content in found)
    assert len({by for by, _ in found if by % 2}) == 1
    assert len({by for by, _ in found if not by % 2}) == 1
    assert len(list(folder.iterdir())) == 2
