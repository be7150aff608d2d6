"""The terminal of the commands: words of others begin no line, are no markup, move no cursor and show no secret."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.text import Text

from geoml.redacted import redact
from geoml.texts import plain


class Terminal(Console):
    """A console that takes texts as they are: one line each, without markup, control characters and secrets of URLs.

    What is meant to look otherwise is a `rich.text.Text` of ours.
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


def word(text: object, style: str = "") -> Text:
    """A word of others as a text that nothing obeys, in a style of ours."""
    return Text(plain(redact(str(text))), style)
