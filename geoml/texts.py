"""Untrusted text in messages, logs and terminals: it moves no cursor, begins no line, and lists are short."""

from __future__ import annotations

from collections.abc import Iterable

MOST = 10
"""Entries of a list that a message shows."""

LONGEST = 400
"""Characters of one of them."""


def plain(text: object) -> str:
    """``text`` in one line: line ends, control characters and those that turn the direction of writing are escaped."""
    text = str(text)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def short(text: object, longest: int = LONGEST) -> str:
    """``text``, cut with an ellipsis where it is longer."""
    text = str(text)
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def listed(words: Iterable[object], none: str = "none", *, joined: str = ", ", most: int = MOST) -> str:
    """The first ``most`` of a list and how many more there are; ``none`` for an empty one."""
    entries = [short(w) for w in words]
    more = f"{joined.rstrip()} … and {len(entries) - most} more" if len(entries) > most else ""
    return f"{joined.join(entries[:most])}{more}" or none


def percent(share: float) -> str:
    """A share from 0 to 1 in percent, with one decimal."""
    return f"{100 * share:.1f} %"


def text_of(value: object) -> str:
    """A property as recipes write it: a whole number is one also where its column has gaps."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
