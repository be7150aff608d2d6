"""What the driver of a run asks of its workers, and what they tell it."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from geoml.engine.run.blocks import Tally

STOPPING = 6.0
"""Seconds that workers have to publish what is finished once they are told to stop."""


@dataclass(frozen=True)
class Died:
    """A worker ended with a batch in its hands; ``reason`` completes "the process …"."""

    reason: str


News = tuple[Hashable, "Tally | Died | BaseException"]


class Crew(Protocol):
    """Workers by name. As a context manager it lets them finish; left by an exception it stops them in order."""

    def idle(self) -> Sequence[Hashable]:
        """Workers that could take a batch now. Raises TransientError when there have been none for too long."""
        ...

    def give(self, worker: Hashable, ids: Sequence[str]) -> None:
        """Start a batch on an idle worker."""
        ...

    def news(self) -> Sequence[News]:
        """What became of batches, after waiting for some of it for a moment; each worker named is idle or gone."""
        ...
