"""Items of a search that cannot be used: left out, counted and named, or with ``strict`` an error."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

from geoml.errors import DataError, GeomlError
from geoml.texts import counted, short

_log = logging.getLogger(__name__)


@dataclass
class LeftOut:
    """``items``: id -> why. With ``strict`` the first reason is raised instead."""

    strict: bool = False
    items: dict[str, str] = field(default_factory=dict)
    first: GeomlError | None = None
    """The reason of the first one, for when none is left."""

    def add(self, name: object, why: GeomlError) -> None:
        """Leave out the item called ``name``. Raises ``why`` where nothing may be left out."""
        if self.strict:
            raise why
        key = str(name)[:200] if isinstance(name, str) and name else f"item {len(self.items) + 1} without an id"
        self.items.setdefault(key, str(why))
        self.first = self.first or why

    def update(self, other: LeftOut) -> None:
        """Add the items of ``other``."""
        self.items |= other.items
        self.first = self.first or other.first

    def warn(self, where: str) -> None:
        """Log one warning about all of them."""
        if self.items:
            _log.warning("%s: %s", where, summary(self.items))

    def none_left(self, where: str) -> GeomlError:
        """The error for when every item was left out, of the class of the first reason."""
        kind = type(self.first) if self.first else DataError
        one = len(self.items) == 1
        none = "the only item found cannot be used" if one else f"none of the {len(self.items)} items found can be used"
        message = f"{where}: {none}; {summary(self.items)}"
        return with_left_out(kind(message), self)


def with_left_out(error: GeomlError, left: LeftOut) -> GeomlError:
    """``error`` with the items that were left out, so that whoever has other items may go on."""
    error.left_out = dict(left.items)
    return error


def summary(left_out: Mapping[str, str]) -> str:
    """How many items were left out, and the first three with the reason, in one line."""
    first = "; ".join(short(why, 600) for why in list(left_out.values())[:3])
    more = f"; and {len(left_out) - 3} more" if len(left_out) > 3 else ""
    return f"{counted(len(left_out), 'item')} left out: {first}{more}"
