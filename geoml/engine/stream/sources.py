"""The frames of a source in their order: a folder, one that is being filled, a file, a video.

What cannot be read is an `Unread` in its place and stops no other. None means that nothing has come yet.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterator
from pathlib import Path

from geoml.engine.stream.frames import SUFFIXES, Frame, TakesBands, Unread, read
from geoml.engine.stream.recipe import StreamRecipe
from geoml.engine.stream.video import VIDEOS, video
from geoml.errors import DataError, GeomlError, InputError, NothingFound, TransientError

log = logging.getLogger(__name__)

POLL_SECONDS = 0.1
"""Between two looks into a folder that is being filled."""


def frames(source: str | Path, card: TakesBands, recipe: StreamRecipe) -> Iterator[Frame | Unread | None]:
    """The frames of ``source``, one of `StreamRecipe.every`; a folder in the natural order of names (2 before 10), one
    that is being filled in the order in which its files were finished. Links to folders are not followed.

    Raises, before the first frame, InputError for a source that is not there or options that do not fit it,
    NothingFound for a folder without frames that is not watched, DataError for a video that cannot be opened,
    MissingExtra without what decodes videos.
    """
    path = Path(source)
    try:
        kind = "folder" if path.is_dir() else "file" if path.exists() else ""
    except (OSError, ValueError):  # a loop of links, a NUL
        kind = ""
    if not kind:
        raise InputError(f"source: {source!r} does not exist; expected a folder, a video or a file of a frame")
    suffix = path.suffix.lower()
    is_video = kind == "file" and suffix in VIDEOS
    if recipe.watch and kind != "folder":
        raise InputError(f"watch: {path} is a file; expected a folder that is being filled")
    if recipe.live and not (recipe.watch or is_video):
        raise InputError(f"live: {path} has no clock; expected a video, or --watch with a folder that is being filled")
    if is_video:
        return video(path, card, recipe)
    if kind == "file":
        if suffix not in SUFFIXES:
            known = " ".join(sorted(SUFFIXES | VIDEOS))
            raise InputError(f"source: {path}; expected a folder or a file that ends in one of {known}")
        return _each(iter([path]), card, recipe)
    if recipe.watch:
        return _each(_arriving(path, recipe.watch), card, recipe)
    there = _listed(path)
    if not there:
        raise NothingFound(f"source: no frame in {path}; expected files that end in {' '.join(sorted(SUFFIXES))}")
    return _each(iter(there), card, recipe)


def _each(paths: Iterator[Path | None], card: TakesBands, recipe: StreamRecipe) -> Iterator[Frame | Unread | None]:
    index, first = 0, None
    for path in paths:
        if path is None:
            yield None
            continue
        if index % recipe.every == 0:
            at = 0.0
            try:
                written = path.stat().st_mtime
                first = written if first is None else first
                at = written - first
                yield read(path, index, at, card, recipe)
            except OSError as err:
                yield Unread(index, str(path), at, DataError(f"{path}: cannot be opened ({err})"))
            except (InputError, TransientError):  # the same for every frame
                raise
            except GeomlError as err:
                yield Unread(index, str(path), at, err)
        index += 1


def _listed(folder: Path) -> list[Path]:
    files = [p for p in folder.iterdir() if _is_frame(p)]
    if left := sum(1 for p in folder.iterdir() if not p.name.startswith(".")) - len(files):
        log.warning("%s: %d files of other types are left out", folder, left)
    return sorted(files, key=natural)


def _is_frame(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and not path.is_dir()


def natural(path: Path) -> list[tuple[int, str]]:
    """A key that puts ``frame2`` before ``frame10``."""
    return [(int(word), "") if word.isdecimal() else (-1, word) for word in re.split(r"(\d+)", path.name)]


def _arriving(folder: Path, patience: float) -> Iterator[Path | None]:
    """Files once their size and time stay as they were at the look before; None after each look without one."""
    taken: set[str] = set()
    before: dict[str, tuple[int, int]] = {}
    last = time.monotonic()
    while True:
        now: dict[str, tuple[int, int]] = {}
        ready: list[tuple[int, list[tuple[int, str]], Path]] = []
        for path in folder.iterdir():
            if path.name in taken or not _is_frame(path):
                continue
            try:
                about = path.stat()
            except OSError:  # gone again
                continue
            now[path.name] = about.st_size, about.st_mtime_ns
            if before.get(path.name) == now[path.name] and about.st_size:
                ready.append((about.st_mtime_ns, natural(path), path))
        if ready or now != before:  # one that is being written too
            last = time.monotonic()
        elif time.monotonic() - last >= patience:  # only after a look, however long the last one is ago
            return
        before = now
        for _, _, path in sorted(ready):
            taken.add(path.name)
            yield path
        yield None
        time.sleep(POLL_SECONDS)
