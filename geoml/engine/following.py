"""The protocol of an output whose features keep their ids over the days of a series."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar, runtime_checkable

if TYPE_CHECKING:
    import pystac

    from geoml.engine.run.plan import Plan
    from geoml.vector.tracks import Histories

H = TypeVar("H", bound="Histories")


@dataclass(frozen=True)
class FollowedDay:
    """The run of a day of a series, whose features are followed from those of the days before."""

    day: str
    plan: Plan
    done: frozenset[str]
    """Ids of the blocks that are done."""
    items: Sequence[pystac.Item]
    """Of these blocks."""
    fetch: Callable[[str], Path]
    """A file of the run by its name, from its bucket where it lies in one."""


@runtime_checkable
class Follower(Protocol[H]):
    """How the features of a series are followed from day to day: rows of histories, which hold what is needed."""

    @property
    def warning(self) -> str:
        """What a reader of the histories has to know; mostly empty."""
        ...

    def empty(self) -> H:
        """Nothing yet."""
        ...

    def look(self, before: H, day: FollowedDay) -> tuple[H, Sequence[str]]:
        """What is known after a day, and the id of each row of its ``features.parquet``. Raises DataError."""
        ...

    def read(self, path: Path) -> H:
        """What `write` wrote. Raises DataError."""
        ...

    def write(self, rows: H, path: Path) -> None:
        """Write histories as GeoParquet, atomically: those of ``rows``, in one order. Raises DataError."""
        ...
