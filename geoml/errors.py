"""The error table: one class for each party that must act, with the exit code of the command.

Every message is one line, without control characters and without secrets from URLs, whatever ids and hrefs it has.
"""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType

from geoml.redacted import redact
from geoml.texts import listed, plain, short


class GeomlError(Exception):
    """Base of every error that geoml raises on purpose."""

    exit_code = 1
    left_out: Mapping[str, str] = MappingProxyType({})
    """Items that were left out until none was left, and why, by id."""

    def __init__(self, *args: object) -> None:
        super().__init__(*(plain(redact(a)) if isinstance(a, str) else a for a in args))


class InputError(GeomlError, ValueError):
    """The request is wrong: the message names the field and what is expected."""

    exit_code = 2


class NothingFound(GeomlError):
    """No items or no coverage; a flow ends as skipped."""

    exit_code = 3


class DataError(GeomlError):
    """A source is broken: the message names item, asset and window. Fails its block, not the run."""

    exit_code = 4
    values: Mapping[object, str] = MappingProxyType({})
    """Of labels that no class explains, each with a file that holds it."""


class TransientError(GeomlError):
    """Try again later; the only class that is retried."""

    exit_code = 5
    retry_after = 0.0
    """Seconds that a server has asked to wait."""


class ModelError(GeomlError):
    """Model and data disagree, weights are damaged, or the output is not finite."""

    exit_code = 6


class MissingExtra(GeomlError, ImportError):
    """An optional dependency is missing: the message names the extra to install."""

    exit_code = 7


@contextmanager
def needs(extra: str, what: str) -> Iterator[None]:
    """Import inside what the optional dependencies ``extra`` install: MissingExtra if they are missing."""
    try:
        yield
    except MissingExtra:
        raise
    except ImportError as err:
        raise MissingExtra(f"{what}: {err.name or err} is not installed; pip install 'geoml[{extra}]'") from err


def unknown(kind: str, name: str, known: Iterable[str]) -> InputError:
    """An ``InputError`` for a misspelt name, with the nearest known one."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
    hint = f"did you mean {short(near[0])!r}?" if near else f"known: {listed(names)}"
    return InputError(f"{kind}: {short(name)!r} is not known; {hint}")


_NO_ROOM = (
    "DefaultCPUAllocator",
    "std::bad_alloc",
    "out of memory",
    "Cannot allocate memory",
    "can't start new thread",
)
"""In messages of torch, GDAL and Python, whose exceptions have no class of their own for it."""


def out_of_memory(err: BaseException | None) -> bool:
    """Whether ``err`` or its cause reports a lack of memory: in numpy, pyarrow, torch, GDAL or the kernel."""
    for _ in range(8):
        if err is None:
            return False
        kinds = {kind.__name__ for kind in type(err).__mro__}
        if (
            isinstance(err, MemoryError)
            or (isinstance(err, OSError) and err.errno == errno.ENOMEM)
            or kinds & {"OutOfMemoryError", "CPLE_OutOfMemoryError"}  # torch's and rasterio's; nothing is imported here
            or (isinstance(err, RuntimeError) and any(word in str(err) for word in _NO_ROOM))
        ):
            return True
        err = err.__cause__
    return False


@contextmanager
def limits(what: str) -> Iterator[None]:
    """Turn a lack of memory or a name that is too long, wherever it occurs inside, into an error that names ``what``.

    A failed allocation is a TransientError, even if it caused another error: the data are not to blame. A name that no
    file can have is an InputError.
    """
    try:
        yield
    except TransientError:
        raise
    except Exception as err:
        if isinstance(err, OSError) and err.errno == errno.ENAMETOOLONG:
            raise InputError(f"{what}: {too_long(err.filename)}") from err
        if not out_of_memory(err):
            raise
        why = str(err).partition("\n")[0][:200] or type(err).__name__
        raise TransientError(
            f"{what}: not enough memory ({why}); free some, or use smaller blocks (--block-size) or fewer GEOML_THREADS"
        ) from err


def too_long(name: object) -> str:
    """Why ``name`` cannot be one of a file, cut to what a message can hold."""
    text = str(name)
    return f"{text[:200]}…{text[-40:]}: the name is too long ({len(text)} characters); expected a shorter one"
