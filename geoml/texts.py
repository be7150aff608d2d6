"""Untrusted text in messages, logs and terminals: it moves no cursor, begins no line, and lists are short."""

from __future__ import annotations

import re
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


def counted(number: int, noun: str, plural: str = "") -> str:
    """``1 block``, ``2 blocks``, ``1,234 classes`` where the ``plural`` is not with an s alone."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def percent(value: float | None, digits: int = 1, none: str = "–") -> str:
    """A share of 0 to 1 as ``37.2 %``, ``none`` for None. Rounding never makes all of what is not all, nor nothing of
    what is not nothing: those read ``>99.9 %`` and ``<0.1 %``. Skill, which may be negative, is only rounded."""
    if value is None:
        return none
    least = 10.0**-digits
    if value in (0.0, 1.0):
        return f"{100 * value:.0f} %"
    if 0 < 100 * value < least:
        return f"<{least:.{digits}f} %"
    if 100 - least < 100 * value < 100:
        return f">{100 - least:.{digits}f} %"
    return f"{100 * value:.{digits}f} %"


def text_of(value: object) -> str:
    """A property as recipes write it: a whole number is one also where its column has gaps."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def in_python(message: str) -> str:
    """A message with the options of a command as arguments: ``--out-of-domain warn`` is ``out_of_domain='warn'``."""
    said = re.sub(r"--out-of-domain (\w+)", r"out_of_domain='\1'", message)
    return re.sub(r"--([a-z][a-z-]*[a-z])", lambda option: f"{option[1].replace('-', '_')}=", said)
