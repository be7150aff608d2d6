"""The error table: one class for each party that has to act, with the exit code of the command.

Every message is one line without control characters and without secrets of URLs, whatever ids and hrefs are in it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from geoml.redacted import redact
from geoml.texts import listed, plain, short


class GeomlError(Exception):
    """Base of every error that geoml raises on purpose."""

    exit_code = 1

    def __init__(self, *args: object) -> None:
        super().__init__(*(plain(redact(a)) if isinstance(a, str) else a for a in args))


class InputError(GeomlError, ValueError):
    """Asked wrongly: the message names the field and what would be right."""

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


class ModelError(GeomlError):
    """Model and data disagree, weights are damaged, or the output is not finite."""

    exit_code = 6


class MissingExtra(GeomlError, ImportError):
    """An optional dependency is absent: the message names the extra to install."""

    exit_code = 7


def unknown(kind: str, name: str, known: Iterable[str]) -> InputError:
    """An ``InputError`` for a misspelt name, with the nearest known one."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
    hint = f"did you mean {short(near[0])!r}?" if near else f"known: {listed(names)}"
    return InputError(f"{kind}: {short(name)!r} is not known; {hint}")
