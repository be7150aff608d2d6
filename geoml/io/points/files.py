"""Bytes of a file of points, on this machine or elsewhere, by range."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol, TypeVar

from geoml.errors import DataError, GeomlError, InputError
from geoml.io.stores.hrefs import gdal_path, redact
from geoml.io.stores.ranges import Denied, RemoteFile, check_head, remote_file
from geoml.io.stores.sign import sign_href
from geoml.io.stores.signed import signed
from geoml.settings import settings

T = TypeVar("T")

HEAD = 2**11
"""Bytes of the first read: the header of nearly every file and its records."""

WHOLE = 2**22
"""Bytes of the first read of a file that is read whole."""

KEPT_BLOCK = 2**20
"""Bytes of a read that are kept while the file is open: headers, records and pages."""

LAS, JSON = "LAS file", "JSON document"
EPT = "ept.json"
"""The document in the folder of an EPT."""


@dataclass(frozen=True)
class PointPlace:
    """Where a file is and how it may be asked for, as `geoml.io.stac.bands.BandSpec` has it for rasters."""

    href: str
    """Without a signature, since files keep it; see `geoml.io.stores.signed`."""
    sign: str | None = None
    remote: bool = False
    root: str | None = None
    keys: bool = True


class PointBytes(Protocol):
    """A file that is read by range; its methods raise errors of ours."""

    @property
    def size(self) -> int:
        """Bytes of the file."""

    @property
    def version(self) -> tuple[int, str]:
        """What changes when the file does."""

    def read(self, start: int, count: int) -> bytes:
        """``count`` bytes from ``start``, fewer at the end of the file."""

    def read_all(self, ranges: Sequence[tuple[int, int]], spare: int = 0) -> list[bytes]:
        """As `read` for many (start, stop), near ones in one request; ``spare`` bytes between them may be read too."""


class LocalBytes:
    """A file of this machine."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            stat = path.stat()
        except OSError as err:
            raise DataError(f"cannot be read ({err.strerror})") from err
        self.size, self.version = stat.st_size, (stat.st_size, str(stat.st_mtime_ns))

    def read(self, start: int, count: int) -> bytes:
        try:
            with self._path.open("rb") as file:
                file.seek(start)
                return file.read(max(0, min(count, self.size - start)))
        except OSError as err:
            raise DataError(f"cannot be read ({err.strerror})") from err

    def read_all(self, ranges: Sequence[tuple[int, int]], spare: int = 0) -> list[bytes]:
        return [self.read(start, stop - start) for start, stop in ranges]


class MemoryBytes:
    """A file that is here already."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self.size, self.version = len(content), (len(content), "")

    def read(self, start: int, count: int) -> bytes:
        return self._content[start : start + max(0, count)]

    def read_all(self, ranges: Sequence[tuple[int, int]], spare: int = 0) -> list[bytes]:
        return [self._content[start:stop] for start, stop in ranges]


class RemoteBytes:
    """A file elsewhere: what is asked for and no more; what was read of it once is not asked for again."""

    def __init__(self, file: RemoteFile, head: int) -> None:
        self._file = file
        self._blocks: list[tuple[int, bytes]] = []
        if not file.version:
            self._blocks += [(0, self._ranges([(0, head)], 0)[0])]
            check_head(self._blocks[0][1], file.kind)

    @property
    def version(self) -> tuple[int, str]:
        return self._file.version or (0, "")

    @property
    def size(self) -> int:
        return self._file.size

    def read(self, start: int, count: int) -> bytes:
        stop = max(start, min(start + count, self.size))
        if (body := self._at_hand(start, stop)) is not None:
            return body
        known = next((body[start - low :] for low, body in self._blocks if low <= start < low + len(body)), b"")
        body = known + self._ranges([(start + len(known), stop)], 0)[0]
        if len(body) <= KEPT_BLOCK:
            self._blocks.append((start, body))
        return body

    def read_all(self, ranges: Sequence[tuple[int, int]], spare: int = 0) -> list[bytes]:
        wanted = [(start, min(stop, self.size)) for start, stop in ranges]
        found = {span: self._at_hand(*span) for span in wanted}
        missing = [span for span in wanted if found[span] is None]
        if missing:
            found |= dict(zip(missing, self._ranges(missing, spare), strict=True))
        return [found[span] or b"" for span in wanted]

    def _at_hand(self, start: int, stop: int) -> bytes | None:
        if start >= stop:
            return b""
        blocks = ((low, body) for low, body in self._blocks if low <= start and stop <= low + len(body))
        return next((body[start - low : stop - low] for low, body in blocks), None)

    def _ranges(self, wanted: Sequence[tuple[int, int]], spare: int) -> list[bytes]:
        self._file.until = _until()  # each read has its time; a large file takes many
        parts = self._file.read_all(wanted, spare)
        if self._file.failure is not None:
            raise self._file.failure
        for (start, stop), part in zip(wanted, parts, strict=True):
            if len(part) != min(stop, self.size) - start:
                raise DataError(f"{len(part)} bytes for bytes {start}-{stop - 1}")
        return parts


def is_ept(href: str) -> bool:
    """Whether an href is that of an EPT, by its name."""
    return PurePosixPath(href.split("?")[0]).name == EPT


def using_points(place: PointPlace, action: Callable[[PointBytes], T], kind: str = LAS, head: int = HEAD) -> T:
    """``action`` on the file of a place, of which ``head`` bytes are asked for first.

    A signature that is refused is renewed once.

    Raises InputError for an href that is not allowed, TransientError if a server still fails after
    ``settings().retries`` tries or the file changed meanwhile, DataError for what trying again does not mend; all name
    the file.
    """
    for fresh in (False, True):
        try:
            return action(_opened(place, kind, fresh, head))
        except Denied as err:
            if fresh or place.sign is None:
                raise _named(place.href, err) from err
        except GeomlError as err:
            raise _named(place.href, err) from err
    raise AssertionError("unreachable")


def _opened(place: PointPlace, kind: str, fresh: bool, head: int) -> PointBytes:
    if place.sign:
        href = sign_href(place.href, place.sign, fresh=fresh)
    else:
        href = place.href if place.remote else signed(place.href, "points")
    path = gdal_path(href, remote=place.remote, root=Path(place.root) if place.root else None)
    if "://" not in path:
        return LocalBytes(Path(path))
    return RemoteBytes(remote_file(place.href, path, _until(), keys=place.keys, kind=kind), head)


def _until() -> float:
    return time.monotonic() + 4 * settings().timeout


def _named(href: str, err: GeomlError) -> GeomlError:
    """The error with the file in front, once."""
    name, text = redact(href), str(err)
    if isinstance(err, InputError) and text.startswith("href: "):
        return err
    return type(err)(text if text.startswith(name) else f"{name}: {text}")
