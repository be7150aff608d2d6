"""The scratch folder belongs to one user, at every level, or it is refused with what to do."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from geoml.errors import InputError
from geoml.io.stores import scratch as module
from geoml.io.stores.remote import fetch, run_store
from geoml.io.stores.scratch import scratch

Machine = Callable[..., None]


@pytest.fixture(params=[0o022, 0o002, 0o000], ids=["022", "002", "000"])
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o7777


def test_what_is_made_is_for_one_user(umask: None, machine: Machine, tmp_path: Path) -> None:
    """Whatever the umask says, and it is found again."""
    machine(scratch=tmp_path / "deep" / "scratch")
    for _ in range(2):
        path = scratch("files", "0123", "run")
        assert path == tmp_path / "deep/scratch/files/0123/run"
        for _ in range(4):
            assert mode(path) == 0o700
            path = path.parent
    (tmp_path / "mine").mkdir(mode=0o755)
    machine(scratch=tmp_path / "mine")
    assert scratch() == tmp_path / "mine", "others may look at a folder that was given"


def test_the_default_lies_in_the_folder_for_temporary_files(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(scratch="")
    monkeypatch.setattr(module.tempfile, "tempdir", str(tmp_path))
    tmp_path.chmod(0o1777)  # as /tmp is
    assert scratch() == tmp_path / f"geoml-{os.geteuid()}"
    assert mode(scratch()) == 0o700
    monkeypatch.setattr(module.os, "geteuid", lambda: 4711)
    (tmp_path / "geoml-4711").mkdir(mode=0o700)
    with pytest.raises(InputError, match=r"GEOML_SCRATCH: \S+/geoml-4711 belongs to another user; expected a folder"):
        scratch()


@pytest.mark.parametrize("level", [".", "files", "files/0123", "files/0123/run"])
@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("link", "is a symbolic link; expected a folder that you own"),
        ("dangling", "is a symbolic link"),
        ("group", "can be written to by others; look at what is in it, then chmod 700"),
        ("others", "can be written to by others"),
        ("sticky", "can be written to by others"),
        ("file", "is a file"),
        ("foreign", "belongs to another user"),
    ],
)
def test_a_folder_that_others_can_reach_is_refused(
    level: str, kind: str, said: str, machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(scratch=tmp_path / "scratch")
    path = tmp_path / "scratch" / level
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.parent.name != tmp_path.name:
        for folder in (path.parent, *path.parent.parents):
            if folder == tmp_path:
                break
            folder.chmod(0o700)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    if kind in ("link", "dangling"):
        path.symlink_to(elsewhere if kind == "link" else tmp_path / "nowhere")
    elif kind == "file":
        path.write_text("mine")
    else:
        path.mkdir()
        path.chmod({"group": 0o770, "others": 0o702, "sticky": 0o1777, "foreign": 0o700}[kind])
    if kind == "foreign":
        real = os.fstat
        inode = path.stat().st_ino

        def fstat(handle: int) -> os.stat_result:
            found = real(handle)
            other = [*found[:4], found.st_uid + 1, *found[5:10]]
            return os.stat_result(other) if found.st_ino == inode else found

        monkeypatch.setattr(module.os, "fstat", fstat)
    with pytest.raises(InputError, match=said) as told:
        scratch("files", "0123", "run")
    assert str(path) in str(told.value)
    assert not list(elsewhere.iterdir())


def test_runs_and_files_from_elsewhere_go_through_it(machine: Machine, tmp_path: Path) -> None:
    """Nothing is asked of a server before."""
    machine(scratch=tmp_path / "scratch", timeout=1, retries=0)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "scratch").mkdir(mode=0o700)
    for name in ("runs", "files"):
        (tmp_path / "scratch" / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="scratch/runs is a symbolic link"):
        run_store("s3://bucket/run")
    with pytest.raises(InputError, match="scratch/files is a symbolic link"):
        fetch("https://no.such.invalid/a.parquet", "catalog", 100)
    assert not list((tmp_path / "elsewhere").iterdir())


def test_no_folder_at_all(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for path in (tmp_path / "file" / "x", tmp_path / ("n" * 300), Path("/proc/no/such")):
        machine(scratch=path)
        with pytest.raises(InputError, match=r"GEOML_SCRATCH: .* cannot be made"):
            scratch()
