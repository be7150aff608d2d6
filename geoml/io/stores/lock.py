"""One driver at a time for a run: a small file or object that its holder renews, that others take over when it dies.

Nothing is trusted to a clock alone. A holder on this machine whose process is gone is dead; one elsewhere
counts as dead when its lock is older than the lease *and* does not change while it is watched. The time of one from
the future says nothing about its age, so it is watched for the lease as well. Watching goes by our own monotonic clock.
"""

from __future__ import annotations

import datetime as dt
import errno
import fcntl
import json
import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Protocol, TypeVar

from geoml.errors import DataError, GeomlError, TransientError
from geoml.io.stores.bucket import Bucket, ObjectInfo
from geoml.io.stores.store import atomic, os_failure, read_small
from geoml.settings import settings

Tag = TypeVar("Tag")

log = logging.getLogger(__name__)

NAME = ".geoml/lock.json"
"""Of the lock, in the folder of a run."""

LARGEST = 2**16
"""Bytes; a larger file or object is not a lock."""

WATCHED = 0.5
"""Leases that a lock older than the lease may stay as it is until its holder counts as dead."""

_TEXT = 256
"""Characters of a field of a lock."""

_lost: set[str] = set()


@dataclass(frozen=True)
class Holder:
    """Who works on a run. Times are UTC, RFC 3339."""

    host: str
    pid: int
    started: str
    renewed: str
    token: str
    machine: str = ""
    """The boot and the process namespace in which ``pid`` means something."""
    born: str = ""
    """When the process began, in the kernel's words; another process may get the same pid later."""

    @property
    def age(self) -> float:
        """Seconds since it was renewed, by the clocks of both machines: below zero where theirs is ahead of ours."""
        return (_now() - _time(self.renewed)).total_seconds()

    @property
    def late(self) -> bool:
        """Not renewed for longer than the lease, or so far in the future that it is not a sign of life either."""
        return abs(self.age) > settings().lease

    @property
    def gone(self) -> bool:
        """The process was on this machine and is no more."""
        return bool(self.machine) and self.machine == _machine() and self.born != _born(self.pid)

    @property
    def alive(self) -> bool:
        """As far as one read of the lock can tell."""
        return not (self.gone or self.late)


class Slot(Protocol[Tag]):
    """The place of a lock. A tag stands for one state of its content."""

    def read(self) -> tuple[bytes, Tag] | None:
        """Content and tag; None if there is none."""

    def write(self, body: bytes, tag: Tag | None) -> Tag | None:
        """Replace the content that has ``tag`` (None: nothing is there); the new tag, or None when it has another."""

    def delete(self, tag: Tag) -> None:
        """Delete it if it still has ``tag``."""


class FileSlot:
    """A file. The folder is flocked while it changes, so that of two who take over only one does."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> tuple[bytes, bytes] | None:
        body = read_small(self.path, LARGEST)
        return None if body is None else (body, body)

    def write(self, body: bytes, tag: bytes | None) -> bytes | None:
        with self._exclusive() as folder:
            if tag is None:
                try:
                    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
                    handle = os.open(self.path.name, flags, 0o644, dir_fd=folder)
                except FileExistsError:
                    self.read()  # raises where it is not a file at all
                    return None
                try:
                    os.write(handle, body)
                except OSError:  # a full disk: half a lock would hold up the next one
                    os.unlink(self.path.name, dir_fd=folder)
                    raise
                finally:
                    os.close(handle)
                return body
            if (now := self.read()) is None or now[1] != tag:
                return None
            with atomic(self.path) as temporary:
                temporary.write_bytes(body)
            return body

    def delete(self, tag: bytes) -> None:
        with self._exclusive():
            if (now := self.read()) is not None and now[1] == tag:
                self.path.unlink(missing_ok=True)
                for stale in self.path.parent.glob(f".{self.path.name}.*.part"):  # of one that was killed in `write`
                    stale.unlink(missing_ok=True)

    @contextmanager
    def _exclusive(self) -> Iterator[int]:
        """An open handle of the folder, which nobody else changes meanwhile. A link in its place is not followed."""
        folder = self.path.parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # the folder of a run may be a link that its user made; the one inside of it that holds the lock may not
            nofollow = os.O_NOFOLLOW if self.path.match(NAME) else 0
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | nofollow)
            try:
                self._flock(handle)
                yield handle
            finally:
                os.close(handle)
        except OSError as err:
            if err.errno in (errno.ELOOP, errno.ENOTDIR, errno.EEXIST) and folder.is_symlink():
                raise DataError(f"{folder}: a symbolic link, not written through; expected a folder") from err
            raise os_failure(self.path, err) from err

    def _flock(self, handle: int) -> None:
        """Wait for the folder, but not forever. Raises TransientError."""
        ends = time.monotonic() + settings().timeout
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as err:
                if time.monotonic() > ends:
                    raise TransientError(f"{self.path.parent}: another program keeps it locked (flock)") from err
                time.sleep(0.01)
            except OSError:  # a file system without it: creation stays exclusive all the same
                return
            else:
                return


class ObjectSlot:
    """An object, changed by conditional writes (``If-None-Match: *``, ``If-Match``)."""

    def __init__(self, bucket: Bucket) -> None:
        self.bucket = bucket

    def read(self) -> tuple[bytes, ObjectInfo] | None:
        return self.bucket.get(NAME, LARGEST)

    def write(self, body: bytes, tag: ObjectInfo | None) -> ObjectInfo | None:
        put = self.bucket.put(NAME, body, tag)
        if put is None and (now := self.read()) is not None and now[0] == body:
            return now[1]  # it was ours: the answer to the first try was lost and the second found it done
        return put

    def delete(self, tag: ObjectInfo) -> None:
        if (now := self.read()) is not None and now[1].tag == tag.tag:  # no store deletes on a condition
            self.bucket.delete(NAME)


@contextmanager
def hold_lock(slot: Slot[Tag], url: str) -> Iterator[Holder]:
    """Hold the lock of the run at ``url`` inside; a thread renews it.

    Raises TransientError, saying who, when another one holds it. After a kill the lock stays: it is taken over at
    once on the same machine, after the lease and half a lease of watching elsewhere.
    """
    me, tag = _acquire(slot, url)
    stop = threading.Event()
    keeper = threading.Thread(target=_renew, args=(slot, url, me, tag, stop), name="geoml-lock", daemon=True)
    keeper.start()
    try:
        yield me
    finally:
        stop.set()
        keeper.join(settings().timeout)
        _lost.discard(url)
        try:
            if (now := slot.read()) is not None and (who := parse_holder(now[0])) is not None and who.token == me.token:
                slot.delete(now[1])
        except GeomlError as err:  # it ends by itself; this must not hide how the run went
            log.warning("out: the lock of %s is left behind (%s)", url, err)


def check_held(url: str) -> None:
    """Raises TransientError if this process held the lock of ``url`` and has lost it."""
    if url in _lost:
        raise TransientError(f"out: {url} was taken over by another process while this one did not answer; stopped")


def parse_holder(body: bytes) -> Holder | None:
    """The holder that a lock names; None for one that is not whole, or that no geoml wrote."""
    try:
        value = json.loads(body)
        stated = {f.name: value[f.name] for f in fields(Holder) if f.name in value}
        holder = Holder(**stated)
        _time(holder.renewed), _time(holder.started)
    except (ValueError, TypeError, LookupError, ArithmeticError, RecursionError):
        return None
    words = [v for k, v in stated.items() if k != "pid"]
    good = all(isinstance(w, str) and len(w) <= _TEXT and w.isprintable() for w in words)
    return holder if good and type(holder.pid) is int and 0 < holder.pid < 2**31 else None


def _acquire(slot: Slot[Tag], url: str) -> tuple[Holder, Tag]:
    stamp = _now().isoformat()
    pid = os.getpid()
    me = Holder(socket.gethostname(), pid, stamp, stamp, secrets.token_hex(8), _machine(), _born(pid))
    for _ in range(8):
        lock = slot.read()
        if lock is not None:
            _wait_until_dead(slot, lock, url)
        tag = slot.write(_body(me), None if lock is None else lock[1])
        if tag is not None:
            return me, tag
    raise TransientError(f"out: {url}: its lock keeps changing hands")


def _wait_until_dead(slot: Slot[Tag], lock: tuple[bytes, Tag], url: str) -> None:
    """Return when the holder of ``lock`` is dead. Raises TransientError if it is alive."""
    holder = parse_holder(lock[0])
    if holder is not None and holder.gone:
        log.info("out: %s: taken over from pid %d, which is gone", url, holder.pid)
        return
    lease = settings().lease
    if holder is not None and 0 <= holder.age <= lease:
        raise _held_error(holder, url)
    # clocks differ, and half of a lock may be one that is just being written: what lives will change. Where a clock
    # says that the lease is over, the rest is watched; where it is ahead of ours, or there is none, the lease too
    ends = time.monotonic() + lease * (WATCHED if holder is not None and holder.age > lease else 1 + WATCHED)
    while time.monotonic() < ends:
        time.sleep(lease / 20)
        now = slot.read()
        if now is None:
            return
        if now[0] != lock[0]:
            raise _held_error(parse_holder(now[0]), url)
    log.warning("out: %s: taken over from %s, which no longer renews its lock", url, _name(holder))


def _held_error(holder: Holder | None, url: str) -> TransientError:
    return TransientError(f"out: {url} is being worked on by {_name(holder)}; wait for it, or stop it")


def _renew(slot: Slot[Tag], url: str, me: Holder, tag: Tag, stop: threading.Event) -> None:
    last = time.monotonic()
    while not stop.wait(settings().lease / 4):
        try:
            me = replace(me, renewed=_now().isoformat())
            new = slot.write(_body(me), tag)
            if (
                new is None
                and (now := slot.read()) is not None
                and (who := parse_holder(now[0]))
                and who.token == me.token
            ):
                new = now[1]  # an earlier try came through though its answer did not
            if new is not None:
                tag, last = new, time.monotonic()
                continue
        except Exception as err:
            if time.monotonic() - last < settings().lease:
                log.warning("out: the lock of %s is not renewed (%s)", url, err)
                continue
        _lost.add(url)
        log.error("out: the lock of %s is lost", url)
        return


def _name(holder: Holder | None) -> str:
    return "another process" if holder is None else f"pid {holder.pid} on {holder.host} since {holder.started[:19]}Z"


def _body(holder: Holder) -> bytes:
    return (json.dumps(asdict(holder), sort_keys=True) + "\n").encode()


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def _time(text: str) -> dt.datetime:
    time = dt.datetime.fromisoformat(text)
    return time if time.tzinfo else time.replace(tzinfo=dt.UTC)


def _machine() -> str:
    """This boot and process namespace; a container has pids of its own, whatever its host name."""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}/{os.readlink('/proc/self/ns/pid')}"  # noqa: PTH115
    return ""


def _born(pid: int) -> str:
    """When process ``pid`` began; empty when it is gone (a zombie is)."""
    try:
        rest = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if rest[0] in "ZX" else rest[19]
