"""Rows of pictures, one for each, that survive a kill: what locators and maps share.

Pictures are read in threads and worked on in parts, cut by their order and never by time; the rows of a part are kept
in a folder by checksums of all that went into them. A run that was killed goes on after its last part and leaves the
same file; a second one reads pictures to see that they are the same and computes nothing.
"""

from __future__ import annotations

import datetime as dt
import platform
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from pathlib import Path
from typing import Generic, TypeVar

import pyarrow as pa

from geoml.errors import InputError
from geoml.geolocation.pictures import lists as photo_lists
from geoml.geolocation.pictures.listed import Reference
from geoml.geolocation.pictures.prepare import PreparedPicture, Row, identity, in_order, row_without_answer
from geoml.geolocation.rows import schema as geolocations
from geoml.geolocation.rows.parts import RowParts
from geoml.io.stores import lock
from geoml.io.stores.store import within, write_json
from geoml.recipe import digest
from geoml.redacted import bare

Progress = Callable[[int], None]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Part(Generic[T]):
    """Pictures in order; ``fresh`` are those among them that are computed, ``extracted`` what was made of these."""

    pictures: list[PreparedPicture]
    fresh: list[PreparedPicture]
    extracted: T


class PictureRows(ABC, Generic[T]):
    """The rows of one run. ``request`` is what was asked, for ``run.json``; ``more`` goes into the digest only.

    ``size`` and ``whole`` are what `geoml.geolocation.pictures.prepare.read` takes, ``part`` pictures are written at
    once. ``columns`` are those that are the same in every row.
    """

    def __init__(
        self, parts: RowParts, request: Row, more: Row | None = None, *, part: int, size: int = 0, whole: int = 0
    ) -> None:
        self.parts, self.request, self.part, self.size, self.whole = parts, request, part, size, whole
        self.digest = digest({**request, **(more or {})})
        self.columns: Row = {"run_id": self.digest[:16]}
        self.counts: Counter[str] = Counter()
        self.computed = 0
        self._seen: set[bytes] = set()

    @abstractmethod
    def used(self, reference: Reference) -> object:
        """What of a reference enters the answer, as JSON; the EXIF is part of the picture's bytes."""

    @abstractmethod
    def extract(self, pictures: Iterator[PreparedPicture]) -> T:
        """What is made of new pictures, pixels and all, as they come; `answer` works on a part while this sees the
        next. All of them are to be taken, and there may be none."""

    @abstractmethod
    def answer(self, pictures: Sequence[PreparedPicture], extracted: T) -> list[Row]:
        """The rows of these pictures, which have no pixels any more."""

    def key(self, reference: Reference, sha256: str) -> bytes:
        """32 bytes that say all that goes into the row of a picture."""
        return bytes.fromhex(digest([self.digest, sha256, self.used(reference), list(reference.problems)]))

    def about(self) -> Row:
        """What was asked, for ``run.json``."""
        return {**self.request, "run_id": self.digest[:16]}

    def summary(self) -> Row:
        """What was asked and how it went."""
        total = sum(self.counts.values())
        return {**self.about(), "pictures": total, "computed": self.computed,
                "statuses": dict(sorted(self.counts.items()))}  # fmt: skip

    def rows(self, references: Iterable[Reference], progress: Progress | None) -> Iterator[Row]:
        """Rows in the order of the references."""
        waiting: deque[Future[list[Row]]] = deque()
        pictures = in_order(references, self.size, self.key, self.parts, self.whole)
        with ThreadPoolExecutor(1, "answers") as pool, closing(pictures):
            while (part := self._part(pictures)).pictures:
                waiting.append(pool.submit(self._finish, part))
                del part
                if len(waiting) > 1:
                    yield from self._counted(waiting.popleft().result(), progress)
            while waiting:
                yield from self._counted(waiting.popleft().result(), progress)

    def _part(self, pictures: Iterator[PreparedPicture]) -> Part[T]:
        """The next pictures. Which are new does not depend on time, only on order."""
        those: list[PreparedPicture] = []
        fresh: list[PreparedPicture] = []

        def new() -> Iterator[PreparedPicture]:
            for picture in islice(pictures, self.part):
                bare = replace(picture, rgb=None, whole=None)
                those.append(bare)
                if picture.has_pixels and picture.key is not None and picture.key not in self._seen:
                    self._seen.add(picture.key)
                    fresh.append(bare)
                    yield picture

        extracted = self.extract(new())
        return Part(those, fresh, extracted)

    def _finish(self, part: Part[T]) -> list[Row]:
        """The rows of a part, after those that are new were written."""
        if part.fresh:
            rows = self.answer(part.fresh, part.extracted)
            self.parts.add([p.key for p in part.fresh if p.key], rows)
            self.computed += len(rows)
        return [
            row_without_answer(p, self.columns) if p.key is None else self.parts.get(p.key) | identity(p)
            for p in part.pictures
        ]

    def _counted(self, rows: list[Row], progress: Progress | None) -> list[Row]:
        self.counts.update(row["status"] for row in rows)
        if progress:
            progress(len(rows))
        return rows


def parquet_path(out: str | Path) -> Path:
    """The path of a file of rows. Raises InputError for another name."""
    path = Path(out)
    if path.suffix.lower() not in (".parquet", ".geoparquet") or path.is_dir():
        raise InputError(f"out: {str(out)!r}; expected the name of a .parquet file")
    return path


def write(
    sources: Iterable[str | Path],
    out: str | Path,
    start: Callable[[Path], PictureRows[T]],
    *,
    more: pa.Schema | None = None,
    packages: Iterable[str] = (),
    progress: Progress | None = None,
) -> Row:
    """Write the rows of the sources' pictures to ``out``; what ``OUT.run/run.json`` says.

    ``start`` makes the run from the folder ``OUT.run``, which one process holds at a time. ``more`` are columns besides
    those of `geoml.geolocation.rows.schema`, ``packages`` those whose versions are kept. Raises NothingFound without a
    picture, InputError for another ``out``, DataError if it cannot be written, TransientError if another process
    works on it, and what ``start`` and the run raise.
    """
    path, listed = parquet_path(out), [str(s) for s in sources]
    folder = within(path.parent, f"{path.name}.run/run.json").parent
    with lock.hold_lock(lock.FileSlot(folder / "lock.json"), str(path)):
        run = start(folder)
        started = dt.datetime.now(dt.UTC)
        geolocations.write(run.rows(photo_lists.pictures(listed), progress), path, more)
        versions = {"python": platform.python_version(), **{p: _version(p) for p in packages}}
        summary = {**run.summary(), "versions": versions, "sources": [bare(s) for s in listed], "out": path.name}
        summary |= {"started": started.isoformat(), "finished": dt.datetime.now(dt.UTC).isoformat()}
        write_json(folder / "run.json", summary)
    return summary


def _version(package: str) -> str | None:
    """The version of a package; None if another one gives its module."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None
