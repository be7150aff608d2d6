"""What long commands say when they are stopped or given again: what is kept, how to go on, or that all is done."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from geoml.cli.terminal import Terminal
from geoml.errors import GeomlError
from geoml.redacted import redact

TERMINATED = 143
"""Exit code after SIGTERM, see `geoml.engine.machine.shutdown`."""


@contextmanager
def resumable(out: str | Path, kept: Callable[[], str], last: Callable[[], Path] | None = None) -> Iterator[None]:
    """Around the work of a command that goes on where it was stopped.

    After Ctrl-C and SIGTERM a line on standard error says what ``out`` has ``kept``, and another what to type to go on.
    ``last`` gives the file that is written when all is done: where it was there before and is the same after the work,
    a line says that there was nothing to do.
    """
    before = _stamp(last)
    try:
        yield
    except (KeyboardInterrupt, SystemExit) as err:
        if isinstance(err, KeyboardInterrupt) or err.code == TERMINATED:
            console = Terminal(stderr=True)
            console.print(f"Stopped: {kept()}, kept in {out}", highlight=False)
            line = command_line()
            console.print(f"To resume: {line}", highlight=False)
            if redact(line) != line:
                console.print("A signature or password was left out of that line: give it again", highlight=False)
        raise
    if before is not None and before == _stamp(last):
        print_unchanged(out)


def print_unchanged(out: str | Path) -> None:
    """Say that a finished run was given again, on standard error."""
    Terminal(stderr=True).print(f"Nothing to do: {out} was finished before, and nothing was changed", highlight=False)


def command_line() -> str:
    """The words of this command, to be typed again."""
    return shlex.join(["geoml", *sys.argv[1:]])


def _stamp(last: Callable[[], Path] | None) -> tuple[int, int, int] | None:
    """What tells a file from one that was written in its place; None if there is none."""
    with suppress(OSError, GeomlError):  # what is wrong with the place is said by the work itself
        if last is not None:
            found = last().stat()
            return found.st_mtime_ns, found.st_ino, found.st_size
    return None
