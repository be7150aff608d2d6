"""The terminal of the commands: untrusted text begins no line, is not markup, moves no cursor and shows no secret."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console, RenderableType
from rich.measure import Measurement
from rich.table import Column, Table
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
            if isinstance(thing, Table) and thing.columns:
                self._fit(thing)
        super().print(*objects, **{"soft_wrap": sentence or None, **options})

    def _fit(self, table: Table) -> None:
        """Fold cells instead of cutting them, between words where these fit, if need be without the blanks beside the
        cells. Where they do not, the longest words are folded, but names in the first column, which are typed, only
        if they take more than half of the width.
        """
        for column in table.columns:
            column.overflow = "fold"
        words, lines = (list(n) for n in zip(*(self._widths(table, c) for c in table.columns), strict=True))
        edges = self._whole(table).maximum - sum(lines)
        blanks = edges - len(words) - 1
        if self.width - edges < sum(words) <= self.width - edges + blanks:
            table.padding, edges = 0, edges - blanks
        room = self.width - edges
        kept = words[0] if words[0] <= self.width * NAMES else 0
        most = max(words)
        while most > 1 and sum(min(n, most) for n in words) + max(0, kept - most) > room:
            most -= 1
        words = [max(min(n, most), kept if k == 0 else 0) for k, n in enumerate(words)]
        for column, width in zip(table.columns, _spread(words, lines, room), strict=True):
            column.width = width

    def _whole(self, thing: RenderableType) -> Measurement:
        """The width of a thing with and without folds."""
        return self.measure(thing, options=self.options.update(width=UNBOUND))

    def _widths(self, table: Table, column: Column) -> tuple[int, int]:
        """Of the longest word and the longest line of a column."""
        if column.width is not None:
            return column.width, column.width
        cells = [*([column.header] if table.show_header else ()), *column.cells]
        found = [self._whole(cell) for cell in cells] or [Measurement(1, 1)]
        most = max(1, *(m.maximum for m in found))
        return most if column.no_wrap else max(1, *(m.minimum for m in found)), most

    def render_str(self, text: str, **options: Any) -> Text:
        """Every text that is printed, also as a cell, a column or a title of a table."""
        return super().render_str(plain(redact(text)), **options)


def _spread(least: Sequence[int], most: Sequence[int], room: int) -> list[int]:
    """Widths from ``least`` to ``most`` that take ``room`` together, or less: small wishes are fulfilled first."""
    widths, left = list(least), room - sum(least)
    wishes = sorted(range(len(widths)), key=lambda k: most[k] - least[k])
    for done, k in enumerate(wishes):
        more = min(most[k] - least[k], -(-left // (len(wishes) - done)))
        widths[k] += more
        left -= more
    return widths


def escaped(text: object, style: str = "") -> Text:
    """Untrusted text, escaped, in a style."""
    return Text(plain(redact(str(text))), style)
