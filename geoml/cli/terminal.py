"""The terminal of the commands: untrusted text begins no line, is not markup, moves no cursor and shows no secret."""

from __future__ import annotations

from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from geoml.redacted import redact
from geoml.texts import plain

UNBOUND = 100_000
NAMES = 0.5
"""Of the width that names in the first column of a table have at most."""


class Terminal(Console):
    """A console that takes texts as they are: one line each, without markup, control characters and secrets of URLs.

    Text with a style is a `rich.text.Text`.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"markup": False, "emoji": False, **options})

    def print(self, *objects: Any, **options: Any) -> None:
        """A sentence is one line however long, so that its words cannot choose where a line begins."""
        sentence = all(isinstance(thing, str | Text) for thing in objects)
        for thing in objects:
            if isinstance(thing, Table):
                self._keep_whole(thing)
        super().print(*objects, **{"soft_wrap": sentence or None, **options})

    def _keep_whole(self, table: Table) -> None:
        """Fold cells instead of cutting them, but not names in the first column, which are typed, unless they are too
        long for that; without the blanks beside the cells where nothing has to be folded then."""
        for column in table.columns:
            column.overflow = "fold"
        for column in table.columns[:1]:
            longest = max((cell_len(plain(redact(str(cell)))) for cell in column.cells), default=0)
            column.no_wrap = longest <= self.width * NAMES
        if self._natural(table) > self.width:
            padding, table.padding = table.padding, 0
            if self._natural(table) > self.width:
                table.padding = padding

    def _natural(self, table: Table) -> int:
        """The width of a table without a fold."""
        return self.measure(table, options=self.options.update(width=UNBOUND)).maximum

    def render_str(self, text: str, **options: Any) -> Text:
        """Every text that is printed, also as a cell, a column or a title of a table."""
        return super().render_str(plain(redact(text)), **options)


def escaped(text: object, style: str = "") -> Text:
    """Untrusted text, escaped, in a style."""
    return Text(plain(redact(str(text))), style)
