"""Files get their final name only when they are complete."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

from geoml.errors import DataError, GeomlError, InputError, TransientError, out_of_memory, too_long

SMALL = 2**28
"""Bytes; a larger file is refused as the state of a run."""

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` to write to; it takes the final name when the body ends without an error.

    The bytes reach the disk before the name does, so a reader (or a run that resumes after a crash) sees the old
    file, no file, or the whole new one. After an error the temporary file is gone and ``path`` is as it was. The
    parent folder is made when it is missing.

    Raises, naming ``path``, for every OSError what `os_failure` says: no space left, no permission, nothing written.
    """
    path = Path(path)
    # not the suffix of the final name: what a kill leaves behind must not match *.tif
    temporary = path.with_name(f".{path.name[:48]}.{secrets.token_hex(8)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        _sync(temporary)
        temporary.replace(path)
        _sync(path.parent)
    except OSError as err:
        raise os_failure(path, err) from err
    finally:
        with suppress(OSError):  # the disk is gone; the error above says so
            temporary.unlink(missing_ok=True)


@contextmanager
def folder(directory: str | Path, last: str) -> Iterator[Path]:
    """A temporary folder inside ``directory`` whose files move there when the body ends well, ``last`` last.

    So ``last`` in a folder says that all others are there and whole. After an error nothing is left behind and what was
    there is as it was; folders that were made go too. Raises, naming ``directory``, what `os_failure` says.
    """
    directory = Path(directory)
    temporary = directory / f".{secrets.token_hex(8)}.part"
    made: list[Path] = []
    try:
        made = [p for p in (directory, *directory.parents) if not p.exists()]
        temporary.mkdir(parents=True)
        yield temporary
        for path in sorted(temporary.iterdir(), key=lambda p: p.name == last):
            _sync(path)
            path.replace(directory / path.name)
        _sync(directory)
    except OSError as err:
        raise os_failure(directory, err) from err
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        for path in made:
            with suppress(OSError):  # it holds what was written
                path.rmdir()


def os_failure(path: Path, err: OSError, verb: str = "written") -> GeomlError:
    """The error of the table for one of the system at ``path``: a name that cannot be, no memory, a broken place."""
    if err.errno == errno.ENAMETOOLONG:
        return InputError(too_long(path))
    if out_of_memory(err):
        return TransientError(f"{path}: not {verb}: not enough memory; free some")
    return DataError(f"{path}: not {verb} ({err})")


def check_name(path: Path) -> Path:
    """``path``, which need not be there. Raises InputError for one that no system takes."""
    try:
        path.lstat()
    except OSError as err:
        if err.errno == errno.ENAMETOOLONG:
            raise os_failure(path, err) from err
    return path


def within(root: Path, name: str) -> Path:
    """The path of the file ``name`` of the folder ``root``, to write there; ``root`` itself may be a link.

    Raises DataError for a name that leads out of ``root``, and where a folder on the way is a symbolic link: what is
    written would land in a place that nobody named.
    """
    parts = PurePosixPath(name).parts
    if name.startswith("/") or ".." in parts or "\0" in name:
        raise DataError(f"{root}: {name!r} is not a file of this folder")
    path = Path(root)
    try:
        for part in parts[:-1]:
            path = path / part
            if path.is_symlink():
                raise DataError(f"{path}: a symbolic link inside of {root}, not written through; expected a folder")
    except OSError as err:
        raise os_failure(path, err) from err
    return path / parts[-1]


def read_small(path: Path, limit: int = SMALL) -> bytes | None:
    """The content of a small file that somebody else may have put there; None if there is none.

    Raises DataError for what is not a regular file (a link, a pipe, a device: nothing is waited for), for more than
    ``limit`` bytes, and for one that cannot be read. Memory is that of what is there.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as err:
        if err.errno in (errno.ELOOP, errno.ENXIO):  # a link; a socket
            raise _no_file(path) from err
        raise os_failure(path, err, "readable") from err
    try:
        about = os.fstat(handle)
        if not stat.S_ISREG(about.st_mode):
            raise _no_file(path)
        if about.st_size > limit or len(body := _capped(handle, limit)) > limit:
            raise DataError(f"{path}: more than {limit} bytes; not what geoml writes there")
    except OSError as err:
        raise os_failure(path, err, "readable") from err
    finally:
        os.close(handle)
    return body


def stamp(path: Path) -> tuple[int, int, int] | None:
    """What changes when a file is written again: its number, size and time; None if there is none."""
    try:
        now = path.stat()
    except (OSError, ValueError):
        return None
    return now.st_ino, now.st_size, now.st_mtime_ns


def check_regular(path: Path) -> Path:
    """``path``, for readers of tables that would wait for a pipe forever. Raises DataError if it is not a regular file.

    A missing path passes: opening it raises.
    """
    with suppress(OSError):
        if not stat.S_ISREG(path.stat().st_mode):
            raise _no_file(path)
    return path


def _no_file(path: Path) -> DataError:
    try:
        kind = _KINDS.get(stat.S_IFMT(path.lstat().st_mode), "no regular file")
    except OSError:
        kind = "no regular file"
    return DataError(f"{path}: {kind}; expected a file that geoml wrote, delete it")


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8, atomically. Raises DataError."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_bytes(path: Path, body: bytes) -> None:
    """Write ``body``, atomically. Raises DataError."""
    with atomic(path) as temporary:
        temporary.write_bytes(body)


def write_json(path: Path, obj: object) -> None:
    """Write ``obj`` as JSON, atomically and the same for equal objects: sorted keys, two spaces, UTF-8.

    Raises InputError if the object is not JSON (NaN and infinity are not), DataError if it cannot be written.
    """
    try:
        text = json.dumps(obj, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as err:
        raise InputError(f"{path}: not JSON ({err}); expected finite numbers, text, lists and mappings") from err
    write_text(path, text + "\n")


def read_capped(path: Path, limit: int) -> bytes:
    """The bytes of a file, at most one more than ``limit``; memory follows what is there. Raises OSError."""
    with path.open("rb") as file:
        return _capped(file.fileno(), limit)


def _capped(handle: int, limit: int) -> bytes:
    body = io.BytesIO()
    while (left := limit + 1 - body.tell()) > 0 and (chunk := os.read(handle, min(left, 2**20))):
        body.write(chunk)
    return body.getvalue()


def sha256(path: Path) -> str:
    """SHA-256 of a file as 64 hexadecimal digits. Raises DataError if it cannot be read."""
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as err:
        raise os_failure(path, err, "readable") from err


def _sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
