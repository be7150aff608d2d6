"""The terminal of the commands: untrusted text begins no line, is not markup, moves no cursor and shows no secret."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.text import Text

from geoml.redacted import redact
from geoml.texts import plain


class Terminal(Console):
    """A console that takes texts as they are: one line each, without markup, control characters and secrets of URLs.

    Text with a style is a `rich.text.Text`.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"markup": False, "emoji": False, **options})

    def print(self, *objects: Any, **options: Any) -> None:
        """A sentence is one line however long, so that its words cannot choose where a line begins."""
        sentence = all(isinstance(thing, str | Text) for thing in objects)
        super().print(*objects, **{"soft_wrap": sentence or None, **options})

    def render_str(self, text: str, **options: Any) -> Text:
        """Every text that is printed, also as a cell, a column or a title of a table."""
        return super().render_str(plain(redact(text)), **options)


def escaped(text: object, style: str = "") -> Text:
    """Untrusted text, escaped, in a style."""
    return Text(plain(redact(str(text))), style)
