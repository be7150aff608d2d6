"""One driver at a time for a run: a small file or object that its holder renews, that others take over when it dies.

Nothing is trusted to a clock alone. A holder on this machine whose process is gone is known to be dead; one elsewhere
counts as dead when its lock is older than the lease *and* does not change while we watch it.
"""

from __future__ import annotations

import datetime as dt
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
from typing import Any, Protocol

from geoml.errors import DataError, GeomlError, TransientError
from geoml.io.bucket import Bucket, Found
from geoml.io.store import atomic
from geoml.settings import settings

log = logging.getLogger(__name__)

NAME = ".geoml/lock.json"
"""Of the lock, in the folder of a run."""

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
    def late(self) -> bool:
        """Not renewed for longer than the lease, by the clocks of both machines."""
        return (_now() - _time(self.renewed)).total_seconds() > settings().lease

    @property
    def gone(self) -> bool:
        """The process was on this machine and is no more."""
        return bool(self.machine) and self.machine == _machine() and self.born != _born(self.pid)

    @property
    def alive(self) -> bool:
        """As far as one look can tell."""
        return not (self.gone or self.late)


class Slot(Protocol):
    """The place of a lock. A tag stands for one state of its content."""

    def read(self) -> tuple[bytes, Any] | None:
        """Content and tag; None when there is none."""

    def write(self, body: bytes, tag: Any) -> Any:
        """Replace the content that has ``tag`` (None: nothing is there); the new tag, or None when it is not so."""

    def delete(self, tag: Any) -> None:
        """Take it away if it still has ``tag``."""


class FileSlot:
    """A file. The folder is flocked while it changes, so that of two who take over only one does."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> tuple[bytes, Any] | None:
        try:
            body = self.path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as err:
            raise DataError(f"{self.path}: not readable ({err})") from err
        return body, body

    def write(self, body: bytes, tag: Any) -> Any:
        with self._alone():
            if tag is None:
                try:
                    handle = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
                except FileExistsError:
                    return None
                try:
                    os.write(handle, body)
                finally:
                    os.close(handle)
                return body
            if (now := self.read()) is None or now[1] != tag:
                return None
            with atomic(self.path) as temporary:
                temporary.write_bytes(body)
            return body

    def delete(self, tag: Any) -> None:
        with self._alone():
            if (now := self.read()) is not None and now[1] == tag:
                self.path.unlink(missing_ok=True)
                for stale in self.path.parent.glob(f".{self.path.name}.*.part"):  # of one that was killed in `write`
                    stale.unlink(missing_ok=True)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.path.parent, os.O_RDONLY)
            try:
                with suppress(OSError):  # a file system without it: creation stays exclusive all the same
                    fcntl.flock(handle, fcntl.LOCK_EX)
                yield
            finally:
                os.close(handle)
        except OSError as err:
            raise DataError(f"{self.path}: not written ({err})") from err


class ObjectSlot:
    """An object, changed by conditional writes (``If-None-Match: *``, ``If-Match``)."""

    def __init__(self, bucket: Bucket, name: str = NAME) -> None:
        self.bucket, self.name = bucket, name

    def read(self) -> tuple[bytes, Any] | None:
        return self.bucket.get(self.name, 65536)

    def write(self, body: bytes, tag: Any) -> Any:
        put = self.bucket.put(self.name, body, tag)
        if put is None and (now := self.read()) is not None and now[0] == body:
            return now[1]  # it was ours: the answer to the first try was lost and the second found it done
        return put

    def delete(self, tag: Found) -> None:
        if (now := self.read()) is not None and now[1].tag == tag.tag:  # no store deletes on a condition
            self.bucket.delete(self.name)


@contextmanager
def hold(slot: Slot, url: str) -> Iterator[Holder]:
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
            if (now := slot.read()) is not None and (who := parse(now[0])) is not None and who.token == me.token:
                slot.delete(now[1])
        except GeomlError as err:  # it ends by itself; this must not hide how the run went
            log.warning("out: the lock of %s is left behind (%s)", url, err)


def check(url: str) -> None:
    """Raises TransientError when this process held the lock of ``url`` and has lost it."""
    if url in _lost:
        raise TransientError(f"out: {url} was taken over by another process while this one did not answer; stopped")


def parse(body: bytes) -> Holder | None:
    """The holder that a lock names; None for a lock that is not whole."""
    try:
        value = json.loads(body)
        known = {f.name: value[f.name] for f in fields(Holder) if f.name in value}
        holder = Holder(**known)
        _time(holder.renewed), _time(holder.started), int(holder.pid)
    except (ValueError, TypeError, LookupError, RecursionError):
        return None
    return holder


def _acquire(slot: Slot, url: str) -> tuple[Holder, Any]:
    stamp = _now().isoformat()
    pid = os.getpid()
    me = Holder(socket.gethostname(), pid, stamp, stamp, secrets.token_hex(8), _machine(), _born(pid))
    for _ in range(8):
        found = slot.read()
        if found is not None:
            _judge(slot, found, url)
        tag = slot.write(_body(me), None if found is None else found[1])
        if tag is not None:
            return me, tag
    raise TransientError(f"out: {url}: its lock changes hands all the time")


def _judge(slot: Slot, found: tuple[bytes, Any], url: str) -> None:
    """Come back when the lock that was ``found`` is dead. Raises TransientError when its holder is alive."""
    holder = parse(found[0])
    if holder is not None and holder.gone:
        log.info("out: %s: taken over from pid %d, which is gone", url, holder.pid)
        return
    if holder is None or holder.late:
        # clocks differ, and half of a lock may be one that is just being written: what lives will change
        ends = time.monotonic() + settings().lease * (0.5 if holder else 1.0)
        while time.monotonic() < ends:
            time.sleep(settings().lease / 20)
            now = slot.read()
            if now is None:
                return
            if now[0] != found[0]:
                holder = parse(now[0])
                break
        else:
            log.warning("out: %s: taken over from %s, who was silent", url, _name(holder))
            return
    raise TransientError(f"out: {url} is being worked on by {_name(holder)}; wait for it, or stop it")


def _renew(slot: Slot, url: str, me: Holder, tag: Any, stop: threading.Event) -> None:
    last = time.monotonic()
    while not stop.wait(settings().lease / 4):
        try:
            me = replace(me, renewed=_now().isoformat())
            new = slot.write(_body(me), tag)
            if new is None and (now := slot.read()) is not None and (who := parse(now[0])) and who.token == me.token:
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
    found = dt.datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=dt.UTC)


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
