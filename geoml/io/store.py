"""Files appear under their final name whole or not at all."""

from __future__ import annotations

import hashlib
import io
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from geoml.errors import DataError, InputError


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` to write to; it takes the final name when the body ends without an error.

    The bytes reach the disk before the name does, so a reader (or a run that resumes after a crash) sees the old
    file, no file, or the whole new one. After an error the temporary file is gone and ``path`` is as it was. The
    parent folder is made when it is missing.

    Raises DataError, naming ``path``, for every OSError: no space left, no permission, nothing written by the body.
    """
    path = Path(path)
    # not the suffix of the final name: what a kill leaves behind must not match *.tif
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        _sync(temporary)
        temporary.replace(path)
        _sync(path.parent)
    except OSError as err:
        raise DataError(f"{path}: not written ({err})") from err
    finally:
        with suppress(OSError):  # the disk is gone; the error above says so
            temporary.unlink(missing_ok=True)


@contextmanager
def folder(directory: str | Path, last: str) -> Iterator[Path]:
    """A temporary folder inside ``directory`` whose files move there when the body ends well, ``last`` last.

    So ``last`` in a folder says that all others are there and whole. After an error nothing is left behind and what was
    there is as it was; folders that were made go too. Raises DataError, naming ``directory``, for every OSError.
    """
    directory = Path(directory)
    made = [p for p in (directory, *directory.parents) if not p.exists()]
    temporary = directory / f".{secrets.token_hex(4)}.part"
    try:
        temporary.mkdir(parents=True)
        yield temporary
        for path in sorted(temporary.iterdir(), key=lambda p: p.name == last):
            _sync(path)
            path.replace(directory / path.name)
        _sync(directory)
    except OSError as err:
        raise DataError(f"{directory}: not written ({err})") from err
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        for path in made:
            with suppress(OSError):  # it holds what was written
                path.rmdir()


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8, atomically. Raises DataError."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, obj: Any) -> None:
    """Write ``obj`` as JSON, atomically and the same for equal objects: sorted keys, two spaces, UTF-8.

    Raises InputError when the object is not JSON (NaN and infinity are not), DataError when it cannot be written.
    """
    try:
        text = json.dumps(obj, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as err:
        raise InputError(f"{path}: not JSON ({err}); expected finite numbers, text, lists and mappings") from err
    write_text(path, text + "\n")


def capped(path: Path, limit: int) -> bytes:
    """The bytes of a file, at most one more than ``limit``; memory follows what is there. Raises OSError."""
    kept = io.BytesIO()
    with path.open("rb") as file:
        while (left := limit + 1 - kept.tell()) > 0 and (chunk := file.read(min(left, 2**20))):
            kept.write(chunk)
    return kept.getvalue()


def sha256(path: Path) -> str:
    """SHA-256 of a file as 64 hexadecimal digits. Raises DataError when it cannot be read."""
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as err:
        raise DataError(f"{path}: not readable ({err})") from err


def _sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
