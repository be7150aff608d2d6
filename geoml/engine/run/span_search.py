"""Spans of days in a catalog, searched one after the other; a span without items does not end the search."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import pystac

from geoml.engine.run.scan_record import Span
from geoml.errors import NothingFound


@dataclass
class SpanSearch:
    """``search`` returns the items of an RFC 3339 interval, at most ``limit``, or raises NothingFound."""

    search: Callable[[str], list[pystac.Item]]
    limit: int | None = None
    items: list[pystac.Item] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)
    whole: list[Span] = field(default_factory=list)
    """Spans of which all items came: an item that is absent was withdrawn, and not cut off by the limit."""
    left_out: dict[str, str] = field(default_factory=dict)
    """Unusable items of spans without a usable one, and why."""
    nothing: NothingFound | None = None
    """The error of the first span without items."""

    def add(self, spans: Iterable[Span]) -> None:
        """Search further spans. Raises what ``search`` raises, but NothingFound."""
        for first, last in spans:
            items: list[pystac.Item] = []
            try:
                items = self.search(f"{first}/{last}")
            except NothingFound as err:
                self.nothing = self.nothing or err
                self.left_out |= err.left_out
            self.items += items
            self.spans.append((first, last))
            if self.limit is None or len(items) < self.limit:
                self.whole.append((first, last))
