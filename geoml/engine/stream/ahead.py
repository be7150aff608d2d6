"""Frames read ahead in a thread: so many wait for the model and no more.

When the queue is full the reader waits, or, of a live source, what has waited longest is dropped, which is said in its
place.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextvars import copy_context
from dataclasses import dataclass, replace

from geoml.engine.stream.frames import Frame, Unread

JOIN_SECONDS = 1.0
"""Seconds to wait at the end for a thread that hangs in a read."""
LOOK_SECONDS = 0.1
"""Between looks whether the stream was closed, while the thread waits."""


@dataclass(frozen=True, slots=True)
class Late:
    """A frame of a live source that the model was too late for."""

    index: int
    name: str
    time: float


Entry = Frame | Unread | Late


class Ahead:
    """An iterator over ``entries`` in their order, made in a thread; at most ``depth`` frames wait.

    ``live``: a frame that would wait behind ``depth`` others takes the place of the oldest, which becomes a `Late`.
    ``paced``: an entry comes when its ``time`` is due, counted from the first. An error of the source is raised in its
    place. Used as a context manager, which ends the thread.
    """

    def __init__(
        self, entries: Iterable[Frame | Unread | None], depth: int, *, live: bool = False, paced: bool = False
    ) -> None:
        self._entries, self._depth, self._live, self._paced = entries, depth, live, paced
        self._queue: deque[Entry] = deque()
        self._waiting = 0
        self._changed = threading.Condition()
        self._stopped = self._ended = False
        self._error: BaseException | None = None
        run = copy_context().run
        self._thread = threading.Thread(target=run, args=(self._fill,), name="geoml-frames", daemon=True)

    def __enter__(self) -> Ahead:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        self._thread.join(JOIN_SECONDS)

    def __iter__(self) -> Iterator[Entry]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue or self._ended)
                if not self._queue:
                    if self._error is not None:
                        raise self._error
                    return
                entry = self._queue.popleft()
                self._waiting -= isinstance(entry, Frame)
                self._changed.notify_all()
            yield entry
            del entry  # it may be large, and the next one is waited for

    def _fill(self) -> None:
        try:
            begun: tuple[float, float] | None = None
            for entry in self._entries:
                if self._stopped:
                    return
                if entry is None:
                    continue
                if self._paced:
                    begun = begun or (time.perf_counter(), entry.time)
                    entry = self._due(entry, begun[0] + entry.time - begun[1])
                self._put(entry)
        except BaseException as err:  # for the thread that can act on it
            self._error = err
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _due(self, entry: Frame | Unread, when: float) -> Frame | Unread:
        """The entry at its time, from which its latency counts."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopped, timeout=max(0.0, when - time.perf_counter()))
        return replace(entry, ready=time.perf_counter()) if isinstance(entry, Frame) else entry

    def _put(self, entry: Frame | Unread) -> None:
        with self._changed:
            if isinstance(entry, Frame):
                if self._live and self._waiting >= self._depth:
                    self._drop()
                self._changed.wait_for(lambda: self._stopped or self._waiting < self._depth)
                self._waiting += 1
            if not self._stopped:
                self._queue.append(entry)
                self._changed.notify_all()

    def _drop(self) -> None:
        """Make a `Late` of the frame that has waited longest: the first of those at the end of the queue."""
        left = self._waiting
        for at in range(len(self._queue) - 1, -1, -1):
            entry = self._queue[at]
            left -= isinstance(entry, Frame)
            if not left:
                self._queue[at] = Late(entry.index, entry.name, entry.time)
                self._waiting -= 1
                return
