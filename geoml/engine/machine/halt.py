"""SIGTERM and Ctrl-C end a run in order, and in any case in time."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

GRACE = 8.0
"""Seconds from the signal to the end of the process, whatever it waits for then."""
AGAIN = 0.01
"""Seconds until a signal is given again whose exception came where none can leave, such as a finaliser."""


@contextmanager
def halting() -> Iterator[None]:
    """Inside, SIGTERM raises SystemExit(143) in the main thread, as Ctrl-C raises KeyboardInterrupt.

    So a run unwinds: finished blocks are published, half of one is thrown away, the lock is released. What cannot be
    unwound in time (a read that hangs, a chip of an hour) ends with the process after `GRACE` seconds, and a second
    Ctrl-C ends it at once; since files appear whole or not at all, nothing is half-written then either.

    Outside of the main thread, or where the program has a handler of its own, signals are left alone.
    """
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    interrupt = signal.getsignal(signal.SIGINT)
    ours = interrupt is signal.default_int_handler
    clock: list[threading.Timer] = []
    lost: list[int] = []
    told = sys.unraisablehook

    def stop(number: int, frame: FrameType | None) -> None:
        if lost:
            lost.clear()
        elif clock:
            if number == signal.SIGINT:
                os._exit(128 + number)
            return
        else:
            clock.append(deadline(GRACE, 128 + number))
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + number)

    def swallowed(found: sys.UnraisableHookArgs) -> None:
        if not clock or not isinstance(found.exc_value, SystemExit | KeyboardInterrupt):
            told(found)
            return
        number = signal.SIGINT if isinstance(found.exc_value, KeyboardInterrupt) else signal.SIGTERM
        lost.append(number)
        threading.Timer(AGAIN, os.kill, [os.getpid(), number]).start()

    signal.signal(signal.SIGTERM, stop)
    if ours:
        signal.signal(signal.SIGINT, stop)
    sys.unraisablehook = swallowed
    try:
        yield
    except KeyboardInterrupt:
        for timer in clock:  # who catches it, such as a notebook, lives on
            timer.cancel()
        raise
    finally:
        sys.unraisablehook = told
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if ours:
            signal.signal(signal.SIGINT, interrupt)


def deadline(seconds: float, code: int) -> threading.Timer:
    """The process ends with ``code`` after ``seconds``, also when its threads do not."""

    timer = threading.Timer(seconds, os._exit, [code])
    timer.daemon = True
    timer.start()
    return timer
