"""SIGTERM and Ctrl-C end a run cleanly, and in any case in time."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

GRACE_SECONDS = 8.0
"""Seconds from the signal to the end of the process, whatever it waits for then."""
RESEND_SECONDS = 0.01
"""Seconds until a signal is sent again whose exception was raised where none can leave, such as a finaliser."""


@contextmanager
def graceful_shutdown() -> Iterator[None]:
    """Inside, SIGTERM raises SystemExit(143) in the main thread, as Ctrl-C raises KeyboardInterrupt.

    So a run unwinds: finished blocks are published, half of one is thrown away, the lock is released. What cannot be
    unwound in time (a read that hangs, a chip of an hour) ends with the process after `GRACE_SECONDS`, and a second
    Ctrl-C ends it at once; since files appear whole or not at all, nothing is half-written then either.

    Outside of the main thread, or where the program has a handler of its own, signals are left alone.
    """
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    interrupt = signal.getsignal(signal.SIGINT)
    takes_interrupt = interrupt is signal.default_int_handler
    timers: list[threading.Timer] = []
    lost: list[int] = []
    default_hook = sys.unraisablehook

    def stop(number: int, frame: FrameType | None) -> None:
        if lost:
            lost.clear()
        elif timers:
            if number == signal.SIGINT:
                os._exit(128 + number)
            return
        else:
            timers.append(exit_after(GRACE_SECONDS, 128 + number))
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + number)

    def resend(unraisable: sys.UnraisableHookArgs) -> None:
        if not timers or not isinstance(unraisable.exc_value, SystemExit | KeyboardInterrupt):
            default_hook(unraisable)
            return
        number = signal.SIGINT if isinstance(unraisable.exc_value, KeyboardInterrupt) else signal.SIGTERM
        lost.append(number)
        threading.Timer(RESEND_SECONDS, os.kill, [os.getpid(), number]).start()

    signal.signal(signal.SIGTERM, stop)
    if takes_interrupt:
        signal.signal(signal.SIGINT, stop)
    sys.unraisablehook = resend
    try:
        yield
    except KeyboardInterrupt:
        for timer in timers:  # who catches it, such as a notebook, lives on
            timer.cancel()
        raise
    finally:
        sys.unraisablehook = default_hook
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if takes_interrupt:
            signal.signal(signal.SIGINT, interrupt)


def exit_after(seconds: float, code: int) -> threading.Timer:
    """End the process with ``code`` after ``seconds``, also when its threads do not end."""
    timer = threading.Timer(seconds, os._exit, [code])
    timer.daemon = True
    timer.start()
    return timer
