"""Spans of days in a catalog, searched one after the other; a span without items is none that ends the look."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import pystac

from geoml.engine.run.looked import Span
from geoml.errors import NothingFound


@dataclass
class Searched:
    """``ask`` gives the items of an RFC 3339 interval and raises NothingFound; ``limit`` is what it gives at most."""

    ask: Callable[[str], list[pystac.Item]]
    limit: int | None = None
    items: list[pystac.Item] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)
    whole: list[Span] = field(default_factory=list)
    """Spans of which all items were given: an item that is not there is withdrawn, and not cut off."""
    left_out: dict[str, str] = field(default_factory=dict)
    """Items of spans in which nothing was found that cannot be used, and why."""
    nothing: NothingFound | None = None
    """What the first span without items said."""

    def add(self, spans: Iterable[Span]) -> None:
        """Search further spans. Raises what ``ask`` raises, but NothingFound."""
        for first, last in spans:
            found: list[pystac.Item] = []
            try:
                found = self.ask(f"{first}/{last}")
            except NothingFound as err:
                self.nothing = self.nothing or err
                self.left_out |= err.left_out
            self.items += found
            self.spans.append((first, last))
            if self.limit is None or len(found) < self.limit:
                self.whole.append((first, last))
