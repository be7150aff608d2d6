"""Values made ahead: in a thread, while the last ones are worked on."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from contextvars import copy_context
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

HANGING = 1.0
"""Seconds that the end waits for a thread that hangs in a read."""
TURN = 0.1
"""Seconds until a thread with nowhere to put its value looks whether it should end."""


@dataclass(frozen=True)
class _Failed:
    error: BaseException


def ahead(values: Iterable[T], depth: int, name: str) -> Generator[T, None, None]:
    """The same values in order; at most ``depth`` wait for who asks. An error comes out in the place of its value.

    Close the generator when not all are wanted: the thread, called ``name``, ends after the value it works on.
    """
    line: queue.Queue[tuple[T | _Failed] | None] = queue.Queue(depth)
    stop = threading.Event()

    def put(entry: tuple[T | _Failed] | None) -> bool:
        while not stop.is_set():
            try:
                line.put(entry, timeout=TURN)
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
        while (entry := line.get()) is not None:
            if isinstance(entry[0], _Failed):
                raise entry[0].error
            yield entry[0]
    finally:
        stop.set()
        thread.join(HANGING)


def tried(action: Callable[[T], R], values: Iterable[T]) -> Iterator[tuple[T, R | BaseException]]:
    """Each value with what the action makes of it, or with the error that it raised; one that fails ends nothing."""

    def attempt(value: T) -> R | BaseException:
        try:
            return action(value)
        except BaseException as err:
            return err

    return ((value, attempt(value)) for value in values)
