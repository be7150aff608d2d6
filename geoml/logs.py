"""Log lines that name their run, block and item, in every thread that works on them.

`guard` makes every record of the process one line: untrusted ids and hrefs forge no line, move no cursor and show no
secret.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from typing import Any, ParamSpec, TypeVar

from geoml.redacted import clean
from geoml.texts import plain

P = ParamSpec("P")
T = TypeVar("T")

FORMAT = "%(levelname)s %(about)s%(message)s"

_about: ContextVar[Mapping[str, str] | None] = ContextVar("geoml_about", default=None)


@contextmanager
def about(**ids: str) -> Iterator[None]:
    """Lines logged inside carry ``run=…``, ``block=…``, ``item=…``; inner ids come on top of the outer ones."""
    token = _about.set({**(_about.get() or {}), **ids})
    try:
        yield
    finally:
        _about.reset(token)


class Context(logging.Filter):
    """Puts the ids of `about` into ``record.about``: each with its name and a space behind it, or nothing."""

    def filter(self, record: logging.LogRecord) -> bool:
        ids = _about.get() or {}
        # an id comes from a catalog: what would break the line is shown escaped
        record.about = "".join(f"{k}={v if v.isprintable() else ascii(v)} " for k, v in ids.items())
        return True


class Threads(ThreadPoolExecutor):
    """A pool whose threads work in the context of the caller, so that their lines carry the same ids."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        return super().submit(copy_context().run, fn, *args, **kwargs)  # type: ignore[arg-type]


class Line(logging.LogRecord):
    """A record whose message is one line without secrets, for every handler; a traceback is indented below it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if isinstance(self.exc_info, tuple) and self.exc_info[1] is not None:
            lines = "".join(traceback.format_exception(self.exc_info[1])).rstrip().split("\n")
            self.exc_text = "\n".join(f"  {plain(clean(line))}" for line in lines)

    def getMessage(self) -> str:
        return plain(clean(super().getMessage()))


def guard() -> None:
    """Make every record of this process a `Line`, whoever logs it and wherever it is shown."""
    logging.setLogRecordFactory(Line)


def setup(level: int) -> None:
    """Log to standard error, with ids and `guard`. Does nothing more where logging is set up already."""
    guard()
    logging.basicConfig(level=level, format=FORMAT)
    for handler in logging.getLogger().handlers:
        if handler.formatter is not None and handler.formatter._fmt == FORMAT and not handler.filters:
            handler.addFilter(Context())
