"""Programs kept between processes, in the scratch folder: made once for a network, a machine and a shape of chips.

An entry is a folder, named by a digest of all that decides what is in it, with files and ``entry.json``: what is known
of the program, and the sha256 of each file. It appears whole or not at all. A file that is not as its sum says makes
the entry as good as absent, so that it is made again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import secrets
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from geoml.errors import DataError
from geoml.io.stores.scratch import scratch
from geoml.io.stores.store import read_small
from geoml.recipe import digest

log = logging.getLogger(__name__)

ENTRY = "entry.json"
MOST = 32
"""Entries of a back end; of more, those that were used longest ago go."""


@dataclass(frozen=True)
class Kept:
    """``known``, as JSON, of a program, and its files by name; without files it cannot be used, and ``known`` says why.

    What is not ``lasting`` is not kept: another try may end otherwise.
    """

    known: Mapping[str, Any]
    files: Mapping[str, bytes] = field(default_factory=dict)
    lasting: bool = True


def kept(kind: str, key: object, make: Callable[[], Kept]) -> Kept:
    """The entry of ``key`` (plain values, which decide what it is), made by ``make`` where there is none that is whole.

    Several processes may ask at once: each may make it, and all get that of the first. A disk without room costs time
    and is not an error. Raises InputError if the scratch folder cannot be used.
    """
    name, home = digest(key), scratch("backends", kind)
    if (found := _read(home / name)) is not None:
        with suppress(OSError):
            (home / name / ENTRY).touch()
        return found
    made = make()
    if not made.lasting:
        return made
    try:
        return _publish(home, name, made)
    except OSError as err:
        log.warning("%s: not kept (%s), so the next process makes it again", home / name, err.strerror)
        return made


def _read(folder: Path) -> Kept | None:
    """None if there is none; one that is not as it was written is said once and removed."""
    try:
        if (text := read_small(folder / ENTRY)) is None:
            shutil.rmtree(folder, ignore_errors=True)  # a folder without one is none that was published
            return None
        entry = json.loads(text)
        known, sums = dict(entry["known"]), dict(entry["sha256"])
        files = {name: (folder / Path(name).name).read_bytes() for name in sums}
        whole = entry["sum"] == digest([known, sums]) and sums == _sums(files)
    except (DataError, OSError, ValueError, LookupError, TypeError, RecursionError):
        whole = False
    if not whole:
        log.warning("%s: not as it was written; building it again", folder)
        shutil.rmtree(folder, ignore_errors=True)
        return None
    return Kept(known, files)


def _sums(files: Mapping[str, bytes]) -> dict[str, str]:
    return {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}


def _publish(home: Path, name: str, made: Kept) -> Kept:
    """Move a new entry to its name; what another process has put there meanwhile is taken in its place."""
    temporary = home / f".{secrets.token_hex(8)}.part"
    try:
        temporary.mkdir(mode=0o700)
        sums = _sums(made.files)
        for file, content in made.files.items():
            (temporary / file).write_bytes(content)
        entry = {"known": dict(made.known), "sha256": sums, "sum": digest([dict(made.known), sums])}
        (temporary / ENTRY).write_text(json.dumps(entry, indent=1), encoding="utf-8")
        try:
            temporary.rename(home / name)
        except OSError:  # there is one, for a folder that is not empty is not replaced
            return _read(home / name) or made
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    _forget(home)
    return made


def _forget(home: Path) -> None:
    """Remove the entries beyond `MOST` that were used longest ago."""
    with suppress(OSError):  # another process may do the same
        entries = sorted(home.glob(f"*/{ENTRY}"), key=lambda p: p.stat().st_mtime, reverse=True)
        for path in entries[MOST:]:
            shutil.rmtree(path.parent, ignore_errors=True)
