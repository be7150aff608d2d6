"""Remote files, worked on locally: runs in an object store, and models, catalogs and regions by URL.

A run in a bucket has a working copy in the scratch folder, so that all code works on files. `RunStore.push` publishes
what is finished, `RunStore.pull` fetches what another machine published; the bucket is the truth, and the working copy
may be lost at any time.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, BinaryIO, TypeVar

from geoml.errors import DataError, GeomlError, InputError, TransientError
from geoml.io.stores.bucket import Bucket, ObjectInfo, endpoint, is_bucket
from geoml.io.stores.hrefs import check_host, check_url, origin, redact, scheme
from geoml.io.stores.lock import LARGEST as LARGEST_LOCK
from geoml.io.stores.lock import NAME, FileSlot, Holder, ObjectSlot, check_held, hold_lock, parse_holder
from geoml.io.stores.scratch import scratch
from geoml.io.stores.signed import signed
from geoml.io.stores.store import SMALL, atomic, read_small, sha256, within, write_text

if TYPE_CHECKING:
    from geoml.io.stores import web

T = TypeVar("T")
R = TypeVar("R")

LARGEST = 2**40
"""Bytes; a larger object is not fetched."""

AT_ONCE = 8
"""Requests in flight."""

MANY = 64
"""From so many blocks on, one listing of the run is cheaper than one for each block."""


@dataclass(frozen=True)
class RunStore:
    """The folder of a run: ``url`` as it was named, ``local`` where files are made, ``bucket`` if they go elsewhere."""

    url: str
    local: Path
    bucket: Bucket | None = None

    @property
    def remote(self) -> bool:
        return self.bucket is not None

    def push(self, *names: str) -> None:
        """Publish files and folders of ``local``, in the order given; each is whole before the next one starts.

        A file is visible under its name whole or not at all. Raises TransientError if the store does not take it,
        and when this process has lost the run's lock; DataError for a file that is not there.
        """
        check_held(self.url)
        if self.bucket is None:
            return
        for name in names:
            path = self.local / name
            files = sorted(_files(path)) if path.is_dir() else [path]
            _parallel(self._push, [f.relative_to(self.local).as_posix() for f in files])

    def pull(self, *names: str) -> None:
        """Make files and whole folders (``items/``) of the working copy equal to those of the store.

        What the store does not have is deleted here. Only for the holder of the run, or for one's own blocks: in a
        folder that another process writes to, use `sizes` and `read`.
        """
        if self.bucket is None:
            return
        objects: list[tuple[str, ObjectInfo | None]] = []
        for name in names:
            if not name.endswith("/"):
                objects.append((name, None))
                continue
            listing = self.bucket.list(name)
            objects += listing.items()
            for path in _files(self.inside(f"{name}any").parent):
                if path.relative_to(self.local).as_posix() not in listing:
                    path.unlink(missing_ok=True)
        _parallel(self._pull, objects)

    def remove(self, *names: str) -> None:
        """Take files away, here and in the store; nothing happens to those that are not there."""
        for name in names:
            self.inside(name).unlink(missing_ok=True)
            if self.bucket is not None:
                if (tag := self._tags / name).is_file():  # where a folder takes its name, as in a series
                    tag.unlink()
                self.bucket.delete(name)

    def read(self, name: str, limit: int = SMALL) -> bytes | None:
        """What is published under a name, not passing through the working copy; None when there is nothing."""
        if self.bucket is not None:
            answer = self.bucket.get(name, limit)
            return None if answer is None else answer[0]
        return read_small(self.local / name, limit)

    def inside(self, name: str) -> Path:
        """Where a file of the run is to be written here. Raises DataError, see `geoml.io.stores.store.within`."""
        return within(self.local, name)

    def sizes(self, *folders: str) -> dict[str, int]:
        """Bytes of every published file below ``folders`` (none: all), by name."""
        if self.bucket is not None:
            listings = [self.bucket.list(folder) for folder in folders or ("",)]
            return {name: info.size for listing in listings for name, info in listing.items()}
        files = [path for folder in folders or ("",) for path in _files(self.local / folder)]
        return {path.relative_to(self.local).as_posix(): path.stat().st_size for path in files}

    def empty(self) -> bool:
        """True when nothing is published, whoever did it."""
        if self.bucket is not None:
            return self.bucket.empty()
        return not self.local.is_dir() or not any(self.local.iterdir())

    def blocks(self, ids: Sequence[str] | None = None) -> Callable[[str], int | None]:
        """The size of a published file of blocks ``ids`` (None: all) by its name, None when it is not there.

        A bucket is listed once, now, and the items of these blocks are pulled.
        """
        if self.bucket is None:
            return self._size
        if ids is not None and len(ids) <= MANY:
            self.pull(*(f"items/{key}.json" for key in ids))
            parts = [f".geoml/parts/{key}.parquet" for key in ids]
            heads = zip(parts, _parallel(self.bucket.head, parts), strict=True)
            folders = _parallel(self.bucket.list, [f"cogs/{key}/" for key in ids])
            sizes = {name: info.size for folder in folders for name, info in folder.items()}
            return (sizes | {name: info.size for name, info in heads if info}).get
        self.pull("items/")
        return self.sizes("cogs/", ".geoml/parts/").get

    @contextmanager
    def fetched(self, files: Mapping[str, tuple[int | None, str | None]]) -> Iterator[None]:
        """While this lasts, ``files`` (name: bytes and SHA-256) are in the working copy.

        What is missing or has another content is fetched, and deleted at the end.
        """
        missing = [] if self.bucket is None else [n for n, what in files.items() if not _matches(self.local / n, *what)]
        try:
            _parallel(self._pull, [(name, None) for name in missing])
            yield
        finally:
            for name in missing:  # the folder stays: that a block has one is counted
                with suppress(OSError):
                    (self.local / name).unlink(missing_ok=True)

    def free(self, folder: str) -> None:
        """Delete a folder of the working copy; nothing happens to a run that lies on this machine."""
        if self.remote:
            for path in (self.local / folder, self._tags / folder):
                shutil.rmtree(path, ignore_errors=True)

    def lock(self) -> AbstractContextManager[Holder]:
        """One driver at a time; see `geoml.io.stores.lock.hold_lock`."""
        if self.bucket is None:
            return hold_lock(FileSlot(self.local / NAME), self.url)
        return hold_lock(ObjectSlot(self.bucket), self.url)

    def holder(self) -> Holder | None:
        """Who works on the run, by one read of its lock; None when nobody does."""
        body = self.read(NAME, LARGEST_LOCK)
        return None if body is None else parse_holder(body)

    def _size(self, name: str) -> int | None:
        try:
            status = (self.local / name).stat()
        except OSError:
            return None
        return status.st_size if stat.S_ISREG(status.st_mode) else None

    def _push(self, name: str) -> None:
        assert self.bucket is not None
        self._write_tag(name, self.bucket.upload(self.local / name, name))

    def _pull(self, named: tuple[str, ObjectInfo | None]) -> None:
        """Fetch the object of a name, unless the file is a copy of it already; with what a listing says of it."""
        assert self.bucket is not None
        name, listed = named
        path, tag = self.inside(name), self._read_tag(name)
        if listed is not None and tag is not None and tag == listed.tag:
            return
        info = self.bucket.download(name, path, LARGEST, tag)
        if info is None:
            path.unlink(missing_ok=True)
        else:
            self._write_tag(name, info)

    def _write_tag(self, name: str, info: ObjectInfo) -> None:
        """Write down which object the file is a copy of, as long as nobody writes to it."""
        if info.tag:
            now = (self.local / name).stat()
            write_text(within(self.local.parent, f"tags/{name}"), f"{now.st_size} {now.st_mtime_ns} {info.tag}")

    def _read_tag(self, name: str) -> str | None:
        """The tag of the object that the file is an unchanged copy of."""
        try:
            now = (self.local / name).stat()
            size, time, tag = (read_small(self._tags / name, 2**16) or b"").decode().split(" ", 2)
            return tag if (now.st_size, now.st_mtime_ns) == (int(size), int(time)) else None
        except (OSError, ValueError, DataError):
            return None

    @property
    def _tags(self) -> Path:
        return self.local.parent / "tags"


def run_store(out: str | Path | RunStore) -> RunStore:
    """The folder of a run by its path or URL; no request is sent. Raises InputError for a URL of another kind."""
    if isinstance(out, RunStore):
        return out
    if isinstance(out, Path) or "://" not in out:
        if re.match(r"[a-z][a-z0-9]*:/", str(out)):  # what pathlib makes of a URL
            raise InputError(f"out: {str(out)!r}; give a URL as text, not as a Path")
        return RunStore(str(out), Path(out))
    check_url(out, "out")
    if not is_bucket(out):
        raise InputError(f"out: {redact(out)!r}; expected a folder, or s3://bucket/prefix (gs://, az://)")
    bucket = Bucket(out)
    return RunStore(bucket.url, scratch("runs", _digest(bucket.url), "run"), bucket)


def is_url(text: object) -> bool:
    """True for what `fetch` takes."""
    return scheme(text) in ("https", "http") or is_bucket(text)


def fetch(url: str, what: str, limit: int, *, guarded: bool = False) -> Path:
    """A copy of the file at an s3, gs, az, https or http URL, in the scratch folder.

    The host and port of a URL that the user wrote may be private; ``guarded`` URLs come from elsewhere, so theirs may
    not. Files of one folder lie in one folder. A copy whose tag is still that of the store is not fetched again. Raises
    InputError if there is no such file or no access (``what`` is the field that names it), DataError for more than
    ``limit`` bytes, TransientError if nobody answers.
    """
    check_url(url, what)
    url = signed(url, what)
    home, name = url.partition("?")[0].rsplit("/", 1)
    if not name or name in (".", ".."):
        raise InputError(f"{what}: {redact(url)!r} names no file")
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,200}", name):
        name = f"{_digest(name)}{PurePosixPath(name).suffix[:12]}"
    path = scratch("files", _digest(home), "run") / name
    if not is_bucket(url):
        from geoml.io.stores import web

        web.retried(lambda: _download(url, path, what, limit, guarded))
        return path
    bucket = Bucket(home, what)
    store = RunStore(home, path.parent, bucket)
    info = bucket.download(url.rsplit("/", 1)[1], path, limit, store._read_tag(name))
    if info is None:
        raise InputError(f"{what}: {redact(url)}: not found")
    store._write_tag(name, info)
    return path


def read(url: str, what: str, limit: int) -> bytes:
    """A small object of a bucket. Raises InputError, DataError and TransientError if `fetch` does."""
    home, name = url.rsplit("/", 1)
    answer = Bucket(home, what).get(name, limit)
    if answer is None:
        raise InputError(f"{what}: {redact(url)}: not found")
    return answer[0]


def _download(url: str, path: Path, what: str, limit: int, guarded: bool) -> None:
    """Fetch over HTTP into a file, once."""
    from geoml.io.stores import web

    with atomic(path) as temporary, temporary.open("wb") as file:
        answer = follow(url, what, limit, file, guarded=guarded)
        if answer.status in web.RETRIED:
            raise web.busy_error(answer)
        if answer.status != 200:
            kind = "not found" if answer.status in (404, 410) else "access refused or no file"
            raise InputError(f"{what}: {redact(url)}: {kind} (HTTP {answer.status})")
        if answer.size > limit:
            raise DataError(f"{redact(url)}: more than {limit} bytes")
        length = answer.headers.get("Content-Length", "")
        if length.isdigit() and "Content-Encoding" not in answer.headers and int(length) != answer.size:
            raise TransientError(f"{redact(url)}: {answer.size} of {length} bytes came")


def follow(url: str, what: str, limit: int, into: BinaryIO, *, guarded: bool = False) -> web.Answer:
    """The answer after redirects, asked for once; the body of HTTP 200 goes to ``into``.

    None may lead to a private address but on the host and port that the user named; see `fetch` for ``guarded``. Raises
    DataError for a redirect that leads elsewhere, and what `geoml.io.stores.web.fetch` raises.
    """
    from geoml.io.stores import web

    location, trusted = url, None if guarded else origin(url)
    for _ in range(web.MAX_HOPS + 1):
        checked = origin(location) != trusted
        if checked:
            try:
                check_host(origin(location)[0], redact(location))
            except InputError as err:
                raise DataError(f"{what}: {redact(url)} leads to a URL that geoml does not follow: {err}") from err
        answer = web.fetch("GET", location, cap=limit, into=into, guarded=checked)
        if (target := web.redirect_target(answer)) is None:
            return answer
        location = target
    raise DataError(f"{what}: {redact(url)}: too many redirects")


def _digest(url: str) -> str:
    """A folder name for a URL; the same URL at another endpoint is another place."""
    return hashlib.sha256(f"{endpoint() or ''} {url}".encode()).hexdigest()[:20]


def _files(folder: Path) -> Iterator[Path]:
    """Files below a folder, without those that are being written."""
    if folder.is_dir():
        yield from (p for p in folder.rglob("*") if p.is_file() and not (p.name[:1] == "." and p.suffix == ".part"))


def _matches(path: Path, size: int | None, digest: str | None) -> bool:
    try:
        return size is not None and path.stat().st_size == size and sha256(path) == digest
    except (OSError, GeomlError):
        return False


def _parallel(do: Callable[[T], R], things: Sequence[T]) -> list[R]:
    """``do`` for all ``things``, `AT_ONCE` at a time; the results in order. The first error ends it."""
    if len(things) <= 1:
        return [do(thing) for thing in things]
    with ThreadPoolExecutor(min(AT_ONCE, len(things)), "geoml-store") as pool:
        return list(pool.map(do, things))
