"""Words of others in messages, logs and terminals: nothing moves a cursor or begins a line, and no list is endless."""

from __future__ import annotations

from collections.abc import Iterable

MOST = 10
"""Entries of a list that a message shows."""

LONGEST = 400
"""Characters of one of them."""


def plain(text: object) -> str:
    """``text`` in one line: line ends, control characters and those that turn the direction of writing are escaped."""
    said = str(text)
    if said.isprintable():
        return said
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in said)


def short(text: object, longest: int = LONGEST) -> str:
    """``text``, cut with an ellipsis where it is longer."""
    said = str(text)
    return said if len(said) <= longest else f"{said[: longest - 1]}…"


def listed(words: Iterable[object], none: str = "none", *, joined: str = ", ", most: int = MOST) -> str:
    """The first ``most`` of a list and how many more there are; ``none`` for an empty one."""
    known = [short(w) for w in words]
    more = f"{joined.rstrip()} … and {len(known) - most} more" if len(known) > most else ""
    return f"{joined.join(known[:most])}{more}" or none
