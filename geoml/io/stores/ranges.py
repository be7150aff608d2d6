"""A file elsewhere as something that GDAL can read: every range is checked before its bytes are believed.

GDAL's own client follows redirects to any address, takes a short or wrong body of an uncompressed file for zeros, does
not notice that a file changed between two requests, and waits longer than its timeout; that for S3 lacks the same
checks. Here each answer has to be HTTP 206 with the range that was asked for, of a file of the same size and tag
(ETag, else Last-Modified) as before.
"""

from __future__ import annotations

import itertools
import os
import re
import threading
import time
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from operator import itemgetter
from typing import Protocol, Self, TypeVar
from urllib.parse import urlsplit

from rasterio.abc import MultiByteRangeResourceContainer

from geoml.errors import DataError, GeomlError, InputError, TransientError
from geoml.io.stores.bucket import Bucket, is_bucket, public_url
from geoml.io.stores.hrefs import gdal_path, redact
from geoml.io.stores.web import CONNECTIONS, MAX_HOPS, RETRIED, Answer, back_off, busy_error, fetch, redirect_target
from geoml.settings import settings

T = TypeVar("T")

PAGE = 2**15
"""Bytes of a page. Small reads (headers) come from pages, which are kept; tiles are fetched as they are."""

PAGES = 1024
"""Pages kept in this process, so that a file that is opened for the next block costs no request."""

FILES = 4096
"""Files of which size and tag are kept."""

GAP = 2**12
"""Ranges nearer to each other than this are one request."""

LARGEST = 2**22
"""Bytes of one request."""

_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")
MAGICS = {
    "TIFF": (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+", b"\x00\x00\x00\x0cjP  ", b"\xff\x4f\xff\x51"),
    "LAS file": (b"LASF",),
    "VRT": (b"<VRTDataset",),
    "JSON document": (b"{", b"\xef\xbb\xbf", b" ", b"\t", b"\r", b"\n"),
}
"""What each kind of file begins with; a JPEG 2000 passes for a TIFF, as both are rasters."""


class Denied(DataError):
    """HTTP 401 or 403: a fresh signature may be all it needs."""


class Changed(TransientError):
    """The file is not the one that was opened; start again from its header."""


def check_head(head: bytes, kind: str) -> None:
    """Raises DataError unless a file begins as one of a kind of `MAGICS` does."""
    if not head.startswith(MAGICS[kind]):
        raise DataError(f"not a {kind}, it starts with {head[:40]!r}")


def is_raster(head: bytes) -> bool:
    """Whether a file begins like a TIFF or a JPEG 2000."""
    return head.startswith(MAGICS["TIFF"])


@dataclass
class _FileInfo:
    """What a server says of a file: size in bytes, tag, and where its redirects lead (None: there are none)."""

    size: int
    tag: str
    location: str | None


class _Cache:
    """Pages, and the size and tag of files, by href as it stands in the item (without signature)."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._files: OrderedDict[str, _FileInfo] = OrderedDict()
        self._pages: OrderedDict[tuple[str, int], bytes] = OrderedDict()

    def file(self, href: str) -> _FileInfo | None:
        with self._lock:
            return self._files.get(href)

    def add_file(self, href: str, info: _FileInfo) -> None:
        with self._lock:
            self._files[href] = info
            while len(self._files) > FILES:
                self._files.popitem(last=False)

    def page(self, href: str, number: int) -> bytes | None:
        with self._lock:
            if (content := self._pages.get((href, number))) is not None:
                self._pages.move_to_end((href, number))
            return content

    def add_page(self, href: str, number: int, content: bytes) -> None:
        with self._lock:
            self._pages[href, number] = content
            while len(self._pages) > PAGES:
                self._pages.popitem(last=False)

    def forget(self, href: str) -> None:
        with self._lock:
            self._files.pop(href, None)
            for key in [k for k in self._pages if k[0] == href]:
                del self._pages[key]


_cache = _Cache()
_numbers = itertools.count()


@lru_cache(maxsize=1)
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="geoml-ranges")


os.register_at_fork(after_in_child=_pool.cache_clear)  # threads do not follow into a forked process


class RemoteFile(ABC):
    """One file for one `rasterio.open`; not for two threads at once.

    ``href`` names the file in memory, ``until`` is the end of all tries (``time.monotonic``). GDAL cannot be told why
    a read failed: the first error stays in ``failure``, which readers must check also when GDAL is content.
    """

    def __init__(self, href: str, until: float, tries: int, kind: str) -> None:
        self.kind = kind
        self.failure: GeomlError | None = None
        self._tries = tries
        self.name = f"geoml-{next(_numbers)}{'.jp2' if urlsplit(href).path.lower().endswith('.jp2') else '.tif'}"
        self._href, self.until = href, until
        self._opened: _FileInfo | None = None  # the file must stay this one

    @abstractmethod
    def _request(self, start: int, stop: int, info: _FileInfo | None) -> tuple[bytes, _FileInfo]:
        """One try for bytes ``start`` … ``stop`` (or to the end), all of them, and what the answer says of the file."""

    @property
    def opener(self) -> MultiByteRangeResourceContainer:
        """What `rasterio.open` takes as ``opener``, with ``name`` as its path."""
        return Container({self.name: self})

    def forget(self) -> None:
        """Request everything of this file again."""
        _cache.forget(self._href)

    def check(self) -> None:
        """Read the head, unless it is cached. Raises ``failure``; DataError if it is not one of the ``kind``."""
        head = self._guarded(lambda: self._page(0), b"")
        self._guarded(lambda: check_head(head, self.kind), None)
        if self.failure is not None:
            raise self.failure

    @property
    def label(self) -> str:
        """How errors name the file."""
        return redact(self._href)

    @property
    def size(self) -> int:
        return self._opened.size if self._opened else 0

    @property
    def version(self) -> tuple[int, str] | None:
        """Size and tag of the file; None as long as this process has not asked for it."""
        self._opened = self._opened or _cache.file(self._href)
        return (self._opened.size, self._opened.tag) if self._opened else None

    def read(self, start: int, count: int) -> bytes:
        """``count`` bytes from ``start``, fewer at the end of the file; none after a failure.

        Never raises: see ``failure`` (TransientError after all tries, Denied, Changed, or DataError).
        """
        return self._guarded(lambda: self._read(start, min(start + count, self.size)), b"")

    def read_all(self, ranges: Sequence[tuple[int, int]], spare: int | None = None) -> list[bytes]:
        """As `read` for many (start, stop), at the same time; neighbours in one request.

        ``spare``: bytes between them that may be read too, of the smallest gaps; None: all gaps up to `GAP`.
        """
        return self._guarded(lambda: self._read_all(ranges, spare), [b""] * len(ranges))

    def _guarded(self, action: Callable[[], T], otherwise: T) -> T:
        if self.failure is not None:
            return otherwise
        try:
            return action()
        except GeomlError as err:
            self.failure = self.failure or err
        except Exception as err:  # must not reach GDAL's C code
            self.failure = self.failure or DataError(f"{redact(self._href)}: {type(err).__name__}: {err}")
        return otherwise

    def _read(self, start: int, stop: int) -> bytes:
        if stop <= start:
            return b""
        if stop - start > PAGE // 2 and (start // PAGE or stop > PAGE):
            return self._range(start, stop)
        pages = range(start // PAGE, (stop - 1) // PAGE + 1)
        whole = b"".join(self._page(number) for number in pages)
        return whole[start - pages[0] * PAGE : stop - pages[0] * PAGE]

    def _page(self, number: int) -> bytes:
        self._opened = self._opened or _cache.file(self._href)
        if self._opened and (page := _cache.page(self._href, number)) is not None:
            return page
        content = self._range(number * PAGE, (number + 1) * PAGE)
        _cache.add_page(self._href, number, content)
        return content

    def _read_all(self, ranges: Sequence[tuple[int, int]], spare: int | None) -> list[bytes]:
        jobs = merged(ranges, GAP if spare is None else widest(ranges, spare))
        bodies = [self._range(*job) for job in jobs] if len(jobs) == 1 else _pool().map(lambda j: self._range(*j), jobs)
        parts = []
        by_job = dict(zip(jobs, bodies, strict=True))
        for start, stop in ranges:
            low, _ = job = jobs[bisect_right(jobs, start, key=itemgetter(0)) - 1]
            parts.append(by_job[job][start - low : stop - low])
        return parts

    def _range(self, start: int, stop: int) -> bytes:
        """Bytes of the file, with as many tries as the settings and the time allow."""
        if self.failure is not None:
            raise self.failure  # of another range: nobody needs this one any more
        for attempt in range(self._tries):
            try:
                return self._once(start, stop)
            except Changed:
                raise
            except TransientError as err:
                if attempt + 1 == self._tries or time.monotonic() > self.until:
                    self.failure = TransientError(f"{err}; bytes {start}-{stop - 1}, {attempt + 1} tries")
                    raise self.failure from err
                back_off(attempt, err)
        raise AssertionError("unreachable")

    def _once(self, start: int, stop: int) -> bytes:
        cached = _cache.file(self._href)
        if cached is None:
            _cache.forget(self._href)  # pages of who knows which version
        body, now = self._request(start, stop, cached)
        opened = self._opened = self._opened or cached or now
        if (now.size, now.tag) != (opened.size, opened.tag):
            _cache.forget(self._href)
            raise Changed(f"{redact(self._href)}: the file changed while it was read")
        _cache.add_file(self._href, now)
        return body


class WebFile(RemoteFile):
    """A file on a web server; ``url`` is what to ask for now (signed)."""

    def __init__(self, href: str, url: str, until: float, kind: str = "TIFF") -> None:
        super().__init__(href, until, settings().retries + 1, kind)
        self._url = url

    def _request(self, start: int, stop: int, info: _FileInfo | None) -> tuple[bytes, _FileInfo]:
        location = info.location if info else None
        answer = self._hops(location or self._url, start, stop)
        if location and answer.status in (401, 403, 404, 410):  # where it led is often signed for a short time
            answer = self._hops(self._url, start, stop)
        body, size = _checked(answer, start, stop, self.kind)
        tag = answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""
        return body, _FileInfo(size, tag, answer.url if answer.url != self._url else None)

    def _hops(self, url: str, start: int, stop: int) -> Answer:
        """The answer to a range request after redirects, each of which has to be allowed as the href was."""
        headers = {"Range": f"bytes={start}-{stop - 1}", "Accept-Encoding": "identity"}
        for _ in range(MAX_HOPS + 1):
            answer = fetch("GET", url, cap=stop - start, headers=headers)
            if (location := redirect_target(answer)) is None:
                return answer
            before, url = url, location
            try:
                gdal_path(url, remote=True)
            except InputError as err:
                raise DataError(f"{redact(before)} redirects to a URL that geoml does not follow: {err}") from err
        raise DataError(f"{redact(self._href)}: more than {MAX_HOPS} redirects")


class BucketFile(RemoteFile):
    """An object of ``s3://``, ``gs://`` or ``az://``; obstore compares each answer with the range, and tries again."""

    def __init__(self, href: str, until: float, kind: str = "TIFF") -> None:
        super().__init__(href, until, 2, kind)  # obstore counts its own
        scheme, _, path = href.partition("://")
        bucket, _, self._key = path.partition("/")
        self._bucket = _bucket(f"{scheme}://{bucket}")

    def _request(self, start: int, stop: int, info: _FileInfo | None) -> tuple[bytes, _FileInfo]:
        body, state = self._bucket.part(self._key, start, stop)
        if len(body) != min(stop, state.size) - start:
            raise TransientError(f"{self._href}: {len(body)} bytes for bytes {start}-{stop - 1}")
        return body, _FileInfo(state.size, state.tag or "", None)


def remote_file(href: str, url: str, until: float, *, keys: bool = True, kind: str = "TIFF") -> RemoteFile:
    """The file of an ``href`` that is to be asked for as ``url`` now, until the time ``until``; a kind of `MAGICS`.

    Without ``keys`` an object is read as anybody could, over https from its store's public endpoint. Raises InputError
    where it has none.
    """
    if not is_bucket(url):
        return WebFile(href, url, until, kind)
    if keys:
        return BucketFile(url, until, kind)
    public = public_url(url)
    return WebFile(public, public, until, kind)


@lru_cache(maxsize=64)
def _bucket(url: str) -> Bucket:
    return Bucket(url, "href")


def widest(ranges: Sequence[tuple[int, int]], spare: int) -> int:
    """The widest gap such that all up to it are ``spare`` bytes together."""
    ordered = sorted(ranges)
    gaps = sorted(max(0, b[0] - a[1]) for a, b in itertools.pairwise(ordered))
    total = itertools.accumulate(gaps)
    return max((gap for gap, upto in zip(gaps, total, strict=True) if upto <= spare), default=0)


def forget(href: str) -> None:
    """Request everything of a file again."""
    _cache.forget(href)


def gaps_read(ranges: Sequence[tuple[int, int]], spare: int) -> int:
    """Bytes that `RemoteFile.read_all` reads between ``ranges``."""
    return sum(b - a for a, b in merged(ranges, widest(ranges, spare))) - sum(b - a for a, b in ranges)


def merged(ranges: Sequence[tuple[int, int]], gap: int) -> list[tuple[int, int]]:
    """Requests for ``ranges``, those in one that are no farther apart than ``gap``, up to `LARGEST` bytes."""
    jobs: list[tuple[int, int]] = []
    for start, stop in sorted(ranges):
        low, high = jobs[-1] if jobs else (start, -gap - 1)
        if start <= high + gap and (max(stop, high) - low <= LARGEST or stop <= high):
            jobs[-1] = low, max(stop, high)
        else:
            jobs.append((start, stop))
    return jobs


def _checked(answer: Answer, start: int, stop: int, kind: str) -> tuple[bytes, int]:
    """(the bytes, size of the file) of an answer. Raises TransientError, Denied or DataError for any other answer."""
    where, status, headers = redact(answer.url), answer.status, answer.headers
    if status in RETRIED:
        raise busy_error(answer)
    if status in (401, 403):
        raise Denied(f"{where}: HTTP {status}")
    if status == 416 and headers.get("Content-Range", "").endswith("*/0"):
        return b"", 0
    if status == 200 and start == 0 and answer.body:
        check_head(answer.body, kind)
    if status == 200:
        raise TransientError(f"{where}: the whole file (HTTP 200) instead of a range")
    if status != 206:
        raise DataError(f"{where}: HTTP {status}")
    match = _RANGE.fullmatch(headers.get("Content-Range", "").strip())
    low, high, size = (int(v) for v in match.groups()) if match else (-1, -1, -1)
    body = answer.body
    if low != start or high + 1 != min(stop, size) or len(body) != high + 1 - low or _encoded(headers):
        content_range = headers.get("Content-Range", "none")
        raise TransientError(f"{where}: {len(body)} bytes as {content_range!r} for bytes {start}-{stop - 1}")
    return body, size


def _encoded(headers: Mapping[str, str]) -> bool:
    return headers.get("Content-Encoding", "identity").lower() not in ("", "identity")


class Readable(Protocol):
    """What a `Container` holds, as `RemoteFile`."""

    failure: GeomlError | None

    @property
    def label(self) -> str: ...
    @property
    def size(self) -> int: ...
    def check(self) -> None: ...
    def read(self, start: int, count: int) -> bytes: ...
    def read_all(self, ranges: Sequence[tuple[int, int]]) -> list[bytes]: ...


class _Handle:
    """What GDAL holds: a place in a file."""

    def __init__(self, file: Readable) -> None:
        self._file, self._place = file, 0

    def read(self, count: int = -1) -> bytes:
        body = self._file.read(self._place, self._file.size - self._place if count < 0 else count)
        self._place += len(body)
        return body

    def seek(self, offset: int, whence: int = 0) -> int:
        self._place = offset + (0, self._place, self._file.size)[whence]
        return self._place

    def tell(self) -> int:
        return self._place

    def get_byte_ranges(self, offsets: Sequence[int], sizes: Sequence[int]) -> list[bytes]:
        """Raises nothing: a ``failure`` of the file where it ends before, as GDAL takes any bytes for the rest."""
        found = self._file.read_all([(o, o + n) for o, n in zip(offsets, sizes, strict=True)])
        if self._file.failure is None and any(len(b) < n for b, n in zip(found, sizes, strict=True)):
            self._file.failure = DataError(f"{self._file.label}: cut off, it ends at byte {self._file.size}")
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to close: connections are shared."""


class Container(MultiByteRangeResourceContainer):  # type: ignore[misc]  # rasterio has no types
    """A folder with a few files in it, by name: GDAL finds nothing beside them. A file is checked when it is opened."""

    def __init__(self, files: Mapping[str, Readable]) -> None:
        self._files = files

    def _file(self, path: str) -> Readable:
        file = self._files.get(path.rsplit("/", 1)[-1])
        if file is None:
            raise FileNotFoundError(path)
        try:
            file.check()
        except GeomlError as err:  # it stays in `failure`; none of ours must reach GDAL's C code
            raise FileNotFoundError(path) from err
        return file

    def open(self, path: str, mode: str = "r", **_: object) -> _Handle:
        return _Handle(self._file(path))

    def isfile(self, path: str) -> bool:
        return path.rsplit("/", 1)[-1] in self._files

    def isdir(self, path: str) -> bool:
        return not self.isfile(path)

    def ls(self, path: str) -> list[str]:
        return list(self._files)

    def mtime(self, path: str) -> int:
        return 0

    def rm(self, path: str) -> None:
        raise OSError("read only")

    def size(self, path: str) -> int:
        return self._file(path).size
