"""Prefetch: values are made in a thread while earlier ones are worked on."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from contextvars import copy_context
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

JOIN_SECONDS = 1.0
"""Seconds to wait at the end for a thread that hangs in a read."""
POLL_SECONDS = 0.1
"""Seconds between checks of a thread with a full queue whether it should end."""


@dataclass(frozen=True)
class _Failed:
    error: BaseException


def prefetch(values: Iterable[T], depth: int, name: str) -> Generator[T, None, None]:
    """The same values in order; at most ``depth`` wait in a queue. An error is raised instead of its value.

    Close the generator when not all are needed: the thread, called ``name``, ends after the value it works on.
    """
    ready: queue.Queue[tuple[T | _Failed] | None] = queue.Queue(depth)
    stop = threading.Event()

    def put(entry: tuple[T | _Failed] | None) -> bool:
        while not stop.is_set():
            try:
                ready.put(entry, timeout=POLL_SECONDS)
            except queue.Full:
                continue
            return True
        return False

    def make() -> None:
        try:
            for value in values:
                if not put((value,)):
                    return
                del value  # it may be large, and the next one is made now
            put(None)
        except BaseException as err:  # for the thread that can act on it
            put((_Failed(err),))

    thread = threading.Thread(target=copy_context().run, args=(make,), name=name, daemon=True)
    thread.start()
    try:
        while (entry := ready.get()) is not None:
            if isinstance(entry[0], _Failed):
                raise entry[0].error
            yield entry[0]
    finally:
        stop.set()
        thread.join(JOIN_SECONDS)


def attempts(action: Callable[[T], R], values: Iterable[T]) -> Iterator[tuple[T, R | BaseException]]:
    """Each value with the result of the action, or with the error that it raised; no error ends the others."""

    def attempt(value: T) -> R | BaseException:
        try:
            return action(value)
        except BaseException as err:
            return err

    return ((value, attempt(value)) for value in values)
