"""Files appear whole or not at all, also when the disk is full or the process is killed."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from geoml.errors import DataError, GeomlError, InputError
from geoml.io.stac.search import read_items
from geoml.io.stores.store import atomic, folder, read_small, sha256, within, write_json, write_text
from geoml.io.tables.parts import read_edges, read_inside


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_name_appears_with_the_last_byte(tmp_path: Path) -> None:
    path = tmp_path / "new" / "map.tif"
    with atomic(path) as temporary:
        temporary.write_bytes(b"half")
        assert temporary.parent == path.parent
        assert not path.exists()
        assert list(path.parent.glob("*.tif")) == []  # an unfinished file is never taken for an output
    assert path.read_bytes() == b"half"
    assert names(path.parent) == ["map.tif"]


def test_an_error_keeps_the_old_file_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def failing() -> None:
        with atomic(path) as temporary:
            temporary.write_text("new")
            raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        failing()
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_a_data_error_that_names_the_path(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"

    def full() -> None:
        with atomic(path) as temporary:
            temporary.symlink_to("/dev/full")
            temporary.write_text("new")

    with pytest.raises(DataError, match=r"a\.txt: not written .*No space left"):
        full()
    assert names(tmp_path) == []


def test_a_body_that_writes_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.txt"), atomic(tmp_path / "a.txt"):
        pass
    assert names(tmp_path) == []


def test_a_file_in_the_place_of_the_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "folder").write_text("I am a file")
    with pytest.raises(DataError, match=r"a\.txt: not written"):
        write_text(tmp_path / "folder" / "a.txt", "text")


def test_a_killed_process_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    script = (
        "import os, signal, sys; from pathlib import Path; from geoml.io.stores.store import atomic\n"
        "with atomic(Path(sys.argv[1])) as temporary:\n"
        "    temporary.write_text('half'); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert path.read_text() == "old"
    write_text(path, "new")
    assert path.read_text() == "new"


def test_the_bytes_reach_the_disk_before_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    sync, replace = os.fsync, Path.replace

    def recorded_sync(handle: int) -> None:
        calls.append("sync")
        sync(handle)

    def recorded_replace(self: Path, target: Path) -> Path:
        calls.append("replace")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", recorded_sync)
    monkeypatch.setattr(Path, "replace", recorded_replace)
    write_text(tmp_path / "a.txt", "text")
    assert calls == ["sync", "replace", "sync"]


def test_two_writers_of_one_name_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with atomic(path) as one, atomic(path) as two:
        one.write_text("one")
        two.write_text("two")
    assert path.read_text() == "one"  # the outer one ends last
    assert names(tmp_path) == ["a.txt"]


def test_equal_objects_give_equal_json(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": [1, 2.5], "a": "é"})
    write_json(tmp_path / "b.json", {"a": "é", "b": (1, 2.5)})
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert text == '{\n  "a": "é",\n  "b": [\n    1,\n    2.5\n  ]\n}\n'
    assert (tmp_path / "b.json").read_text(encoding="utf-8") == text


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, object()])
def test_what_is_not_json_is_refused(tmp_path: Path, value: object) -> None:
    with pytest.raises(InputError, match=r"a\.json: not JSON"):
        write_json(tmp_path / "a.json", {"value": value})
    assert names(tmp_path) == []


def test_sha256_is_that_of_the_bytes(tmp_path: Path) -> None:
    content = os.urandom(3_000_000)
    (tmp_path / "a").write_bytes(content)
    assert sha256(tmp_path / "a") == hashlib.sha256(content).hexdigest()
    with pytest.raises(DataError, match="missing: not readable"):
        sha256(tmp_path / "missing")


def test_a_small_file_is_one_or_an_error(odd_file: tuple[str, Callable[[Path], None]], tmp_path: Path) -> None:
    """At once: a pipe would be waited for, a device read without end."""
    kind, make = odd_file
    make(tmp_path / "a")
    done: list[GeomlError] = []

    def look() -> None:
        with pytest.raises(DataError) as told:
            read_small(tmp_path / "a")
        done.append(told.value)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    thread.join(5)
    assert done, "it hangs"
    assert f"{tmp_path}/a: {kind}; expected a file that geoml wrote, delete it" in str(done[0])


def test_a_small_file_is_small(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 100)
    assert read_small(tmp_path / "a", 100) == b"x" * 100
    with pytest.raises(DataError, match="a: more than 99 bytes"):
        read_small(tmp_path / "a", 99)
    os.truncate(tmp_path / "a", 2**40)  # sparse: what is asked for is not what the name promises
    with pytest.raises(DataError, match="more than 65536 bytes"):
        read_small(tmp_path / "a", 2**16)
    assert read_small(tmp_path / "missing") is None
    assert read_small(tmp_path / "a" / "inside") is None
    with pytest.raises(InputError, match="the name is too long"):
        read_small(tmp_path / ("n" * 300))


def test_tables_are_no_pipes(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.parquet")
    for read in (read_edges, read_inside, read_items):
        with pytest.raises(DataError, match="a named pipe"):
            read(tmp_path / "a.parquet")


def test_a_link_on_the_way_is_not_gone_through(tmp_path: Path) -> None:
    """The folder itself may be a link of its user's, what is inside of it may not."""
    (tmp_path / "real" / "cogs").mkdir(parents=True)
    (tmp_path / "out").symlink_to(tmp_path / "real")
    (tmp_path / "elsewhere" / "b").mkdir(parents=True)
    out = tmp_path / "out"
    assert within(out, "cogs/b/class.tif") == out / "cogs/b/class.tif"
    assert within(out, "run.json") == out / "run.json"
    (out / "cogs" / "b").symlink_to(tmp_path / "elsewhere" / "b")
    with pytest.raises(DataError, match=rf"{out}/cogs/b: a symbolic link inside of {out}, not written through"):
        within(out, "cogs/b/class.tif")
    assert within(out, "cogs/b") == out / "cogs/b", "the name itself is replaced and not followed"
    for name in ("../x", "/etc/x", "cogs/../../x", "a\0b"):
        with pytest.raises(DataError, match="not a file of this folder"):
            within(out, name)


def test_a_name_that_is_too_long_was_asked_wrongly(tmp_path: Path) -> None:
    for path in (tmp_path / ("n" * 300), Path(str(tmp_path) + "/n" * 4000) / "a.txt"):
        with pytest.raises(InputError, match="the name is too long") as told:
            write_text(path, "text")
        assert len(str(told.value)) < 600
        with pytest.raises(InputError, match="the name is too long"), folder(path, "a"):
            pass
    assert names(tmp_path) == []
