"""Log lines that say which run, block and item they are about, in every thread that works on them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from typing import ParamSpec, TypeVar

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
    """A pool whose threads work in the context of who submits, so that their lines carry the same ids."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        return super().submit(copy_context().run, fn, *args, **kwargs)  # type: ignore[arg-type]


def setup(level: int) -> None:
    """Log to standard error, with ids. Does nothing where logging is set up already."""
    logging.basicConfig(level=level, format=FORMAT)
    for handler in logging.getLogger().handlers:
        if handler.formatter is not None and handler.formatter._fmt == FORMAT and not handler.filters:
            handler.addFilter(Context())
